"""A handler that imports nothing, so that what is loaded beside it is the worker's own."""

import sys


def modules(job: object) -> None:
    with open("out", "a") as file:
        file.write(" ".join(sorted(sys.modules)) + "\n")
