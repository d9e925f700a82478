"""fleet version."""

from __future__ import annotations


def version() -> None:
    """
    Versions of fleet and of what it stands on.

    fleet version
    fleet version --json
    """
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    from fleet.cli import output
    from fleet.cli.context import settings

    found = {"fleet": "supervisor-fleet", "supervisor": "supervisor"}
    versions = {}
    for name, distribution in found.items():
        try:
            versions[name] = installed(distribution)
        except PackageNotFoundError:
            versions[name] = "unknown"
    versions["python"] = platform.python_version()
    if settings().json:
        output.document({"schema": "fleet.version/1", **versions})
    else:
        output.say("  ".join(f"{name} {number}" for name, number in versions.items()))
