"""fleet schema."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(
    what: Annotated[str, typer.Argument(metavar="manifest", help="Which schema")] = "manifest",
) -> None:
    """
    The JSON schema of the manifest, for editors.

    fleet schema manifest > fleet.schema.json

    Then put this line on top of fleet.toml:

    #:schema ./fleet.schema.json
    """
    import json

    from fleet.cli import output
    from fleet.manifest.schema import json_schema

    if what != "manifest":
        raise typer.BadParameter(f"no schema {what!r}; there is: manifest")
    output.say(json.dumps(json_schema(), indent=2, ensure_ascii=False))
