"""The lock that threads of one queue share, and what a signal may do to it."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import fleet
from fleet.queue import guard


def test_an_exception_at_any_line_leaves_the_lock_to_other_threads(tmp_path: Path):
    """A signal handler's exception may come before each line; a lock that stays taken stops everybody."""

    class Struck(BaseException): ...

    struck = 0
    with fleet.connect(f"sqlite:///{tmp_path}/jobs.db") as queue:
        for line in range(1, 20):
            left = line

            def trace(frame: FrameType, event: str, _: Any) -> Any:
                nonlocal left
                if frame.f_code.co_filename != guard.__file__:
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        raise Struck
                return trace

            before = sys.gettrace()
            sys.settrace(trace)
            try:
                queue.stats("emails")
            except Struck:
                struck += 1
            finally:
                sys.settrace(before)
            other = threading.Thread(target=queue.stats, args=("emails",), daemon=True)
            other.start()
            other.join(10)
            assert not other.is_alive()
    assert struck > 1
