"""Ours beside the raw limit of each server and beside the peers, in one run: ``python -m benchmarks``."""
