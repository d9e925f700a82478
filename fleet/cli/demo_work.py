"""
The work of the demo, and the proof that it was done.

`work` says what there is to do, `tally` counts what became of it (the only
reader of files here), and `doubts` is pure: what does not add up, in words.
"""

from __future__ import annotations

import csv
import hashlib
import json
import mailbox
import os
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet.queue.job import PipelineStats

# The recipients of recipients.csv live here; any other address there is one of the invalid ones.
_DOMAINS = frozenset(["example.org", "example.com", "example.net"])

Work = dict[str, list[dict[str, str]]]  # the payloads of each pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted of one pipeline when its work was over."""

    pipeline: str
    put: int
    left: int  # ready, delayed or reserved still
    buried: int
    invalid: int  # of the jobs put, those that must end up buried
    right: int  # results that are as they must be
    wrong: tuple[str, ...] = ()  # names of those that are not

    @property
    def done(self) -> int:
        return self.put - self.left - self.buried


def doubts(tally: Tally) -> list[str]:
    """What does not add up, a sentence each; nothing when all of it does."""
    found = []
    if tally.left:
        found.append(f"{tally.left} of {tally.put} jobs were not done")
    if tally.buried != tally.invalid:
        found.append(f"{tally.buried} jobs are buried, where {tally.invalid} were invalid")
    if tally.right != tally.done:
        found.append(f"{tally.done} jobs were done, but {tally.right} results are right")
    found += [f"wrong: {name}" for name in tally.wrong]
    return found


def work(folder: Path) -> Work:
    """The payloads of each pipeline, in the order in which they are put."""
    with open(folder / "recipients.csv", encoding="utf-8", newline="") as file:
        recipients = list(csv.DictReader(file))
    return {
        "checksums": [{"path": path} for path in sorted(_library())],
        "emails": recipients,
        "wordcount": [{"text": f"texts/{text.name}"} for text in sorted((folder / "texts").glob("*.txt"))],
    }


def tally(folder: Path, pipeline: str, payloads: Sequence[Mapping[str, str]], stats: PipelineStats) -> Tally:
    """Look at each result of one pipeline, by other means than its worker used."""
    look, invalid = _LOOKS[pipeline]
    expected = [payload for payload in payloads if not invalid(payload)]
    right, wrong = look(folder, expected)
    return Tally(
        pipeline=pipeline,
        put=len(payloads),
        left=stats.ready + stats.delayed + stats.reserved,
        buried=stats.buried,
        invalid=len(payloads) - len(expected),
        right=right,
        wrong=tuple(wrong),
    )


def write_sums(folder: Path) -> Path:
    """Join the one-line files of the workers to one that `sha256sum -c` reads."""
    lines = sorted(
        (path.read_bytes() for path in (folder / "out/checksums").glob("*.sha256")),
        key=lambda line: line.split(maxsplit=1)[-1],
    )
    sums = folder / "out/SHA256SUMS"
    sums.parent.mkdir(exist_ok=True)
    sums.write_bytes(b"".join(lines))
    return sums


def _library() -> Iterator[str]:
    """Every .py file of the standard library; packages that were installed into it are not part of it."""
    for folder, below, files in os.walk(sysconfig.get_path("stdlib")):
        below[:] = [name for name in below if name not in ("site-packages", "dist-packages", "__pycache__")]
        for name in files:
            path = Path(folder, name)
            if path.suffix == ".py" and os.access(path, os.R_OK):
                yield str(path)


def _look_at_sums(folder: Path, expected: Sequence[Mapping[str, str]]) -> tuple[int, list[str]]:
    found = Counter(write_sums(folder).read_text("utf-8", "surrogateescape").splitlines())
    wanted = {f"{hashlib.sha256(Path(p['path']).read_bytes()).hexdigest()}  {p['path']}" for p in expected}
    right = sum(found[line] == 1 for line in wanted)
    return right, [line for line in found if line not in wanted or found[line] > 1]


def _look_at_mails(folder: Path, expected: Sequence[Mapping[str, str]]) -> tuple[int, list[str]]:
    if not (folder / "out/Maildir").is_dir():
        return 0, []
    box = mailbox.Maildir(folder / "out/Maildir", create=False)
    found = Counter(str(message["To"]) for message in box)
    wanted = {f"{p['name']} <{p['address']}>" for p in expected}
    right = sum(found[to] == 1 for to in wanted)
    return right, [f"mail to {to}" for to in found if to not in wanted or found[to] > 1]


def _look_at_counts(folder: Path, expected: Sequence[Mapping[str, str]]) -> tuple[int, list[str]]:
    results = {path.stem: path for path in (folder / "out/wordcount").glob("*.json")}
    right, wrong = 0, []
    for payload in expected:
        text = folder / payload["text"]
        result = results.pop(text.stem, None)
        if result is None:
            continue
        letters = (c if c.isalnum() else " " for c in text.read_text("utf-8").lower())
        if json.loads(result.read_bytes()) == Counter("".join(letters).split()):
            right += 1
        else:
            wrong.append(result.name)
    return right, wrong + sorted(path.name for path in results.values())


def _is_no_address(payload: Mapping[str, str]) -> bool:
    local, _, domain = payload["address"].rpartition("@")
    return not local or "@" in local or " " in local or domain not in _DOMAINS


def _never(payload: Mapping[str, str]) -> bool:  # noqa: ARG001
    return False


_Look = Callable[[Path, Sequence[Mapping[str, str]]], tuple[int, list[str]]]
_LOOKS: dict[str, tuple[_Look, Callable[[Mapping[str, Any]], bool]]] = {
    "checksums": (_look_at_sums, _never),
    "emails": (_look_at_mails, _is_no_address),
    "wordcount": (_look_at_counts, _never),
}
