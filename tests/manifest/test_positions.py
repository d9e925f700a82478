"""The index knows where tomllib's keys and values stand, whatever way they are written."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.manifest.positions import Index

TEXT = '''\
# a = 1
top = 1   # b = 2
[queue]
dsn = "x # [y] = 'z'"
[pipelines.emails]
stop = { grace = "90s", signal="TERM" }
retries.max = 5
"quoted key" . 'and.dots' = [ 1, # in an array
  "two", { three = 3 }, [4] ]
text = """
x = 3
[not.a.table]
"two" quotes at the end""\"""
literal = \'\'\'a'b\'\'\'
when = 1979-05-27 07:32:00Z
[[schedules]]
name = "a"
[[schedules]]
name = "b"
[schedules.payload]
kind = "daily"
[ "quo\\u0074ed" . b ]
y = 1
'''


@pytest.mark.parametrize(
    ("path", "key", "value"),
    [
        (("top",), (2, 1), "1"),
        (("queue",), (3, 2), None),
        (("queue", "dsn"), (4, 1), "\"x # [y] = 'z'\""),
        (("pipelines", "emails"), (5, 12), None),
        (("pipelines", "emails", "stop"), (6, 1), '{ grace = "90s", signal="TERM" }'),
        (("pipelines", "emails", "stop", "grace"), (6, 10), '"90s"'),
        (("pipelines", "emails", "stop", "signal"), (6, 25), '"TERM"'),
        (("pipelines", "emails", "retries"), (7, 1), None),
        (("pipelines", "emails", "retries", "max"), (7, 9), "5"),
        (("pipelines", "emails", "quoted key", "and.dots", 1), (9, 3), '"two"'),
        (("pipelines", "emails", "quoted key", "and.dots", 2, "three"), (9, 12), "3"),
        (("pipelines", "emails", "quoted key", "and.dots", 3, 0), (9, 26), "4"),
        (("pipelines", "emails", "literal"), (14, 1), "'''a'b'''"),
        (("pipelines", "emails", "when"), (15, 1), "1979-05-27 07:32:00Z"),
        (("schedules", 1, "name"), (19, 1), '"b"'),
        (("schedules", 1, "payload", "kind"), (21, 1), '"daily"'),
        (("quoted", "b", "y"), (23, 1), "1"),
    ],
)
def test_keys_and_values_are_found(
    path: tuple[str | int, ...], key: tuple[int, int], value: str | None
) -> None:
    """Lines and columns count from 1, and a value is the text that stands there."""
    index = Index(TEXT)
    span = index.spans[path]
    assert index.place(span.key) == key
    assert (TEXT[span.value : span.value_end] if span.value >= 0 else None) == value


def paths(value: object, path: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Every path in what tomllib read."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {path, *(p for name, item in inner for p in paths(item, (*path, name)))}


def test_every_key_of_a_text_is_indexed() -> None:
    """The index and tomllib agree about what is there."""
    assert paths(tomllib.loads(TEXT)) - {()} == set(Index(TEXT).spans)


SCALARS = st.sampled_from(
    ["1", "-2.5", "true", '"a"', "'b'", '"""c"""', "'''d\n'''", '"\\"e"', "[]", "{}", "0x1F", "inf"]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[ " + " , # c\n".join(items) + " ]"),
        st.lists(inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"k{i}.x = {item}" for i, item in enumerate(items)) + " }"
        ),
    ),
    max_leaves=5,
)


@given(st.lists(VALUES, max_size=5), st.sampled_from(["", "[t]\n", "[[a.b]]\n", "[a.b.c]\n"]))
def test_any_valid_text_is_indexed(values: list[str], header: str) -> None:
    """Whatever tomllib can read, the index walks to its end and finds the same keys."""
    text = header + "".join(f'"k {i}"."x" = {value} # end\n' for i, value in enumerate(values))
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # an inline table over two lines
    assert paths(tables) - {()} <= set(Index(text).spans)
