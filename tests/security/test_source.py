"""What may not stand in the product's source, read from its syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "fleet").rglob("*.py"))

FORBIDDEN_MODULES = {"pickle", "cPickle", "marshal", "shelve", "dill", "yaml", "imp", "telnetlib"}
FORBIDDEN_CALLS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "tempfile.mktemp",
    "xmlrpc.client.ServerProxy",
    "ServerProxy",
}
# Who may signal a process, and whom.
MAY_SIGNAL = {
    "fleet/cli/reload.py",  # its own child
    "fleet/dashboard/live.py",  # itself, for Ctrl-Z
    "fleet/manifest/imports.py",  # its own child
    "fleet/worker/family.py",  # the worker's own process group: what its handlers forked
    "fleet/supervisor/private.py",  # a private supervisord, found by its command line and start time
}
SIGNALS = {"kill", "killpg", "send_signal", "terminate", "pidfd_send_signal"}


def name_of(node: ast.expr) -> str:
    """ "os.system" of the node that calls it; "" for what has no plain name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=value, attr=attr):
            return f"{name_of(value)}.{attr}"
    return ""


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def calls(file: Path) -> Iterator[tuple[int, str, ast.Call]]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call):
            yield node.lineno, name_of(node.func), node


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.module or "").partition(".")[0]


def test_nothing_is_unpickled_evaluated_or_given_to_a_shell() -> None:
    """S12, S37: data stays data, and a command is a list of words."""
    found = []
    for file in FILES:
        found += [f"{file}: import {name}" for name in imports(file) if name in FORBIDDEN_MODULES]
        for line, name, call in calls(file):
            shell = [k for k in call.keywords if k.arg == "shell" and ast.unparse(k.value) != "False"]
            if name in FORBIDDEN_CALLS or shell:
                found.append(f"{file}:{line}: {ast.unparse(call)[:80]}")
    assert found == []


def test_the_reader_of_the_source_finds_what_it_looks_for(tmp_path: Path) -> None:
    """A test that could not fail would prove nothing."""
    bad = tmp_path / "bad.py"
    bad.write_text("import pickle.x\nimport os\nos.system('x')\nsubprocess.run('x', shell=True)\n")
    assert "pickle" in set(imports(bad))
    assert [name for _, name, _ in calls(bad)] == ["os.system", "subprocess.run"]


def test_only_private_supervisords_and_children_are_signalled() -> None:
    """X16: a pid that a supervisord reports is shown, and never signalled."""
    found = {
        str(file.relative_to(ROOT))
        for file in FILES
        for _, name, _ in calls(file)
        if name.rpartition(".")[2] in SIGNALS
    }
    assert found == MAY_SIGNAL  # a new one is to be thought about, a former one taken off the list


def test_every_child_process_has_a_list_of_words() -> None:
    """S38: no text is split by a shell."""
    for file in FILES:
        for line, name, call in calls(file):
            if name in ("subprocess.run", "subprocess.Popen", "subprocess.check_output"):
                first = call.args[0]
                assert not isinstance(first, ast.Constant | ast.JoinedStr), f"{file}:{line}"


@pytest.mark.parametrize("name", ["FLEET_FAILPOINT", "fail_point", "sitecustomize", "faketime"])
def test_no_fault_injection_is_shipped(name: str) -> None:
    """S39: the chaos kit lives in tests/ alone."""
    assert [file for file in FILES if name in file.read_text()] == []
