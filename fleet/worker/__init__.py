"""What each supervised process runs: the standard library, one driver, nothing else."""
