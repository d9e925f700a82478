"""Payloads as they may be shown."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.dashboard.payload import text_of, value_of


def test_redacted_keys_are_masked_at_any_depth_and_in_any_case():
    """The manifest's `redact` holds for every skin."""
    payload = json.dumps({"to": "a", "Password": "s3cret", "list": [{"token": {"deep": "s3cret"}}]}).encode()
    assert value_of(payload, ["password", "TOKEN"]) == {
        "to": "a",
        "Password": "***",
        "list": [{"token": "***"}],
    }
    assert "s3cret" not in text_of(payload, ["password", "token"])


@pytest.mark.parametrize(
    "payload",
    [
        b'{"password": "s3cret", "n": NaN}',
        b'{"password": "s3cret", "n": ' + b"9" * 5000 + b"}",
        b'{"password": "s3cret"',
        b"PASSWORD=s3cret",
        b"\xff password: s3cret",
        b'{"password": "s3cret", "n": ' + b"[" * 900 + b"]" * 900 + b"}",
    ],
)
def test_a_redacted_key_is_masked_in_what_is_no_proper_json(payload):
    """And a document of --json can be read by everybody: NaN is a word in it."""
    shown = value_of(payload, ["password"])
    assert "s3cret" not in text_of(payload, ["password"])
    assert "s3cret" not in repr(shown)
    if isinstance(shown, dict) and "base64" in shown:
        assert b"s3cret" not in base64.b64decode(shown["base64"])
    json.dumps(shown, allow_nan=False)


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b'{"n": 1}', {"n": 1}),
        (b"[NaN, -Infinity]", ["NaN", "-Infinity"]),
        (b"null", None),
        (b"plain words", {"text": "plain words"}),
        (b"\xff\x00", {"base64": "/wA="}),
        (b"[" * 100_000, {"text": "[" * 100_000}),
    ],
)
def test_a_payload_that_is_not_json_is_shown_as_what_it_is(payload, value):
    """Text, or base64 for bytes; a bomb of brackets is text."""
    assert value_of(payload) == value


@given(st.binary(), st.integers(0, 60))
def test_no_payload_can_steer_a_terminal(payload, width):
    """Bytes from strangers, on one line of at most so many columns."""
    assert text_of(payload, ["a"], width).isprintable()
