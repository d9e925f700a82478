"""Payloads as they may be shown."""

from __future__ import annotations

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
    ("payload", "value"),
    [
        (b'{"n": 1}', {"n": 1}),
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
