"""fleet: background workers on your own servers.  The public names, and nothing else."""
