"""
The canary: secrets are planted wherever one may lie, everything is run, and everything is searched.

What was searched: every output of every command, every file below the fleet's
folder, each process's command line, and the environment of each process but
those of a command that was promised its secrets.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

import fleet
from fleet.cli.app import run
from fleet.manager.stop import down
from fleet.supervisor import private
from tests.waiting import eventually

PASSWORD, SECRET, TOKEN, REDACTED = "canary-dsn-1f", "canary-file-2e", "canary-exec-3d", "canary-key-4c"
HANDLER = """\
import os
def send(job):
    assert os.environ["SMTP"], "the secret is there"
    if job.data["fail"]:
        raise ValueError(f"cannot log in with {job.data['password']!r}")
"""
MANIFEST = """\
project = "shop"
[queue]
dsn = "{dsn}"
password = {{ file = "secrets/dsn" }}
[defaults]
logs = {{ format = "json", log_jobs = true }}
redact = ["password"]
[pipelines.emails]
handler = "shop:send"
retries = {{ max = 0 }}
[pipelines.emails.secrets]
SMTP = {{ file = "secrets/smtp" }}
[pipelines.php]
command = "/bin/sleep 999"
[pipelines.php.secrets]
TOKEN = {{ file = "secrets/token" }}
"""
# `jobs export` is left out: it writes payloads as they are, for `jobs put` to read.
LINES = [
    *(
        ["check", *more]
        for more in ([], ["--json"], ["--explain", "queue.password"], ["--explain", "queue.dsn"])
    ),
    *(["plan", *more] for more in ([], ["--diff"], ["--json"])),
    *(["render", *more] for more in ([], ["--json"])),
    *(["status", "--once", *more] for more in ([], ["--procs"], ["--json"])),
    ["status", "--html", "-"],
    ["status", "--check"],
    *(["why", "emails", *more] for more in ([], ["--json"])),
    *(["jobs", "list", "emails", *more] for more in ([], ["--json"])),
    ["logs"],
    ["logs", "--json"],
    ["events"],
    ["events", "--json"],
    ["doctor"],
    ["doctor", "--json"],
    ["queue", "info"],
    ["queue", "info", "--json"],
    ["queue", "migrate", "--sql"],
    ["scale", "emails=2"],
    ["--yes", "restart", "emails"],
    ["--yes", "apply"],
    ["--yes", "apply", "--json"],
    ["rollback", "--list"],
    ["pause", "emails"],
    ["resume", "emails"],
    ["jobs", "kick", "emails", "--all"],
    ["version"],
]


@dataclass(slots=True)
class Site:
    root: Path
    said: dict[str, str] = field(default_factory=dict)
    processes: list[tuple[str, list[str], dict[str, str]]] = field(default_factory=list)


def say(site: Site, *words: str, codes: tuple[int, ...] = (0, 3)) -> None:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = run(["-m", str(site.root / "fleet.toml"), *words])
    site.said[" ".join(words)] = site.said.get(" ".join(words), "") + out.getvalue()
    assert code in codes, f"{words}: {code}\n{out.getvalue()}"


@pytest.fixture
def site(postgres_dsn: str) -> Iterator[Site]:
    """A fleet with secrets in every place, whose jobs fail, after every command was run on it."""
    with tempfile.TemporaryDirectory(prefix="fleet-canary-") as folder:
        site = Site(Path(folder))
        secrets = site.root / "secrets"
        secrets.mkdir(mode=0o700)
        for name, value in (("dsn", PASSWORD), ("smtp", SECRET), ("token", TOKEN)):
            (secrets / name).write_text(f"{value}\n")
            (secrets / name).chmod(0o600)
        (site.root / "shop.py").write_text(HANDLER)
        dsn = f"{postgres_dsn}?prefix=canary"
        (site.root / "fleet.toml").write_text(MANIFEST.format(dsn=dsn))
        old = os.umask(0)  # the least careful shell
        try:
            say(site, "up", "-v")
            with fleet.connect(dsn) as queue:
                queue.put_many("emails", [{"fail": fail, "password": REDACTED} for fail in (0, 1, 1)])
                eventually(lambda: queue.stats("emails").buried == 2, within=30)
            say(site, "jobs", "list", "emails", "--state", "buried")
            for line in LINES:
                say(site, *line)
            for process in psutil.process_iter(["pid"]):
                with contextlib.suppress(psutil.Error):
                    if process.cwd().startswith(str(site.root)):
                        site.processes.append((process.name(), process.cmdline(), process.environ()))
            (secrets / "dsn").chmod(0o644)  # and the errors: a secret that everybody may read
            say(site, "-v", "jobs", "list", "emails", codes=(8,))
            (secrets / "dsn").chmod(0o600)
            broken = site.root / "fleet.toml"
            good = broken.read_text()
            broken.write_text(good.replace(postgres_dsn, "postgresql://ada@127.0.0.1:1/x"))
            for line in (
                ["jobs", "list", "emails"],
                ["status", "--once"],
                ["doctor"],
                ["-v", "queue", "info"],
            ):
                say(site, *line, codes=(0, 3, 6))
            broken.write_text(good)
            yield site
        finally:
            os.umask(old)
            down(private.home(site.root / ".fleet"), now=True)


CANARIES = (PASSWORD, SECRET, TOKEN, REDACTED)
MODES = {
    "conf.d/fleet.shop-emails.worker.json": 0o600,
    "conf.d/fleet.shop-php.worker.json": 0o600,
    "conf.d/fleet.*.conf": 0o644,
    "conf.d/.fleet.shop.revision.*.json": 0o600,
    "conf.d/.fleet.shop.applied.json": 0o644,
    "conf.d/.fleet.lock": 0o600,
    "start.lock": 0o600,
    "supervisord.conf": 0o600,
    "supervisor.sock": 0o700,
    "events.jsonl": 0o644,
}


def test_no_secret_comes_out_anywhere(site: Site) -> None:
    """One test, because the site is dear and each worker of a parallel run would make its own."""
    no_command_prints_a_secret(site)
    no_file_holds_a_secret(site)
    no_command_line_or_foreign_environment_holds_a_secret(site)
    the_canaries_were_really_there(site)
    each_file_has_its_mode(site.root / ".fleet")


def no_command_prints_a_secret(site: Site) -> None:
    """Text, --json, --html, -v, errors: the manifest's secrets and the payload's redacted values."""
    assert [line for line, text in site.said.items() for canary in CANARIES if canary in text] == []


def no_file_holds_a_secret(site: Site) -> None:
    """Rendered files, specs, logs, history, events, the lock, supervisord's own log: all but its source."""
    for path in site.root.rglob("*"):
        if path.is_file() and path.parent.name != "secrets":
            data = path.read_bytes()
            assert [canary for canary in CANARIES if canary.encode() in data] == [], path


