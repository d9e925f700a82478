"""The published schema and the document agree, field by field."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fleet.dashboard.schema import status_schema
from tests.dashboard import scenes

_TYPES: dict[str, Any] = {
    "string": str,
    "null": type(None),
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "object": dict,
    "array": list,
}


def agrees(value: Any, schema: dict[str, Any], path: str = "") -> None:
    """A small validator for what our schema uses."""
    if "anyOf" in schema:
        return agrees(value, schema["anyOf"][1 if value is None else 0], path)
    if "const" in schema:
        assert value == schema["const"], path
    if "enum" in schema:
        assert value in schema["enum"], path
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds:
        assert any(isinstance(value, _TYPES[kind]) for kind in kinds), (path, value, kinds)
    if isinstance(value, dict) and "properties" in schema:
        assert sorted(value) == sorted(schema["properties"]), path
        for name, inner in schema["properties"].items():
            agrees(value[name], inner, f"{path}.{name}")
    if isinstance(value, list):
        for number, item in enumerate(value):
            agrees(item, schema["items"], f"{path}[{number}]")
    return None


@pytest.mark.parametrize("scene", scenes.SCENES)
def test_every_document_fits_the_published_schema(scene):
    """No field without a line in the schema, and none in the schema that is not there."""
    document = json.loads(json.dumps(scenes.SCENES[scene].to_dict()))
    agrees(document, status_schema())
