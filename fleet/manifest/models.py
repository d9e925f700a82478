"""
Every mistake in a manifest at once, and its JSON schema: the tables of `schema.py` as pydantic models.

The only door to pydantic.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator
from pydantic_core import PydanticCustomError, core_schema

from fleet.manifest.leaves import Leaf, Refused
from fleet.manifest.schema import ArrayOf, ByName, FileTable, Key, Kind, Table


class _Leaf:
    """How pydantic checks and describes a leaf; made for `Annotated`."""

    def __init__(self, leaf: Leaf) -> None:
        self._leaf = leaf

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, core: Any, handler: Any) -> dict[str, Any]:
        return dict(self._leaf.schema)

    def _check(self, value: Any) -> Any:
        try:
            return self._leaf.check(value)
        except Refused as refusal:
            raise PydanticCustomError(refusal.code, refusal.text) from refusal


_MODELS: dict[type[Table], type[BaseModel]] = {}


def _model(table: type[Table]) -> type[BaseModel]:
    """The one model of a table, so that the JSON schema defines it once."""
    if table not in _MODELS:
        fields: dict[str, Any] = {name: _field(key) for name, key in table.keys.items()}
        validators: Any = {"check": model_validator(mode="after")(_checked_by(table))}
        _MODELS[table] = create_model(
            table.__name__,
            __doc__=table.__doc__,
            __config__=ConfigDict(extra="forbid"),
            __validators__=validators,
            **fields,
        )
    return _MODELS[table]


def _checked_by(table: type[Table]) -> Callable[[BaseModel], BaseModel]:
    def check(model: BaseModel) -> BaseModel:
        try:
            table.check(model.model_dump(exclude_unset=True))
        except Refused as refusal:
            raise PydanticCustomError(refusal.code, refusal.text) from refusal
        return model

    return check


def _field(key: Key) -> tuple[Any, Any]:
    annotation = _annotation(key.kind)
    extra: Any = {} if key.default is None else {"default": key.default}
    told = {"description": key.text, "examples": [key.example], "json_schema_extra": extra}
    return (annotation, Field(**told)) if key.required else (annotation | None, Field(None, **told))


def _annotation(kind: Kind) -> Any:
    if isinstance(kind, Leaf):
        return Annotated[object, _Leaf(kind)]
    if isinstance(kind, ByName):
        return dict[str, _annotation(kind.table)]  # type: ignore[misc]  # made here, not for mypy
    if isinstance(kind, ArrayOf):
        return list[_annotation(kind.table)]  # type: ignore[misc]
    return _model(kind)


def validate(tree: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """
    The tables that are written in *tree*, their values converted, and pydantic's errors.

    A key with an error is left out of the result, so that the rules can go on.
    """
    found: list[dict[str, Any]] = []
    while True:
        try:
            return _model(FileTable).model_validate(tree).model_dump(exclude_unset=True), found
        except ValidationError as error:
            errors = error.errors(include_url=False)
            found += errors  # type: ignore[arg-type]  # a TypedDict is a dict
            wrong = [e["loc"][:-1] if e["type"] == "missing" else e["loc"] for e in errors]
            smaller = _without(tree, wrong)
            if smaller == tree:  # an error without a place: nothing is left to check
                return {}, found
            tree = smaller


def _without(tree: Any, paths: list[tuple[Any, ...]]) -> Any:
    """A copy of *tree* without the items at *paths*; an array loses the whole of a bad item."""
    gone = {path[0] for path in paths if len(path) == 1}
    below: dict[Any, list[tuple[Any, ...]]] = {}
    for path in paths:
        if len(path) > 1 and path[0] not in gone:
            below.setdefault(path[0], []).append(path[1:])
    if isinstance(tree, dict):
        return {k: _without(v, below[k]) if k in below else v for k, v in tree.items() if k not in gone}
    if isinstance(tree, list):
        return [item for i, item in enumerate(tree) if i not in gone and i not in below]
    return {}


def json_schema() -> dict[str, Any]:
    """The JSON schema of fleet.toml in the words of draft 4, which is where Taplo stops."""
    made = _draft_4(_model(FileTable).model_json_schema(ref_template="#/definitions/{model}"))
    definitions = made.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "fleet.toml",
        **{name: value for name, value in made.items() if name != "title"},
        "definitions": definitions,
    }


def _draft_4(node: Any) -> Any:
    """Without null, which TOML lacks, and with an enum for every const."""
    if isinstance(node, list):
        return [_draft_4(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {name: _draft_4(value) for name, value in node.items()}
    if "const" in node:
        node["enum"] = [node.pop("const")]
    if isinstance(node.get("title"), str):
        del node["title"]  # the key's name, capitalised: says nothing
    choices = node.get("anyOf")
    if isinstance(choices, list) and {"type": "null"} in choices:
        rest = [choice for choice in choices if choice != {"type": "null"}]
        del node["anyOf"]
        if len(rest) > 1:
            node["anyOf"] = rest
        elif "$ref" in rest[0]:  # draft 4 reads nothing that stands beside a $ref
            node["allOf"] = rest
        else:
            node = {**node, **rest[0]}
    if node.get("default", 0) is None:
        del node["default"]
    return node
