"""The checker is itself tested: real workers with a planted bug, and the rule that sees it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.chaos.arena import ROOT
from tests.chaos.planted import BUGS
from tests.chaos.possible import why_not
from tests.chaos.run import Settings, run

# What each bug breaks first.
EXPECTED = {
    "no_fence": "L4",
    "delete_at_claim": "L1",
    "ack_before_commit": "L5",
    "lost_put": "L1",
    "attempts_reset": "L10",
    "order_by_id_only": "L6",
    "last_in_first_out": "L6",
    "no_rescue": "L8",
    "early_rescue": "L3",
    "late_rescue": "L9",
    "double_claim": "L3",
    "dropped_release": "L1",
    "swallowed_error": "L1",
    "early_start": "L7",
    "bad_payload": "L2",
    "synchronous_normal": "L1",
}


def test_every_planted_bug_has_an_expected_rule() -> None:
    """A bug that is planted and not looked for proves nothing."""
    assert set(EXPECTED) == set(BUGS)
    assert len(BUGS) >= 10


# Bugs that only some fault or some work brings out.
SPECIAL: dict[str, dict[str, Any]] = {
    # A zombie whose job is being run by somebody else when it comes back.
    "no_fence": {
        "faults": ("stop-step",),
        "steps": ("handler.done",),
        "kinds": ("long",),
        "jobs": 12,
    },
    # Jobs that are still waiting when the power goes.
    "synchronous_normal": {"faults": ("power",), "count": 1, "seconds": 2.0, "kinds": ("late", "slow")},
    "no_rescue": {"faults": ("kill-step",), "steps": ("handler.begun",)},
    # Work that goes on until the lease of a dead worker is over for four seconds.
    "late_rescue": {
        "faults": ("kill-step",),
        "steps": ("handler.begun",),
        "seconds": 10.0,
        "kinds": ("quick",),
    },
}


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", sorted(EXPECTED))
def test_a_planted_bug_is_flagged(bug: str) -> None:
    """The run fails, and names the rule and the job.  A fault may miss its moment: then once more."""
    settings: dict[str, Any] = {
        "jobs": 200,
        "faults": ("kill",),
        "count": 2,
        "seconds": 1.2,
        **SPECIAL.get(bug, {}),
    }
    if reason := next(filter(None, map(why_not, settings["faults"])), ""):
        pytest.skip(reason)
    flagged: set[str] = set()
    for seed in (10, 12, 20):  # whose last fault comes late
        report = run(
            Settings(
                backend="sqlite",
                seed=seed,
                ttr=1.0,
                workers=3,
                patience=2.0,
                bug=bug,
                **settings,
            )
        )
        flagged |= {violation.rule for violation in report.verdict.violations if violation.uid}
        shutil.rmtree(report.folder, ignore_errors=True)
        if EXPECTED[bug] in flagged:
            return
    assert EXPECTED[bug] in flagged


@pytest.mark.slow
def test_the_command_fails_and_names_rule_and_job() -> None:
    """As a person would type it; the files that it keeps say the same again."""
    command = [sys.executable, "-m", "tests.chaos"]
    settings = "--bug lost_put --faults kill --seconds 1.2 --jobs 200 --count 2 --ttr 1 --patience 2"
    done = subprocess.run(
        [*command, *settings.split()], cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )
    lines = done.stdout.splitlines()
    folder = lines[0].split()[-1]
    try:
        assert done.returncode == 1, done.stdout
        named = [line for line in lines if re.match(r"  L1 job [0-9a-f]{8}: ", line)]
        assert named, done.stdout
        assert any(line.startswith("VERDICT FAIL") for line in lines)
        again = subprocess.run(
            [*command, "--verify", folder], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
        )
        assert again.returncode == 1
        assert {line.strip() for line in named} <= set(again.stdout.splitlines())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
