"""A report as the table that a person reads.  Pure."""

from __future__ import annotations

from collections import Counter

from tests.chaos.run import Report

_SHOWN = 20  # violations


def table(report: Report, command: str) -> str:
    verdict, settings = report.verdict, report.settings
    puts, runs = verdict.puts, verdict.runs
    planned = sum(count for kind, count in verdict.faults.items() if kind != "stall-of-machine")
    causes = Counter(verdict.duplicates)
    unexplained = causes.pop("unexplained", 0)
    rescues = sorted(verdict.rescues)
    proven = planned - verdict.count("F")
    lines = [
        f"backend {report.about}  seed {settings.seed}  {report.took:.1f} s",
        f"puts    tried {sum(puts[p] for p in ('accepted', 'rejected', 'unknown')):,}  "
        f"accepted {puts['accepted']:,}  rejected {puts['rejected']:,}  unknown {puts['unknown']:,}  "
        f"(recovered {puts['recovered']:,})",
        f"faults  planned {settings.count}  proven {proven}   {_counted(verdict.faults)}",
        f"runs    starts {runs['starts']:,}  finished {runs['finished']:,}  acks ok {runs['acks']:,}  "
        f"fenced {runs['fenced']:,}  unconfirmed {runs['unconfirmed']:,}  renewed {runs['renewed']:,}",
        f"lost {verdict.count('L1')}   ghost {verdict.count('L2')}   two leases {verdict.count('L3')}   "
        f"late verbs {verdict.count('L4')}",
        f"begun again {sum(causes.values())} = {_counted(causes, ' + ') or 'none'};  unexplained "
        f"{max(unexplained, verdict.count('L5'))}",
        f"order inversions {verdict.count('L6')}   early starts {verdict.count('L7')}   "
        f"left over {verdict.count('L8')}   late rescues {verdict.count('L9')}   "
        f"wrong burials {verdict.count('L10')}",
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


def _counted(counts: Counter[str], between: str = "  ") -> str:
    return between.join(f"{name} {count}" for name, count in sorted(counts.items()) if count)


def _at(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))]
