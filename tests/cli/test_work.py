"""fleet work: a handler in a terminal."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pexpect
import pytest

import fleet
from tests.cli import command
from tests.waiting import eventually

HANDLERS = """
from fleet import Bury

def send(job):
    if "@" not in job.data["to"]:
        raise Bury("not an address")
    print("sending")
    job.data["body"]

async def send_later(job):
    job.touch()
    send(job)

def send_wrapped(job):
    return send_later(job)


def fork(job):
    import os
    if child := os.fork():
        os.waitpid(child, 0)
"""

MANIFEST = """
version = 1
[queue]
dsn = "sqlite:///queue.db"
[defaults]
redact = ["to"]
retries = { max = 1, first = "10s", jitter = false }
[defaults.environment]
WORD = "100%"
[pipelines.emails]
handler = "shop:send"
[pipelines.late]
handler = "shop:send_later"
[pipelines.wrapped]
handler = "shop:send_wrapped"
[pipelines.forks]
handler = "shop:fork"
[pipelines.pdf]
command = "php worker.php"
"""

GOOD = '{"to": "ada@example.org", "body": "hi"}'


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "fleet.toml").write_text(MANIFEST)
    (tmp_path / "shop.py").write_text(HANDLERS)
    return tmp_path


def run(shop: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return command.fleet("work", *words, folder=shop, stdin=stdin)


@pytest.mark.parametrize("pipeline", ["emails", "late"])
def test_a_payload_is_run_without_being_queued(shop: Path, pipeline: str) -> None:
    """The handler's own prints come first, redacted values are masked, and no queue is made."""
    done = run(shop, pipeline, "--once", "--payload", GOOD)

    assert done.returncode == 0, done.stderr
    printed, line = done.stdout.splitlines()
    assert printed == "sending"
    name = "send" if pipeline == "emails" else "send_later"
    assert line.startswith(f'#1 {name} {{"to": "…", "body": "hi"}}   done in ')
    assert line.endswith(" ms   (nothing was queued)")
    assert not (shop / "queue.db").exists()


def test_a_forked_child_that_comes_back_says_nothing(shop: Path) -> None:
    """It ends where the handler ends; the line of the job is its parent's."""
    done = run(shop, "forks", "--once", "--payload", "1")
    assert (done.returncode, done.stdout.count("done in")) == (0, 1)


def test_a_payload_may_come_from_a_file_or_stdin(shop: Path) -> None:
    """@FILE and -; a handler that raises is exit 1, with its class, message and place."""
    (shop / "bad.json").write_text('{"to": "ada@example.org"}')
    failed = run(shop, "emails", "--payload", "@bad.json")
    assert failed.returncode == 1
    assert failed.stdout.splitlines()[-1].startswith("#1 KeyError: 'body'  shop.py:8")

    assert run(shop, "emails", "--payload", "-", stdin=GOOD).returncode == 0
    assert run(shop, "emails", "--payload", "@nothing.json").returncode == 2


def test_a_handler_that_gives_back_what_nobody_runs_has_failed(shop: Path) -> None:
    """As in a worker: a plain function around `async def` has done nothing, and the job stays."""
    failed = run(shop, "wrapped", "--payload", GOOD)
    assert failed.returncode == 1
    assert failed.stdout.startswith("#1 HandlerError: the handler gave back a coroutine that nobody runs")
    assert "never awaited" not in failed.stderr

    with fleet.connect(f"sqlite:///{shop / 'queue.db'}") as queue:
        queue.put("wrapped", json.loads(GOOD))
        assert "(again in 10s)" in run(shop, "wrapped", "--once").stdout
        assert queue.stats("wrapped").delayed == 1


def test_jobs_of_the_queue_are_worked_on_a_line_each(shop: Path) -> None:
    """--drain leaves when nothing is ready; each line says what follows."""
    queue = fleet.connect(f"sqlite:///{shop / 'queue.db'}")
    for payload in (json.loads(GOOD), {"to": "nope"}, {"to": "ada@example.org"}):
        queue.put("emails", payload)
    lines = [line for line in run(shop, "emails", "--drain").stdout.splitlines() if line.startswith("#")]

    assert lines[0].startswith('#1 send {"to": "…"')
    assert lines[1] == "#2 not an address   (buried)"
    assert lines[2].startswith("#3 KeyError: 'body'  shop.py:8   (again in 10s)")
    stats = queue.stats("emails")
    assert (stats.ready, stats.delayed, stats.buried) == (0, 1, 1)
    queue.close()


def test_once_takes_one_job_and_leaves_the_rest_untouched(shop: Path) -> None:
    """Also when there is none: it says so, and that is no error."""
    queue = fleet.connect(f"sqlite:///{shop / 'queue.db'}")
    queue.put_many("emails", [json.loads(GOOD)] * 3)

    document = json.loads(run(shop, "emails", "--once", "--json").stdout.splitlines()[-1])
    assert (document["schema"], document["job"], document["error"]) == ("fleet.work/1", 1, None)
    assert [job.attempt for job in queue.peek("emails", "ready", 9)] == [0, 0]
    nothing = run(shop, "late", "--once")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "no job is ready" in nothing.stderr
    queue.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [(["pdf"], "runs a command"), (["email"], 'Did you mean "emails"?')],
)
def test_a_pipeline_that_cannot_be_worked_on_is_wrong_usage(shop: Path, words: list[str], said: str) -> None:
    """Exit 2, with what to do instead."""
    refused = run(shop, *words)
    assert refused.returncode == 2
    assert said in refused.stderr


def test_pdb_opens_where_the_handler_failed(shop: Path) -> None:
    """The prompt stands in the handler's own frame."""
    child = pexpect.spawn(
        command.FLEET[0],
        [*command.FLEET[1:], "work", "emails", "--payload", '{"to": "a@b"}', "--pdb"],
        cwd=str(shop),
        timeout=60,
    )
    child.expect(r"\(Pdb\) ")
    child.sendline("job.data")
    child.expect_exact("{'to': 'a@b'}")
    child.sendline("q")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 1


@pytest.mark.slow
def test_reload_starts_again_when_a_file_changes(shop: Path) -> None:
    """The next job runs the new code; Ctrl-C ends both processes."""
    queue = fleet.connect(f"sqlite:///{shop / 'queue.db'}")
    child = pexpect.spawn(
        command.FLEET[0],
        [*command.FLEET[1:], "work", "emails", "--reload"],
        cwd=str(shop),
        timeout=60,
        encoding="utf-8",
    )
    child.expect("waiting for jobs")
    (shop / "shop.py").write_text("def send(job):\n    print('the new code')\n")
    child.expect("shop.py changed")
    child.expect("waiting for jobs")
    queue.put("emails", 1)
    child.expect("the new code")
    child.sendintr()
    child.expect(pexpect.EOF)
    eventually(lambda: not child.isalive())
    child.close()
    queue.close()
