"""fleet jobs, fleet queue, fleet pause: through the whole command line, on a real SQLite queue."""

from __future__ import annotations

import json

import pexpect
import pytest

from tests.cli.command import FLEET
from tests.cli.command import fleet as typed
from tests.cli.conftest import MANIFEST, bury


def test_put_stores_the_payload_as_it_was_typed_and_prints_its_id(fleet, queue):
    """Bytes are kept, spaces and key order too; the id is the only output."""
    ran = fleet("jobs", "put", "emails", '{"b": 1,  "a": 2}')
    assert (ran.code, ran.err) == (0, "")
    job = queue.find(int(ran.out))
    assert job.payload == b'{"b": 1,  "a": 2}'
    assert job.ttr == 60.0


def test_put_takes_delay_priority_ttr_and_unique(fleet, queue):
    """Durations are written as in the manifest."""
    ran = fleet(
        "jobs", "put", "emails", "1", "--delay", "5m", "--priority", "3", "--ttr", "2m", "--unique", "k"
    )
    job = queue.find(int(ran.out))
    assert (job.state, job.priority, job.ttr) == ("delayed", 3, 120.0)
    again = fleet("jobs", "put", "emails", "2", "--unique", "k")
    assert again.out == ran.out, "the job with that key is still there"


def test_put_reads_a_file(fleet, queue, folder):
    """@FILE is one payload."""
    (folder / "one.json").write_text('{"from": "file"}\n')
    assert queue.find(int(fleet("jobs", "put", "emails", "@one.json").out)).data == {"from": "file"}
    assert fleet("jobs", "put", "emails", "@none.json").code == 2


def test_put_reads_a_job_from_each_line(fleet, queue):
    """- puts thousands in few calls; empty lines are nothing."""
    lines = b"\n".join(b'{"n": %d}' % n for n in range(2500)) + b"\n\n"
    ran = fleet("jobs", "put", "emails", "-", stdin=lines)
    assert len(ran.out.split()) == 2500
    assert queue.stats("emails", cap=10_000).ready == 2500
    assert fleet("jobs", "put", "emails", "-", "--json", stdin=b"1\n2").json["ids"] == [2501, 2502]


def test_a_bad_line_says_its_number_and_what_was_put_before(fleet, queue):
    """Exit 2 when nothing happened, 7 when a part did."""
    ran = fleet("jobs", "put", "emails", "-", stdin=b"1\n{oops\n")
    assert (ran.code, queue.stats("emails").ready) == (2, 0)
    assert "line 2" in ran.err
    ran = fleet("jobs", "put", "emails", "-", stdin=b"1\n" * 1500 + b"{oops\n")
    assert (ran.code, queue.stats("emails", cap=10_000).ready) == (7, 1000)
    assert "1000 jobs were put" in ran.err


@pytest.mark.parametrize("payload", ["{oops", "", "{'single': 1}"])
def test_a_payload_that_is_not_json_is_wrong_usage(fleet, queue, payload):
    """The shell eats quotes: say so."""
    ran = fleet("jobs", "put", "emails", payload)
    assert ran.code == 2
    assert "not JSON" in ran.err
    assert queue.stats("emails").ready == 0


@pytest.mark.parametrize("word", ["-5", "nan", "1e99", "soon"])
def test_a_delay_that_is_none_is_wrong_usage(fleet, word):
    """reliability C5."""
    assert fleet("jobs", "put", "emails", "1", f"--delay={word}").code == 2


def test_an_unknown_pipeline_gets_the_nearest_name(fleet):
    """reliability C2; a typo must not create a pipeline."""
    ran = fleet("jobs", "put", "email", "1")
    assert (ran.code, ran.out) == (2, "")
    assert 'Did you mean "emails"?' in ran.err


def test_a_pipeline_is_found_by_its_queue_name_and_by_the_jobs_it_still_holds(fleet, queue):
    """queue_name, and pipelines that left the manifest."""
    fleet("jobs", "put", "pdf", "1")
    assert queue.stats("pdf-tube").ready == 1
    assert fleet("jobs", "list", "pdf-tube").code == 0
    queue.put("legacy", 1)
    assert "legacy" not in fleet("jobs", "list", "legacy").err


