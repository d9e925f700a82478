"""What several of these tests use."""

from __future__ import annotations

from typing import Any

from tests import drivers


def driver(dsn: str, **options: Any) -> Any:
    """A connection of the driver, in autocommit mode unless *options* say otherwise."""
    return drivers.connect(dsn, **{"autocommit": True, **options})
