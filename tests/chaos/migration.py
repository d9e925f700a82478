"""
A migration to a version of the tables that does not exist yet.

    python -m tests.chaos.migration DSN COLUMN

fleet has one version of its tables so far.  This is the next one, additive as
they all have to be, and carried out by fleet's own `migrate`.  Prints the
version before.
"""

from __future__ import annotations

import sys

from fleet.queue import connect
from fleet.queue.schema import migrate

COMMAND = (sys.executable, "-m", "tests.chaos.migration")
_TYPES = {"sqlite": "INTEGER", "postgresql": "bigint", "mysql": "BIGINT"}


def main() -> None:
    dsn, column = sys.argv[1:]
    migrate.WANTED = 2
    migrate.statements = lambda dialect, version, prefix: [
        f"ALTER TABLE {prefix}_jobs ADD COLUMN {column} {_TYPES[dialect]}"
    ]
    with connect(dsn) as queue:
        found, _ = queue.migrate()
    print(found)


if __name__ == "__main__":
    main()
