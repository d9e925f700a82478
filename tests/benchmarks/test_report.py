"""The pure part of the benchmarks, and the one command on a tiny scale."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import targets
from benchmarks.contender import SIZE, number_of, payload
from benchmarks.report import Problem, Row, Section, Stat, Target, document, number, ratios, table, verdict

ROOT = Path(__file__).parents[2]


def row(*wanted: Target, **cells: Stat | Problem) -> Row:
    return Row(title="put", unit="jobs/s", cells=cells, targets=wanted)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.4123, "0.412"), (5.313, "5.31"), (87.25, "87.2"), (999.4, "999"), (8312.7, "8,310")],
)
def test_a_figure_shows_the_three_digits_that_matter(value: float, text: str):
    assert number(value) == text


def test_several_runs_show_their_median_and_their_spread():
    assert str(Stat((300.0, 100.0, 200.0))) == "**200** (100 … 300)"
    assert str(Stat((2.0,))) == "2"


def test_a_target_holds_our_median_against_the_other_ones():
    """The bound itself counts as met."""
    least = Target(factor=0.85, versus="limit")
    assert verdict(row(least, fleet=Stat((85.0,)), limit=Stat((100.0,)))) == "pass"
    assert verdict(row(least, fleet=Stat((84.0,)), limit=Stat((100.0,)))) == "miss"


def test_less_can_be_better():
    most = Target(factor=0.5, at_least=False)
    assert verdict(row(most, fleet=Stat((0.4,)))) == "pass"
    assert verdict(row(most, fleet=Stat((0.6,)))) == "miss"


def test_every_target_of_a_row_must_be_met():
    both = (Target(factor=0.5, versus="limit"), Target(factor=15, versus="huey"))
    cells = {"fleet": Stat((100.0,)), "limit": Stat((100.0,)), "huey": Stat((10.0,))}
    assert verdict(row(*both, **cells)) == "miss"


def test_what_was_not_measured_is_open_and_never_a_pass():
    least = Target(factor=2, versus="pgqueuer")
    assert verdict(row(least, fleet=Stat((100.0,)))) == "open"
    assert verdict(row(least, fleet=Stat((100.0,)), pgqueuer=Problem("no pip"))) == "open"


def test_a_run_of_ours_that_failed_is_a_miss_with_its_reason():
    least = Target(factor=0.85, versus="limit")
    failed = row(least, fleet=Problem("no such table"), limit=Stat((100.0,)))
    assert verdict(failed) == "miss"
    assert "failed: no such table" in table([failed])[2]
    assert ratios(failed) == []


def test_a_contender_without_such_a_thing_has_an_empty_cell():
    line = table([row(fleet=Stat((2.0,)), limit=Stat((4.0,)), huey=Problem())])[2]
    assert line == "| put, jobs/s | 2 | 4 | huey – | 0.5 × limit | – |  |"


def test_the_report_has_facts_first_and_a_table_for_each_back_end():
    text = document(
        [("machine", "two cores")],
        [
            Section(title="sqlite", about="WAL.", rows=[row(fleet=Stat((2.0,)))], notes=["huey: no pip"]),
            Section(title="mariadb", about="Not measured: not installed.", rows=()),
        ],
    )
    assert text.index("- machine: two cores") < text.index("## sqlite") < text.index("## mariadb")
    assert "- huey: no pip" in text
    assert "Not measured: not installed." in text


def test_every_target_names_a_contender_that_is_measured():
    """A misspelt name would leave its row open for ever."""
    known = {"", "limit", "huey", "pgqueuer", "greenstalk", targets.AT_20_000}
    for rows in targets.TARGETS.values():
        assert {target.versus for wanted in rows.values() for target in wanted} <= known


def test_a_payload_has_its_size_and_tells_its_number():
    for value in (0, 7, 999_999):
        assert len(payload(value)) == SIZE
        assert number_of(payload(value)) == value


def test_one_command_measures_and_prints_one_table():
    """Real processes on a real file; the figures of so small a run mean nothing."""
    command = [sys.executable, "-m", "benchmarks", "--backend", "sqlite", "--only", "put"]
    done = subprocess.run(
        [*command, "--scale", "0.01", "--runs", "1"],
        check=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| put")]
    assert "failed" not in line
    assert "× limit" in line
