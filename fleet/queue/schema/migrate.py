"""Which versions of the tables exist, and the statements that lead from one to the next."""

from __future__ import annotations

from collections.abc import Iterable

from fleet.errors import NoTables, SchemaError

# The newest version this fleet writes, and the oldest it can still work with:
# a change is additive first, so that workers of two versions run side by side.
WANTED = 1
OLDEST = 1
TABLES = ("jobs", "pipelines", "pulses", "minutes", "errors", "meta")  # behind the prefix, on every server


def script(dialect: str, version: int, prefix: str) -> str:
    """The SQL text that leads from version - 1 to *version*."""
    from pathlib import Path  # only a first use or a migration needs it, and workers stay lean

    text = Path(__file__).with_name(f"{dialect}_{version:03d}.sql").read_text()
    return text.replace("{prefix}", prefix)


def statements(dialect: str, version: int, prefix: str) -> list[str]:
    """The same, one statement each, comments removed."""
    lines = [line.split("--", 1)[0].rstrip() for line in script(dialect, version, prefix).splitlines()]
    return [text for part in "\n".join(lines).split(";") if (text := part.strip())]


def missing_indexes(dialect: str, prefix: str, there: Iterable[str]) -> list[str]:
    """A note for each index of the jobs that is not among *there*, with the statement that makes it."""
    import re

    made: dict[str, str] = {}
    for version in range(1, WANTED + 1):
        for statement in statements(dialect, version, prefix):
            text = " ".join(statement.split())
            if found := re.match(r"CREATE (?:UNIQUE )?INDEX (\S+)", text):
                made[found[1]] = text
            elif text.startswith(f"CREATE TABLE IF NOT EXISTS {prefix}_jobs "):  # MySQL
                for key, name in re.findall(r", ((?:UNIQUE )?KEY (\w+) \([^)]*\))", text):
                    made[name] = f"ALTER TABLE {prefix}_jobs ADD {key}"
    known = set(there)
    return [
        f"The index {name} is missing: without it jobs are found slowly, or are not unique.\n{statement};"
        for name, statement in made.items()
        if name not in known
    ]


def check_complete(missing: Iterable[str], where: str) -> None:
    """
    Refuse tables of a known version some of which are gone: making them anew would hide that.

    Raises:
        SchemaError: which are *missing*, and the two ways to have them again.
    """
    names = list(missing)
    if names:
        raise SchemaError(
            f"{where}: of its tables {', '.join(names)} is gone: dropped or renamed. Nothing was changed. "
            "Restore it, or make it anew, empty: fleet queue migrate --sql prints the statements"
        )


def check(found: int | None, where: str) -> None:
    """
    Refuse tables that this version cannot work with.

    Raises:
        SchemaError: none yet, too old or too new, with the command that mends it.
    """
    if found is None:
        raise NoTables(f"{where} has no tables for fleet yet. Create them with: fleet queue migrate")
    if found < OLDEST:
        raise SchemaError(
            f"{where} has tables of version {found}, and {OLDEST} is needed. Run: fleet queue migrate"
        )
    if found > WANTED:
        raise SchemaError(
            f"{where} has tables of version {found}, and this fleet knows {WANTED}. Update fleet here."
        )