def test_list_shows_states_reasons_and_masked_payloads(fleet, queue):
    """One line a job; secrets and control characters do not come through."""
    bury(queue, "KeyError: 'TZ' at reports.py:14\nTraceback …")
    queue.put("emails", {"password": "s3cret", "x": "\x1b[2J"}, delay=60)
    ran = fleet("jobs", "list", "emails")
    assert "KeyError: 'TZ' at reports.py:14" in ran.out
    assert "Traceback" not in ran.out
    assert "s3cret" not in ran.out
    assert "\x1b" not in ran.out
    listed = fleet("jobs", "list", "emails", "--state", "buried", "--json").json["jobs"]
    assert [job["state"] for job in listed] == ["buried"]
    assert listed[0]["payload"] == {"n": 0}


def test_show_prints_the_whole_reason(fleet, queue):
    """The traceback is read here."""
    (id,) = bury(queue, "KeyError: 'TZ'\nTraceback line")
    ran = fleet("jobs", "show", str(id))
    assert "Traceback line" in ran.out
    assert fleet("jobs", "show", str(id), "--json").json["attempt"] == 1


def test_a_job_that_is_not_there_is_exit_6(fleet):
    """Done or never put: nobody can say."""
    ran = fleet("jobs", "show", "999")
    assert ran.code == 6
    assert ran.err.startswith("fleet: error: no job 999")


def test_kick_moves_exactly_the_matching_jobs(fleet, queue):
    """By a text in the reason; the others stay buried."""
    bury(queue, "KeyError: 'TZ' at reports.py:14", 23)
    bury(queue, "Timeout after 5m", 5)
    ran = fleet("jobs", "kick", "emails", "--error", "KeyError: 'TZ'", "--json")
    assert ran.json["kicked"] == 23
    assert queue.stats("emails").buried == 5
    assert fleet("jobs", "kick", "emails", "--error", "Timeout%", "--json").json["kicked"] == 5


def test_kick_by_id(fleet, queue):
    """Only those."""
    ids = bury(queue, "x", 3)
    assert fleet("jobs", "kick", "emails", str(ids[0]), str(ids[2]), "--json").json["kicked"] == 2


def test_kick_wants_to_know_which(fleet, queue):
    """Neither nothing nor two ways at once."""
    bury(queue, "x")
    assert fleet("jobs", "kick", "emails").code == 2
    assert fleet("jobs", "kick", "emails", "1", "--all").code == 2
    assert queue.stats("emails").buried == 1


def test_kicking_over_a_thousand_needs_a_yes(fleet, queue):
    """Without a terminal and without --yes: exit 8, and nothing is done."""
    bury(queue, "x", 1001)
    ran = fleet("jobs", "kick", "emails", "--all")
    assert (ran.code, queue.stats("emails", cap=10_000).buried) == (8, 1001)
    assert fleet("jobs", "kick", "emails", "--all", "--yes", "--json").json["kicked"] == 1001


def test_deleting_all_needs_the_name_and_yes_is_not_enough(fleet, queue):
    """Nothing brings them back."""
    bury(queue, "not an address", 3)
    queue.put("emails", 1)
    assert fleet("jobs", "delete", "emails", "--all", "--yes").code == 8
    assert fleet("jobs", "delete", "emails", "--all", "--confirm", "email").code == 8
    assert queue.stats("emails").buried == 3
    ran = fleet("jobs", "delete", "emails", "--all", "--confirm", "emails")
    assert (ran.code, queue.stats("emails").buried, queue.stats("emails").ready) == (0, 0, 1)


def test_deleting_by_id_finds_the_job_in_any_state(fleet, queue):
    """A yes is enough for jobs that were named one by one."""
    buried = bury(queue, "x")[0]
    delayed = queue.put("emails", 1, delay=60)
    assert fleet("jobs", "delete", "emails", str(buried)).code == 8
    ran = fleet("jobs", "delete", "emails", str(buried), str(delayed), "-y", "--json")
    assert ran.json["deleted"] == 2


@pytest.mark.parametrize(
    ("typed", "code", "left"),
    [("emails\r", 0, 0), ("email\r", 8, 3), ("\r", 8, 3), ("\x04", 8, 3), ("\x03", 130, 3)],
)
def test_on_a_terminal_the_name_is_typed(queue, folder, typed, code, left):
    """The right name deletes; anything else, Ctrl-D and Ctrl-C change nothing."""
    bury(queue, "x", 3)
    child = pexpect.spawn(
        FLEET[0], [*FLEET[1:], "jobs", "delete", "emails", "--all"], cwd=str(folder), timeout=60
    )
    child.expect_exact("ago (#1), are deleted for good.")
    child.expect_exact("Type emails to go on")
    child.send(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, queue.stats("emails").buried) == (code, left)