def no_command_line_or_foreign_environment_holds_a_secret(site: Site) -> None:
    """S5, S6: what `ps` shows to everybody; only the command that asked for its secret has it."""
    words = [" ".join(command) for _, command, _ in site.processes]
    for program in ("supervisord", "fleet-worker", "sleep"):
        assert any(program in line for line in words), words
    assert [line for line in words for canary in CANARIES if canary in line] == []
    for _, command, environ in site.processes:
        for name, value in environ.items():
            is_its_own = name in ("TOKEN", "FLEET_DSN") and command[0].endswith("sleep")
            for canary in CANARIES:
                assert canary not in value or is_its_own, f"{command}: {name}"


def the_canaries_were_really_there(site: Site) -> None:
    """A grep that could find nothing would prove nothing: masked where they stood, and at work."""
    assert any(environ.get("TOKEN") == TOKEN for _, _, environ in site.processes)
    assert "cannot log in with '***'" in site.said["jobs list emails"]
    assert '"password": "***"' in site.said["jobs list emails --json"]
    assert "postgresql://" in site.said["queue info"]
    assert "secrets/dsn" in site.said["-v jobs list emails"]


def each_file_has_its_mode(state: Path) -> None:
    """What may hold settings is for its worker alone; the folder keeps everybody out of the rest."""
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    for pattern, mode in MODES.items():
        found = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in state.glob(pattern)}
        assert set(found.values()) == {oct(mode)}, (pattern, found)
    for path in state.rglob("*"):
        assert not path.stat().st_mode & 0o022, path
