"""Thin commands: arguments in, library calls, text and exit code out."""
