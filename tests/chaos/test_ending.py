"""A run tells how it ended, also when it cannot say so itself."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.arena import ROOT

_ENDS = {
    "os.kill(os.getpid(), signal.SIGKILL)": "SIGKILL",
    "os.kill(os.getppid(), signal.SIGHUP) or time.sleep(60)": "KeyboardInterrupt: SIGHUP",
    "1 / 0": "ZeroDivisionError: division by zero",
}


@pytest.mark.parametrize("work", _ENDS)
def test_no_run_ends_without_a_verdict(work: str) -> None:
    """Killed, hung up on or broken: exit code 1, and a last line on stdout that names the cause."""
    script = (
        f"import os, signal, time\nfrom tests.chaos.__main__ import watched\nexit(watched(lambda: {work}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        f"VERDICT none      the run ended before it was judged: {_ENDS[work]}"
    ]


def test_a_run_that_came_to_its_end_speaks_for_itself() -> None:
    """Its exit code is handed on."""
    script = "from tests.chaos.__main__ import watched\nexit(watched(lambda: 3))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (3, b"")