@pytest.mark.parametrize(("typed", "code", "left"), [("y\r", 0, 0), ("n\r", 8, 1), ("\r", 8, 1)])
def test_on_a_terminal_a_moderate_change_is_one_question(queue, folder, typed, code, left):
    """No is the default."""
    (id,) = bury(queue, "x")
    child = pexpect.spawn(
        FLEET[0], [*FLEET[1:], "jobs", "delete", "emails", str(id)], cwd=str(folder), timeout=60
    )
    child.expect_exact("[y/N]")
    child.send(typed)
    child.expect(pexpect.EOF)
    child.close()
    assert (child.exitstatus, queue.stats("emails").buried) == (code, left)


def test_read_only_changes_nothing(fleet, queue, monkeypatch):
    """FLEET_READ_ONLY=1 refuses every verb that moves a job."""
    bury(queue, "x")
    monkeypatch.setenv("FLEET_READ_ONLY", "1")
    for words in (
        ("jobs", "put", "emails", "1"),
        ("jobs", "kick", "emails", "--all"),
        ("jobs", "release", "emails", "--all"),
        ("jobs", "bury", "emails", "--all"),
        ("jobs", "move", "emails", "--to", "pdf", "--all", "--yes"),
        ("jobs", "delete", "emails", "--all", "--confirm", "emails"),
        ("pause", "emails"),
        ("resume", "emails"),
        ("queue", "migrate"),
    ):
        assert fleet(*words).code == 8, words
    assert queue.stats("emails").buried == 1
    assert queue.stats("emails").paused == 0
    assert fleet("jobs", "list", "emails").code == 0


def test_pause_and_resume(fleet, queue):
    """Nothing is handed out meanwhile."""
    queue.put("emails", 1)
    assert fleet("pause", "emails", "--for", "10m").code == 0
    assert queue.reserve("emails") is None
    assert 590 < queue.stats("emails").paused <= 600
    assert "paused   at " in fleet("why", "emails").out
    assert fleet("resume", "emails").code == 0
    told = [json.loads(line) for line in fleet("events", "--json").out.splitlines()]
    assert [(e["kind"], e["text"]) for e in told] == [("pause", "emails for 10m"), ("resume", "emails")]
    assert queue.reserve("emails") is not None
    assert fleet("pause", "emails", "--for", "0").code == 2


def test_a_pause_takes_globs_and_all(fleet, queue):
    """As start, stop and restart do; a glob that means nothing is a slip."""
    queue.put("pdf", 1)
    assert fleet("pause", "e*").code == 0
    assert (queue.stats("emails").paused > 0, queue.stats("pdf").paused) == (True, 0)
    assert "fleet resume 'e*'" in fleet("pause", "e*").err
    assert fleet("resume", "all").code == 0
    assert queue.stats("emails").paused == 0
    assert fleet("pause", "x*").code == 2


def test_info_and_migrate(fleet):
    """Running it twice changes nothing; --sql needs no server."""
    assert fleet("queue", "info", "--json").json["backend"] == "sqlite"
    assert "tables    version " in fleet("queue", "info").out
    ran = fleet("queue", "migrate", "--json").json
    assert ran["found"] == ran["now"]
    assert "CREATE TABLE" in fleet("queue", "migrate", "--sql").out.upper()


def test_a_queue_without_tables_has_nothing_to_migrate(beanstalkd_dsn, tmp_path):
    """A deploy script says `fleet queue migrate` on every back end."""
    (tmp_path / "fleet.toml").write_text(f'[queue]\ndsn = "{beanstalkd_dsn}"\n[pipelines.x]\ncommand = "y"\n')
    ran = typed("queue", "migrate", folder=tmp_path)
    assert (ran.returncode, ran.stdout) == (0, "beanstalkd needs no tables: nothing to do\n")


def test_a_manifest_with_mistakes_is_exit_4(fleet, folder):
    """Every command that reads it says the same."""
    (folder / "fleet.toml").write_text('version = 1\n[pipelines.emails]\nnumproc = 2\ncommand = "x"\n')
    ran = fleet("jobs", "list", "emails")
    assert ran.code == 4
    assert "numprocs" in ran.err


def test_a_queue_that_is_away_is_exit_6(fleet, folder):
    """And says which."""
    text = MANIFEST.replace("sqlite:///queue.db", "sqlite:////nowhere/at/all/queue.db")
    (folder / "fleet.toml").write_text(text)
    ran = fleet("jobs", "list", "emails")
    assert ran.code == 6
    assert "nowhere" in ran.err
