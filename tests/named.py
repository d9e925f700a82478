"""Tests by name, for the tables that say which test proves what."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

_ROOT = Path(__file__).parents[1]


@cache
def functions(path: str) -> set[str]:
    """The names of the functions in the file *path*, relative to the checkout."""
    tree = ast.parse((_ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
