"""One snapshot (all the I/O), pure views of it, and the live loop."""
