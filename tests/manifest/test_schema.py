"""The JSON schema: what editors know about fleet.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fleet.manifest.leaves import Leaf, Refused
from fleet.manifest.models import json_schema, validate
from fleet.manifest.schema import ArrayOf, ByName, FileTable, Kind, known_keys, read


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


def full(kind: Kind, example: Any = None) -> Any:
    """A value of every key, each as its own example has it."""
    if isinstance(kind, Leaf):
        return example
    if isinstance(kind, ByName):
        return {"any": full(kind.table)}
    if isinstance(kind, ArrayOf):
        return [full(kind.table)]
    one_of = {"file", "env"} if "credential" in kind.keys else set()
    return {name: full(key.kind, key.example) for name, key in kind.keys.items() if name not in one_of}


def mutants(value: Any) -> Iterator[Any]:
    """Copies of *value*, each wrong, or at least other, in one place."""
    yield from ("text", "", "7", 0, -1, 1.5, True, [], ["text"], {}, {"file": "x", "env": "y"})
    if isinstance(value, dict):
        yield {**value, "unknown": 1}
        for name, inner in value.items():
            yield {key: kept for key, kept in value.items() if key != name}
            for mutant in mutants(inner):
                yield {**value, name: mutant}
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            for mutant in mutants(inner):
                yield [*value[:i], mutant, *value[i + 1 :]]


def test_a_manifest_with_every_key_is_read_as_pydantic_reads_it() -> None:
    """Each key's example is a good value, too."""
    tree = full(FileTable)
    assert validate(tree) == (read(tree), [])


def test_the_quick_reader_refuses_exactly_what_pydantic_refuses() -> None:
    """A manifest is read without pydantic first; nothing wrong may get through there."""
    refused = 0
    for tree in mutants(full(FileTable)):
        tables, errors = validate(tree)
        if errors:
            refused += 1
            with pytest.raises(Refused):
                read(tree)
        else:
            assert read(tree) == tables
            assert list(read(tree)) == list(tables)
    assert refused > 500
