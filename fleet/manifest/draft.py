"""A first fleet.toml, as text with comments: made up, or from what is known of programs that run already."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_BARE = re.compile(r"[A-Za-z0-9_-]+")

FIRST = """\
# fleet.toml: what should run.  `fleet check` finds every mistake in it, `fleet plan` says what a change does.
version = 1
# project = "shop"                      # prefix of groups, files and logs: shop-hello

[queue]
dsn = "sqlite:///.fleet/queue.db"       # one host, no server needed
# dsn = "postgresql://shop@db.internal/shop"
# password = { file = "/etc/fleet/secrets/db" }   # never in the DSN

# [supervisor]                          # leave out: fleet runs a supervisord of its own in .fleet/
# url = "unix:///run/supervisor.sock"
# conf_dir = "/etc/supervisor/conf.d"

[defaults]                              # every key here can be repeated in a pipeline
timeout = "60s"                         # a job that takes longer is ended, and tried again
retries = { max = 5, first = "10s" }    # then it is buried, with the reason
# user = "shop"
# stop = { grace = "90s" }              # how long a worker may finish the job in hand
# recycle = { jobs = 1000, memory = "300MB" }     # leave after a job, a fresh one takes over

[pipelines.hello]
handler = "jobs:hello"                  # import path of a function that takes one Job
numprocs = 2
# rollout = "surge"                     # new settings: start the new ones before the old ones drain
# alerts = { oldest = "30s", buried = 1 }

# [pipelines.pdf]
# command = "php worker.php pdf"        # or any program, in any language
"""

HANDLER = '''\
"""What the workers of the pipeline hello do: fleet jobs put hello '{"name": "Ada"}'"""

from fleet import Job


def hello(job: Job) -> None:
    print("hello", job.data["name"])
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """One pipeline to be, with what was guessed about it."""

    name: str
    keys: Mapping[str, Any]  # plain values, and dicts for inline tables
    environment: Mapping[str, str] = field(default_factory=dict)
    guesses: tuple[str, ...] = ()  # a sentence each


def text_of(drafts: Iterable[Draft], *, source: str, supervisor: tuple[str, str] | None = None) -> str:
    """
    A manifest of *drafts*; a comment above each says what was guessed.

    *supervisor* is the URL and the conf_dir of the supervisord that is to run them.
    """
    lines = [
        f"# Made by fleet init from {_comment(source)}; comments say what was guessed.",
        "version = 1",
        "",
    ]
    lines += ["[queue]", 'dsn = "sqlite:///.fleet/queue.db"   # whose jobs fleet status shows']
    if supervisor is not None:
        url, conf_dir = supervisor
        lines += ["", "[supervisor]", f"url = {_value(url)}", f"conf_dir = {_value(conf_dir)}"]
    for draft in drafts:
        lines.append("")
        lines += [f"# guessed: {_comment(guess)}" for guess in draft.guesses]
        lines.append(f"[pipelines.{_key(draft.name)}]")
        lines += [f"{_key(key)} = {_value(value)}" for key, value in draft.keys.items()]
        if draft.environment:
            lines += ["", f"[pipelines.{_key(draft.name)}.environment]"]
            lines += [f"{_key(key)} = {_value(value)}" for key, value in draft.environment.items()]
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    # A JSON string is a TOML string but for DEL, which TOML wants escaped; whole numbers and flags are alike.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _comment(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
