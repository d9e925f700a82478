"""What a manifest means: defaults, overlays, paths."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fleet.manifest import Manifest, find
from fleet.manifest.explain import explain
from fleet.manifest.secrets import Secret
from fleet.manifest.values import Alerts, Autoscale, Logs, Recycle, Retries, Stop
from tests.manifest.conftest import Write, loaded, problems

SMALL = '[pipelines.emails]\nhandler = "shop.jobs.email:send"\n'


def test_two_lines_are_a_manifest(write: Write, tmp_path: Path) -> None:
    """Every other setting has a default."""
    manifest = loaded(write(SMALL))
    assert (manifest.project, manifest.supervisor, manifest.warnings) == ("", None, ())
    assert manifest.queue.dsn == f"sqlite:///{tmp_path}/.fleet/queue.db"
    assert manifest.state_dir == tmp_path / ".fleet"
    pipeline = manifest.pipelines["emails"]
    assert (pipeline.group, pipeline.queue_name, pipeline.numprocs, pipeline.room) == (
        "emails",
        "emails",
        1,
        1,
    )
    assert (pipeline.timeout, pipeline.ttr, pipeline.concurrency, pipeline.max_crashes) == (60, 60, 1, 3)
    assert pipeline.retries == Retries(max=5, first=10, factor=2, cap=3600, jitter=True)
    assert pipeline.stop == Stop(signal="TERM", grace=90, group=False)
    assert pipeline.logs == Logs(dir=tmp_path / ".fleet/logs", max_size=20_000_000, keep=5)
    assert (pipeline.recycle, pipeline.alerts, pipeline.rollout) == (Recycle(), Alerts(), "rolling")
    assert pipeline.directory == tmp_path


def test_the_whole_example_of_the_manual_is_understood(write: Write) -> None:
    """Every documented key, each with the value that it shows."""
    manifest = loaded(write(EXAMPLE), FLEET_HOST="jobs1")
    assert manifest.queue.dsn == "postgresql://shop@db.internal/shop"
    assert manifest.queue.password == Secret(file="/etc/fleet/secrets/db")
    assert manifest.supervisor is not None
    assert manifest.supervisor.conf_dir == Path("/etc/supervisor/conf.d")
    assert manifest.supervisor.url == "ssh://deploy@jobs1.internal/run/supervisor.sock"
    assert [*manifest.pipelines] == ["thumbs", "reports", "pdf"]  # emails runs on web1 only
    thumbs = manifest.pipelines["thumbs"]
    assert thumbs.group == "shop-thumbs"
    assert thumbs.autoscale == Autoscale(max=8, target_wait=10, cooldown=30)
    assert (thumbs.numprocs, thumbs.room, thumbs.rollout) == (2, 6, "surge")
    assert thumbs.stop == Stop(signal="TERM", grace=330, group=False)  # merged with [defaults]
    assert thumbs.recycle == Recycle(jobs=1000, age=21600, memory=300_000_000)
    assert thumbs.secrets["SENTRY_DSN"] == Secret(env="SENTRY_DSN", optional=True)
    assert manifest.pipelines["reports"].numprocs == 2
    assert loaded(manifest.path, FLEET_HOST="web1").pipelines["reports"].numprocs == 1
    pdf = manifest.pipelines["pdf"]
    assert (pdf.handler, pdf.user, pdf.stop.group) == (None, "www-data", True)
    assert pdf.supervisor == {"startsecs": "3", "umask": "027"}
    (schedule,) = manifest.schedules
    assert (schedule.timezone, schedule.payload, schedule.catch_up) == (
        "Europe/Paris",
        {"kind": "daily"},
        "once",
    )


def test_defaults_lie_under_each_pipeline(write: Write) -> None:
    """Inline tables merge key by key, arrays replace, a secret is replaced as a whole."""
    pipeline = loaded(
        write(
            '[defaults]\nstop = { signal = "INT", grace = "2m" }\nredact = ["a"]\n'
            '[defaults.environment]\nA = "1"\nB = "1"\n'
            '[defaults.secrets]\nK = { file = "/k" }\n'
            f'{SMALL}stop = {{ grace = "3m" }}\nredact = ["b"]\n'
            'environment = { B = "2" }\nsecrets = { K = { env = "K" } }\n'
        )
    ).pipelines["emails"]
    assert pipeline.stop == Stop(signal="INT", grace=180, group=False)
    assert pipeline.redact == ("b",)
    assert pipeline.environment == {"A": "1", "B": "2"}
    assert pipeline.secrets == {"K": Secret(env="K")}


def test_an_overlay_lies_over_the_manifest(write: Write) -> None:
    """fleet.production.toml says only what is different there."""
    write('[pipelines.emails]\nnumprocs = 8\n[queue]\npassword = { env = "P" }\n', "fleet.production.toml")
    path = write(f'[queue]\ndsn = "mysql://u@h/d"\npassword = {{ file = "/p" }}\n{SMALL}numprocs = 2\n')
    assert loaded(path).pipelines["emails"].numprocs == 2
    production = loaded(path, env="production")
    assert production.pipelines["emails"].numprocs == 8
    assert production.queue.password == Secret(env="P")


def test_a_problem_in_an_overlay_is_shown_there(write: Write) -> None:
    """The file, the line and the text are the overlay's."""
    write("\n[pipelines.emails]\nnumprocs = 0\n", "fleet.production.toml")
    (problem,) = problems(write(SMALL), env="production")
    assert (problem.file, problem.line, problem.text) == ("fleet.production.toml", 3, "numprocs = 0")


