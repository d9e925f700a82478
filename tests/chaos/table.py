"""A report as the table that a person reads.  Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from tests.chaos.run import Report

_SHOWN = 20  # violations


def table(report: Report, command: str) -> str:
    verdict, settings = report.verdict, report.settings
    puts, runs = verdict.puts, verdict.runs
    causes, unexplained = _duplicates(report)
    rescues = sorted(verdict.rescues)
    lines = [
        f"backend {report.about}  seed {settings.seed}  "
        f"{report.took:.1f} s, judged in {report.judged_in:.1f} s",
        f"puts    tried {sum(puts[p] for p in ('accepted', 'rejected', 'unknown')):,}  "
        f"accepted {puts['accepted']:,}  rejected {puts['rejected']:,}  unknown {puts['unknown']:,}  "
        f"(recovered {puts['recovered']:,})",
        f"faults  planned {settings.count}  proven {_proven(report)}  "
        f"met no job {verdict.idle.total()}   {_counted(verdict.faults)}",
        f"runs    starts {runs['starts']:,}  finished {runs['finished']:,}  acks ok {runs['acks']:,}  "
        f"fenced {runs['fenced']:,}  unconfirmed {runs['unconfirmed']:,}  renewed {runs['renewed']:,}",
        f"lost {verdict.count('L1')}   ghost {verdict.count('L2')}   two leases {verdict.count('L3')}   "
        f"late verbs {verdict.count('L4')}",
        f"begun again {sum(causes.values())} = {_counted(causes, ' + ') or 'none'};  unexplained "
        f"{unexplained}",
        f"order inversions {verdict.count('L6')}   early starts {verdict.count('L7')}   "
        f"left over {verdict.count('L8')}   late rescues {verdict.count('L9')}   "
        f"wrong burials {verdict.count('L10')}",
    ]
    lines += [
        f"not possible here: {kind} ({count}): {reason}"
        for (kind, reason), count in sorted(verdict.impossible.items())
    ]
    if rescues:
        lines.append(
            f"rescue p50 {_at(rescues, 0.5):.1f} s  p99 {_at(rescues, 0.99):.1f} s  max {rescues[-1]:.1f} s"
        )
    lines += [f"  {violation}" for violation in verdict.violations[:_SHOWN]]
    if len(verdict.violations) > _SHOWN:
        lines.append(f"  … and {len(verdict.violations) - _SHOWN} more")
    lines.append(f"VERDICT {'pass' if verdict.passed else 'FAIL'}      replay: {command}")
    if not verdict.passed:
        lines.append(f"files   {report.folder}    again: python -m tests.chaos --verify {report.folder}")
    return "\n".join(lines)


def summary(reports: Mapping[str, Report | str]) -> str:
    """One line for each back end, and one for all of them; a text stands for a run that was not possible."""
    head = (
        "",
        "jobs",
        "accepted",
        "unknown",
        "faults",
        "lost",
        "ghosts",
        "begun again",
        "unexplained",
        "else",
        "",
    )
    rows: list[tuple[str, ...]] = [head]
    total = Counter[str]()
    for backend, report in reports.items():
        if isinstance(report, str):
            rows.append((backend, *[""] * 9, report))
            continue
        verdict = report.verdict
        causes, unexplained = _duplicates(report)
        lost, ghosts = verdict.count("L1"), verdict.count("L2")
        cells = {
            "jobs": sum(verdict.puts[phase] for phase in ("accepted", "rejected", "unknown")),
            "accepted": verdict.puts["accepted"],
            "unknown": verdict.puts["unknown"],
            "faults": _proven(report),
            "lost": lost,
            "ghosts": ghosts,
            "begun again": sum(causes.values()),
            "unexplained": unexplained,
            "else": len(verdict.violations) - lost - ghosts - verdict.count("L5"),
        }
        total.update(cells)
        words = "pass" if report.passed else "FAIL"
        rows.append((backend, *(f"{value:,}" for value in cells.values()), words))
    done = [report for report in reports.values() if isinstance(report, Report)]
    words = "pass" if len(done) == len(reports) and all(report.passed for report in done) else "FAIL"
    rows.append(("all", *(f"{total[name]:,}" for name in head[1:-1]), words))
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, len(head) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _proven(report: Report) -> int:
    """Faults that proved that they bit; a machine that stood still is none of ours."""
    faults = report.verdict.faults
    return sum(faults.values()) - faults["stall-of-machine"] - report.verdict.count("F")


def _duplicates(report: Report) -> tuple[Counter[str], int]:
    """How often a job was begun again by cause, and without one."""
    causes = Counter(report.verdict.duplicates)
    return causes, max(causes.pop("unexplained", 0), report.verdict.count("L5"))


def _counted(counts: Counter[str], between: str = "  ") -> str:
    return between.join(f"{name} {count}" for name, count in sorted(counts.items()) if count)


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
