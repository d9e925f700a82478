"""A live screen over hand-made snapshots, for tests that need a real terminal."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from fleet.dashboard import live
from fleet.dashboard.facts import Snapshot
from fleet.dashboard.look import Look
from tests.dashboard.scenes import SCENES


class Hands:
    """Tells what it was asked for."""

    def read(self, verb: str, name: str) -> tuple[str, list[str]]:
        return f"{verb} {name}", [f"line {number} about {name}" for number in range(100)]

    def act(self, verb: str, words: tuple[str, ...]) -> tuple[str, list[str]]:
        if words[0] == "stop":
            return "exit 7", ["it did not stop"]
        return f"did {verb} {' '.join(words)}", []


def main() -> None:
    scene = SCENES[sys.argv[1]]
    fail_at = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    count = 0

    def ask(previous: Snapshot | None, window: float) -> Snapshot:
        nonlocal count
        count += 1
        if count == fail_at:
            raise RuntimeError("the source is broken")
        if scene is SCENES["backlog"] and count > 1:  # a database that takes its time
            time.sleep(6)
        return replace(scene, taken_at=time.time(), window=window)

    look = Look(interval=0.2)
    print("before the screen")
    reason = live.run(
        ask,
        look=look,
        hands=Hands(),
        colour=not os.environ.get("NO_COLOR"),
        farewell=lambda last: f"{last.project} goes on; try: fleet why emails",
    )
    print(f"ended: {reason}")


main()
