"""fleet schema."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    what: Annotated[str, typer.Argument(metavar="manifest|status", help="which schema")] = "manifest",
) -> None:
    """
    The JSON schema of the manifest, for editors, or of `fleet status --json`.

    fleet schema manifest > fleet.schema.json
    fleet schema status

    Then put this line on top of fleet.toml:

    #:schema ./fleet.schema.json
    """
    import json

    from fleet.cli import output

    if what == "manifest":
        from fleet.manifest.models import json_schema

        found = json_schema()
    elif what == "status":
        from fleet.dashboard.schema import status_schema

        found = status_schema()
    else:
        raise typer.BadParameter(f"no schema {what!r}; there are: manifest, status")
    output.say(json.dumps(found, indent=2, ensure_ascii=False))
