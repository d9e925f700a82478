"""`python -m fleet`: the command, with the Python that has the library."""

from __future__ import annotations

import sys

from fleet.cli import main

sys.exit(main())
