"""Worker specs: what is read, what is refused, and the secrets they name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.worker.handler import HandlerError, is_async, load_handler
from fleet.worker.spec import SCHEMA, SecretRef, SpecError, load, parse, queue_dsn, read_secret

LEAST: dict[str, Any] = {"schema": SCHEMA, "pipeline": "emails"}


def test_a_spec_needs_little_and_the_rest_has_defaults() -> None:
    """Null counts as left out, as render writes it."""
    spec = parse({**LEAST, "recycle": {"jobs": 100, "age": None, "memory": None}, "command": None})
    assert (spec.queue_name, spec.timeout, spec.concurrency, spec.policy.max) == ("emails", 60, 1, 5)
    assert (spec.recycle.jobs, spec.recycle.age) == (100, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": None}, "schema: missing"),
        ({"timeout": 0}, "timeout: expected a number of more than 0, got 0"),
        ({"concurrency": True}, "concurrency: expected a number of at least 1, got true"),
        ({"retries": {"max": "5"}}, 'retries.max: expected a number, got "5"'),
        ({"redact": ["a", 1]}, "redact: expected a list of texts"),
        ({"secrets": {"KEY": {"file": "a", "env": "b"}}}, "secrets.KEY: expected exactly one of"),
        ({"environment": {"A": 1}}, "environment.A: expected text, got 1"),
        ({"queue": []}, "queue: expected an object, got []"),
    ],
)
def test_what_is_wrong_is_said_in_words(change: dict[str, Any], words: str) -> None:
    """The key, what was expected, and what it holds."""
    with pytest.raises(SpecError) as caught:
        parse({**LEAST, **change})
    assert words in str(caught.value)


def test_a_file_that_is_no_spec_is_named(tmp_path: Path) -> None:
    """Missing, broken, and not an object."""
    with pytest.raises(SpecError, match="fleet render"):
        load(str(tmp_path / "none"))
    for text in ("{", "[]", json.dumps({})):
        (tmp_path / "bad").write_text(text)
        with pytest.raises(SpecError, match="bad: "):
            load(str(tmp_path / "bad"))


def test_secrets_come_from_one_of_three_places(tmp_path: Path) -> None:
    """A private file, the environment, a systemd credential; a missing one is an error unless optional."""
    file = tmp_path / "smtp"
    file.write_text("pa:ss\n")
    file.chmod(0o640)
    environ = {"TOKEN": "t", "CREDENTIALS_DIRECTORY": str(tmp_path)}

    assert read_secret("S", SecretRef(file=str(file))) == "pa:ss"
    assert read_secret("S", SecretRef(env="TOKEN"), environ) == "t"
    assert read_secret("S", SecretRef(credential="smtp"), environ) == "pa:ss"
    assert read_secret("S", SecretRef(env="GONE", optional=True), environ) is None
    with pytest.raises(SpecError, match="environment variable GONE is not there"):
        read_secret("S", SecretRef(env="GONE"), environ)
    file.chmod(0o644)
    with pytest.raises(SpecError, match="chmod o=,g-w"):
        read_secret("S", SecretRef(file=str(file)))


def test_the_password_joins_the_dsn_only_in_memory(tmp_path: Path) -> None:
    """Quoted, whatever it holds; the spec itself never shows it."""
    file = tmp_path / "db"
    file.write_text("p@ss/w:rd")
    file.chmod(0o600)
    spec = parse(
        {**LEAST, "queue": {"dsn": "postgresql://shop@db/shop?x=1", "password": {"file": str(file)}}}
    )
    assert queue_dsn(spec) == "postgresql://shop:p%40ss%2Fw%3Ard@db/shop?x=1"
    assert "p@ss" not in repr(spec)


def test_handlers_are_found_by_their_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain and async functions, methods and partials are told apart."""
    (tmp_path / "some_handlers.py").write_text(
        "import functools\n"
        "def plain(job): ...\n"
        "async def late(job): ...\n"
        "partial = functools.partial(late)\n"
        "class Object:\n"
        "    async def __call__(self, job): ...\n"
        "thing = Object()\n"
        "number = 5\n"
    )
    (tmp_path / "broken_handlers.py").write_text("1 / 0\n")
    (tmp_path / "needy_handlers.py").write_text("import not_installed_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    names = ("plain", "late", "partial", "thing")
    assert [is_async(load_handler(f"some_handlers:{name}")) for name in names] == [False, True, True, True]
    for path, words in (
        ("some_handlers", "expected"),
        ("some_handlers:gone", "has no gone"),
        ("some_handlers:number", "expected a function, found int"),
        ("nowhere.at.all:send", "no module nowhere"),
        ("broken_handlers:send", r"ZeroDivisionError: division by zero \(.*broken_handlers.py:1\)"),
        ("needy_handlers:send", "needs the module not_installed_here"),
    ):
        with pytest.raises(HandlerError, match=words):
            load_handler(path)