@pytest.mark.parametrize(
    ("written", "dsn"),
    [
        ("sqlite:///jobs.db", "sqlite:///{root}/jobs.db"),
        ("sqlite:///var/jobs.db?x=1", "sqlite:///{root}/var/jobs.db?x=1"),
        ("sqlite:////var/jobs.db", "sqlite:////var/jobs.db"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("beanstalkd://127.0.0.1:11300", "beanstalkd://127.0.0.1:11300"),
    ],
)
def test_a_relative_sqlite_file_lies_beside_the_manifest(
    write: Write, tmp_path: Path, written: str, dsn: str
) -> None:
    """Commands are run from many folders; the queue is one."""
    manifest = loaded(write(f'[queue]\ndsn = "{written}"\n{SMALL}'))
    assert manifest.queue.dsn == dsn.format(root=tmp_path)


def test_grace_follows_the_timeout(write: Write) -> None:
    """Who allows a job more time does not have to say it twice."""
    assert loaded(write(f'{SMALL}timeout = "10m"\n')).pipelines["emails"].stop.grace == 630


def test_a_system_wide_supervisord_keeps_logs_in_var_log(write: Write) -> None:
    """A private one keeps them beside the manifest."""
    assert loaded(write(f"[supervisor]\n{SMALL}")).pipelines["emails"].logs.dir == Path("/var/log/fleet")


def test_the_manifest_is_found_upward_to_the_repository(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As git finds its folder; the first one above counts."""
    path = write(SMALL)
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    assert find(None) == path
    assert find(str(tmp_path)) == path
    (tmp_path / "a" / ".git").mkdir()
    from fleet.errors import ManifestError

    with pytest.raises(ManifestError, match=r"E001 no fleet\.toml in .*fleet init"):
        find(None)
    with pytest.raises(ManifestError, match=r"E001 other\.toml does not exist"):
        find("other.toml")


def test_a_setting_says_where_it_comes_from(write: Write) -> None:
    """The place that holds first, then those that it overrides; passwords stay hidden."""
    write("[pipelines.emails]\nnumprocs = 8\n", "fleet.production.toml")
    manifest = loaded(write(f"[defaults]\nnumprocs = 1\n{SMALL}numprocs = 2\n"), env="production")
    found = explain(manifest, "pipelines.emails.numprocs")
    assert found is not None
    assert (found.value, found.places) == (
        "8",
        (
            "fleet.production.toml:2:1  numprocs = 8",
            "fleet.toml:5:1  numprocs = 2",
            "fleet.toml:2:1  numprocs = 1",
        ),
    )
    default = explain(manifest, "pipelines.emails.stop.grace")
    assert default is not None
    assert (default.value, default.places) == ("90.0", ())
    assert explain(manifest, "pipelines.emails.nothing") is None
    assert explain(manifest, "group") is None


def test_the_door_is_cheap_until_a_manifest_is_loaded() -> None:
    """Commands that only need the types do not pay for pydantic, and nobody pays for jinja2 here."""
    code = "import sys, fleet.manifest; print(sorted({'pydantic', 'jinja2', 'cronsim'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_five_thousand_pipelines_load_in_time(write: Write) -> None:
    """The most that fit into a manifest; one more is told with the limit."""
    text = "".join(f'[pipelines.p{n}]\nhandler = "x:y"\nstop = {{ grace = "2m" }}\n' for n in range(5000))
    path = write(text)
    begun = time.process_time()
    assert len(loaded(path).pipelines) == 5000
    assert time.process_time() - begun < 4  # 2 s on an idle machine; this one is shared
    (problem,) = problems(write(f'{text}[pipelines.more]\nhandler = "x:y"\n'))
    assert problem.code == "E009"
    assert "at most 5000" in problem.message


def test_secrets_never_show_in_a_repr(write: Write) -> None:
    """A manifest may be logged; what it names may not."""
    manifest: Manifest = loaded(write(f'[queue]\ndsn = "mysql://u@h/d"\npassword = {{ env = "P" }}\n{SMALL}'))
    assert "hunter2" not in repr(manifest)
    assert manifest.queue.password is not None
    assert manifest.queue.password.read({"P": "hunter2"}) == "hunter2"
    assert json.loads(json.dumps(manifest.queue.password.spec())) == {"env": "P"}
    assert os.environ.get("P") is None


EXAMPLE = """\
version = 1
project = "shop"
[queue]
dsn = "${FLEET_DSN:-postgresql://shop@db.internal/shop}"
password = { file = "/etc/fleet/secrets/db" }
keep_done = "24h"
[supervisor]
url = "unix:///run/supervisor.sock"
conf_dir = "/etc/supervisor/conf.d"
[defaults]
user = "shop"
directory = "/srv/shop/current"
python = "/srv/shop/venv/bin/python"
numprocs = 1
timeout = "60s"
retries = { max = 5, first = "10s", factor = 2, cap = "1h", jitter = true }
stop = { signal = "TERM", grace = "90s" }
recycle = { jobs = 1000, age = "6h", memory = "300MB" }
logs = { dir = "/var/log/fleet", max_size = "20MB", keep = 5, format = "text" }
redact = ["password", "token", "email"]
[defaults.environment]
DJANGO_SETTINGS_MODULE = "shop.settings"
[defaults.secrets]
SMTP_PASSWORD = { file = "/etc/fleet/secrets/smtp" }
SENTRY_DSN = { env = "SENTRY_DSN", optional = true }
STRIPE_KEY = { credential = "stripe" }
[hosts.web1]
supervisor = "unix:///run/supervisor.sock"
[hosts.jobs1]
supervisor = "ssh://deploy@jobs1.internal/run/supervisor.sock"
[pipelines.emails]
handler = "shop.jobs.email:send"
numprocs = 4
hosts = ["web1"]
alerts = { oldest = "30s", buried = 1 }
[pipelines.thumbs]
handler = "shop.jobs.images:thumb"
numprocs = 2
autoscale = { max = 8, target_wait = "10s", cooldown = "30s" }
hosts = ["jobs1"]
timeout = "5m"
stop = { grace = "5m30s" }
rollout = "surge"
[pipelines.reports]
handler = "shop.jobs.reports:build"
numprocs = { jobs1 = 2, web1 = 1 }
hosts = ["jobs1", "web1"]
[pipelines.pdf]
command = "php /srv/shop/bin/worker.php pdf"
queue_name = "pdf"
numprocs = 2
user = "www-data"
stop = { signal = "INT", grace = "90s", group = true }
supervisor = { startsecs = 3, umask = "027" }
[[schedules]]
name = "daily-report"
pipeline = "reports"
cron = "0 6 * * 1-5"
timezone = "Europe/Paris"
payload = { kind = "daily" }
catch_up = "once"
"""
