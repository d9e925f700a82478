"""S28: what an XML-RPC answer may cost: no DOCTYPE, 16 MiB, 32 levels, 700,000 elements, one deadline."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fleet.errors import BadReply, SupervisorError
from fleet.supervisor.transport import MAX_BYTES, MAX_DEPTH, MAX_ELEMENTS
from tests.supervisor.test_hostile_server import http, response, serving

LAUGHS = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
DOCUMENT_TYPES = {
    "billion laughs": f'<!DOCTYPE x [<!ENTITY l0 "lol">{LAUGHS}]><x>&l9;</x>',
    "quadratic": f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]><x>{"&a;" * 50_000}</x>',
    "a file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>',
    "an address": '<!DOCTYPE x SYSTEM "http://127.0.0.1:1/x.dtd"><x/>',
    "a parameter entity": '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]><x/>',
    "nothing": "<!DOCTYPE x><x/>",
}


@pytest.mark.parametrize("name", DOCUMENT_TYPES)
def test_a_document_type_is_refused_whatever_it_holds(name: str, tmp_path: Path) -> None:
    """Nothing is expanded, opened or fetched."""
    with serving(http(DOCUMENT_TYPES[name]), tmp_path / "s.sock") as supervisor:
        began = time.process_time()
        with pytest.raises(BadReply, match="DOCTYPE"):
            supervisor.processes()
        assert time.process_time() - began < 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (response("<array><data><value>" * MAX_DEPTH), "nested too deep"),
        (response("<array><data>" + "<value/>" * MAX_ELEMENTS), "more than 700,000 elements"),
        (response("&undefined;"), "not XML"),
        (response("<string>" + "x" * MAX_BYTES + "</string>"), "larger than 16 MiB"),
        (response(f"<int>{'9' * 5000}</int>"), "not XML-RPC"),
        (response("<dateTime.iso8601>" + "9" * 5000 + "</dateTime.iso8601>"), "not XML-RPC"),
        (response("<base64>" + "=" * 100 + "</base64>"), "not XML-RPC"),
        (response("<string>" + "x" * (MAX_BYTES // 4) + "\U0001f600</string>"), "larger than 16 MiB"),
        ("<methodResponse " + 'a="1" ' * 99_999 + "/>", "a tag that does not end"),
        (f"<!--{'x' * 999_999}-->", "a tag that does not end"),
    ],
    ids=["depth", "elements", "entity", "size", "number", "time", "base64", "width", "attributes", "comment"],
)
def test_an_answer_that_is_too_much_is_refused(body: str, words: str, tmp_path: Path) -> None:
    """By its own limit, in the parser's own time; the deadline stands behind all of them."""
    with (
        serving(http(body), tmp_path / "s.sock") as supervisor,
        pytest.raises(SupervisorError, match=words),
    ):
        supervisor.processes()
