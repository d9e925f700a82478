"""The JSON schema: what editors know about fleet.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from fleet.manifest.schema import json_schema, known_keys


def nodes(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def test_the_schema_keeps_to_the_words_of_draft_4() -> None:
    """Taplo's checker stops there; TOML has no null."""
    schema = json_schema()
    assert schema["$schema"] == "http://json-schema.org/draft-04/schema#"
    newer = {"const", "prefixItems", "$defs", "if", "contains", "propertyNames", "exclusiveMinimum"}
    for node in nodes(schema):
        assert not newer & node.keys()
        assert node.get("type") != "null"
        if "$ref" in node:
            assert len(node) == 1
            assert node["$ref"].removeprefix("#/definitions/") in schema["definitions"]


def test_every_key_has_a_description_and_an_example() -> None:
    """Editors show them where the key is written."""
    schema = json_schema()
    tables = [schema, *schema["definitions"].values()]
    for table in tables:
        assert table["description"].endswith(".")
        assert table["additionalProperties"] is False
        for name, value in table["properties"].items():
            assert value.get("description"), name
            assert value.get("examples"), name


def test_the_schema_is_the_same_every_time() -> None:
    """A file made from it can be compared."""
    assert json.dumps(json_schema()) == json.dumps(json_schema())


def test_the_keys_of_a_table_are_known_by_its_path() -> None:
    """For hints about keys that are not."""
    assert known_keys(("pipelines", "any", "stop")) == ["signal", "grace", "group"]
    assert known_keys(("defaults", "retries"))[:2] == ["max", "first"]
    assert known_keys(("schedules", 3))[0] == "name"
    assert known_keys(("pipelines", "any", "secrets", "KEY")) == ["file", "env", "credential", "optional"]
    assert known_keys(("pipelines", "any", "environment")) == []
    assert known_keys(("nothing", "here")) == []
