"""One message to one recipient, delivered into a Maildir."""

from __future__ import annotations

import os
import re
from email.message import EmailMessage
from email.utils import localtime
from pathlib import Path
from string import Template

from fleet import Bury, Job

MAILDIR = Path("out/Maildir")
ADDRESS = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
TEXT = Template(Path(__file__).with_name("message.txt").read_text(encoding="utf-8"))


def deliver(job: Job) -> None:
    """Payload: {"name": "Ada Lindqvist", "address": "ada@example.org"}."""
    name, address = job.data["name"], job.data["address"]
    if not ADDRESS.fullmatch(address):
        raise Bury("not an address")  # no retry makes it one; `fleet jobs list emails` shows the reason
    message = EmailMessage()
    message["From"] = "fleet <demo@example.org>"
    message["To"] = f"{name} <{address}>"
    message["Subject"] = f"{name.split()[0]}, your demo is running"
    message["Date"] = localtime()
    message["Message-ID"] = f"<job-{job.id}@example.org>"
    message.set_content(TEXT.substitute(name=name, number=job.id))
    _drop(f"job-{job.id}", message.as_bytes())


def _drop(name: str, content: bytes) -> None:
    """
    Deliver as Maildir asks: written in tmp/, then moved to new/.

    `mailbox.Maildir.add` would choose a new name each time; with the job's own
    a repeated job replaces its message instead of sending a second one.
    """
    for folder in ("tmp", "new", "cur"):
        (MAILDIR / folder).mkdir(parents=True, exist_ok=True)
    partial = MAILDIR / "tmp" / f"{name}.{os.getpid()}"
    partial.write_bytes(content)
    partial.rename(MAILDIR / "new" / name)
