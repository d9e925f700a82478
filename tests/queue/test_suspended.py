"""A host that slept: CLOCK_BOOTTIME ran on, as all other clocks did, and CLOCK_MONOTONIC stood still."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# A time namespace moves the clocks of the process that enters it; it may have one thread only.
_ASLEEP = """\
import ctypes, os, sys, time
import fleet
from fleet.errors import LeaseLost

def asleep():
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()

dsn, seconds = sys.argv[1], int(sys.argv[2])
libc, new_time = ctypes.CDLL(None, use_errno=True), 0x80
with fleet.connect(dsn) as queue:
    queue.put("slept", 1, ttr=60)
    job = queue.reserve("slept", timeout=5)
    before = asleep()
    if libc.unshare(new_time):
        sys.exit(f"unshare: {os.strerror(ctypes.get_errno())}")
    with open("/proc/self/timens_offsets", "w") as offsets:
        offsets.write(f"boottime {seconds} 0")
    with open("/proc/self/ns/time_for_children") as namespace:
        if libc.setns(namespace.fileno(), new_time):
            sys.exit(f"setns: {os.strerror(ctypes.get_errno())}")
    print(round(asleep() - before))
    with fleet.connect(dsn) as other:
        again = other.reserve("slept", timeout=0)
        print(again is not None and again.attempt)
    try:
        job.delete()
        print("settled")
    except LeaseLost:
        print("LeaseLost")
"""


def after_a_sleep(dsn: str, seconds: int) -> list[str]:
    """For how long it slept; the attempt that another queue of that host got then; what became of ours."""
    done = subprocess.run(
        [sys.executable, "-c", _ASLEEP, dsn, f"{seconds}"], capture_output=True, text=True, timeout=30
    )
    if done.returncode and "not permitted" in done.stderr:
        pytest.skip(f"only root may enter a time namespace: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_lease_in_a_file_is_over_for_everybody_after_a_sleep(tmp_path: Path) -> None:
    """F49: the first to come gets the job, and who held it is refused; a short sleep costs nothing."""
    assert after_a_sleep(f"sqlite:///{tmp_path}/long.db", 3600) == ["3600", "2", "LeaseLost"]
    assert after_a_sleep(f"sqlite:///{tmp_path}/short.db", 20) == ["20", "False", "settled"]


@pytest.mark.server
def test_a_handle_of_beanstalkd_is_over_after_a_sleep(beanstalkd_dsn: str) -> None:
    """F49: it would delete a job that another worker has put aside meanwhile, so nothing is sent."""
    assert after_a_sleep(beanstalkd_dsn, 20) == ["20", "False", "settled"]
    assert after_a_sleep(beanstalkd_dsn, 3600) == ["3600", "False", "LeaseLost"]
