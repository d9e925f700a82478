"""Names of the groups that stand in for others while these are replaced."""

from __future__ import annotations

# Behind a group's name: no pipeline can be called so.
BESIDE = "~new"


def is_stand_in(group: str) -> bool:
    return group.endswith(BESIDE)


def stands_in_for(group: str) -> str:
    """The group whose work a temporary one does; any other group itself."""
    return group.removesuffix(BESIDE)
