"""
The rules of `fleet why`, one function each.  Pure.

A rule looks at one thing and says what it found with the numbers it used, and
what to type; None when it has nothing to say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from fleet.dashboard.evidence import Evidence, Finding, deploy_text, last_event, precise
from fleet.dashboard.facts import ABSENT, OUTSIDE, Cause, Health, PipelineRow
from fleet.dashboard.text import quoted
from fleet.manager.stand_in import is_stand_in
from fleet.queue.causes import pattern
from fleet.units import format_duration, short_duration

_SKEW = 5.0  # seconds between two clocks that nobody minds
_MOST_CAUSES = 5
_BADLY = 0.1  # share of the attempts that fail
_FOR_GOOD = 90 * 86400.0  # seconds: a pause that long has no end
_UP = ("RUNNING", OUTSIDE)


def queue_away(evidence: Evidence) -> Finding | None:
    """Without the queue there is nothing to count; workers wait, and lose nothing."""
    queue = evidence.snapshot.queue
    if queue.ok:
        return None
    since = f"since {evidence.clock(queue.since)}" if queue.since else ""
    return Finding(
        rule="queue-away",
        headline=f"the queue does not answer {since}".rstrip(),
        facts=(("error", queue.error), ("workers", "wait, and go on by themselves when it is back")),
        do=("fleet queue info",),
    )


def not_running(evidence: Evidence) -> Finding | None:
    """Processes that are wanted and do not run, with their exit code and last log lines."""
    wanted = [row for row in evidence.processes if row.state != OUTSIDE]
    if any(is_stand_in(row.full_name.partition(":")[0]) for row in wanted):
        # A surge: what is stopped is being replaced, and others do its work meanwhile.
        wanted = [row for row in wanted if row.health is not Health.STOPPED]
    down = [row for row in wanted if row.state not in ("RUNNING", "STARTING", "STOPPING")]
    silent = [host for host in evidence.snapshot.hosts if not host.ok]
    if silent:
        return Finding(
            rule="supervisord-away",
            headline="supervisord does not answer, so nobody knows what runs",
            facts=tuple((host.name, host.error) for host in silent),
            do=("fleet up" if evidence.private else "fleet doctor",),
        )
    row = evidence.row
    if row.by_hand == 0 and not wanted:
        return Finding(
            rule="not-running",
            headline="scaled to 0 by hand",
            facts=(("manifest", f"{row.floor} processes"),),
            do=(f"fleet scale {quoted(evidence.name)}={row.floor}",),
        )
    if not down:
        return None
    counted = Counter(row.state for row in down)
    states = ", ".join(f"{count} {state}" for state, count in counted.items())
    facts: list[tuple[str, str]] = []
    ends: dict[str, str] = {}  # the last line of a log that was shown: whose
    for each in down[:3]:
        text = f"{each.name}: {each.state}" + (f", {each.note}" if each.note else "")
        tail = evidence.logs.get(each.name, ())
        if not tail or each.state in (ABSENT, "STOPPED"):
            facts.append(("process", text))
        elif tail[-1] in ends:
            facts.append(("process", f"{text}; its log ends as that of {ends[tail[-1]]}"))
        else:
            ends[tail[-1]] = each.name
            facts.append(("process", f"{text}; last lines of its log:"))
            facts += [("", f"  {line}") for line in tail]
    if len(down) > 3:
        facts.append(("", f"and {len(down) - 3} more"))
    stop = last_event(evidence, {"stop", "down"})
    if stop is not None and counted["STOPPED"]:
        facts.append(("stopped", f"at {evidence.clock(stop.at)} by {stop.by or 'somebody'}"))
    if row.by_hand is not None:
        facts.append(("wanted", _by_hand(row)))
    if not row.running and row.oldest_ready is not None and row.jobs is not None:
        facts.append(("ready", f"{row.jobs.ready:,} wait, the oldest for {short_duration(row.oldest_ready)}"))
    do = []
    if broken := [each.name for each in down if each.state not in (ABSENT, "STOPPED")]:
        do.append(f"fleet logs {evidence.name}")
        do.append(f"after the fix:  fleet restart {evidence.name if len(broken) > 1 else broken[0]}")
    if counted["STOPPED"]:
        # `start` means the manifest's processes; a number by hand is made of any.
        name = quoted(evidence.name)
        do.append(f"fleet start {name}" if row.by_hand is None else f"fleet scale {name}={row.by_hand}")
    if counted[ABSENT]:
        do.append("fleet up")
    return Finding(
        rule="not-running",
        headline=f"{len(down)} of {len(wanted)} processes do not run ({states})",
        facts=tuple(facts),
        do=tuple(do),
    )


def _by_hand(row: PipelineRow) -> str:
    return f"scaled to {row.by_hand} by hand, manifest: {row.floor}"


def paused(evidence: Evidence) -> Finding | None:
    """Jobs are handed out again when the pause is over."""
    row = evidence.row
    if row.paused <= 0:
        return None
    waiting = row.jobs.ready if row.jobs else 0
    left = (
        "until somebody resumes it" if row.paused > _FOR_GOOD else f"for another {short_duration(row.paused)}"
    )
    facts = [("ready", f"{waiting:,} jobs wait")]
    if row.flow.arrivals:
        facts.append(("arrives", f"{row.flow.arrivals:.1f}/s"))
    mark = last_event(evidence, {"pause", "resume"})
    if mark is not None and mark.kind == "pause":  # else somebody did it from another host
        facts.append(("paused", f"at {evidence.clock(mark.at)} by {mark.by or 'somebody'}"))
    return Finding(
        rule="paused",
        headline=f"no jobs are handed out {left}",
        facts=tuple(facts),
        do=(f"fleet resume {quoted(evidence.name)}",),
    )


def workers_wait(evidence: Evidence) -> Finding | None:
    """The queue answers us and not its workers: another password, network or limit of connections."""
    waiting = [row for row in evidence.processes if row.doing == "waiting" and row.state in _UP]
    if not waiting or not evidence.snapshot.queue.ok:
        return None
    running = sum(row.state in _UP for row in evidence.processes)
    return Finding(
        rule="workers-wait",
        headline=f"{len(waiting)} of {running} processes wait for the queue",
        facts=(
            ("process", f"{waiting[0].name}: {waiting[0].note or 'waiting'}"),
            ("here", "the queue answers this command"),
        ),
        do=(f"fleet logs {quoted(evidence.name)}",),
    )


def buried(evidence: Evidence) -> Finding | None:
    """Jobs that were put aside: by cause, since when, and what had been changed just before."""
    count = evidence.row.jobs.buried if evidence.row.jobs else 0
    if not count:
        return None
    groups = [
        (cause, dict(cause.kinds)["buried"]) for cause in evidence.causes if "buried" in dict(cause.kinds)
    ]
    capped = evidence.row.jobs is not None and count == evidence.row.jobs.cap > 0
    facts: list[tuple[str, str]] = []
    for cause, many in sorted(groups, key=lambda pair: -pair[1])[:_MOST_CAUSES]:
        facts.append((f"{many} ×", f"{cause.cause}   {cause.place}".rstrip()))
        facts.append(("", f"first {evidence.clock(cause.first_at)}  last {evidence.clock(cause.last_at)}"))
        if cause.job in evidence.newest:
            facts.append(("", f"newest: #{cause.job}  {evidence.newest[cause.job]}"))
    if evidence.row.flow.errors:
        facts.append(("fails", f"{evidence.row.flow.errors:.0%} of the attempts of the last 5 minutes"))
    known = sum(many for _, many in groups)
    earlier = count - known
    if earlier > 0:
        when = f"put aside over {format_duration(evidence.since)} ago, just now, or by hand"
        facts.append(("besides", f"{earlier:,} more, {when}") if groups else ("cause", f"not told: {when}"))
    headline = f"{count:,}{'+' if capped else ''} buried"
    if groups:
        first = min(cause.first_at for cause, _ in groups)
        headline += f", {len(groups)} cause{'s' if len(groups) > 1 else ''} since {evidence.clock(first)}"
        mark = last_event(evidence, None, before=first)
        if mark is not None:
            facts.append(("before", f"none before {deploy_text(evidence, mark)}"))
    return Finding(rule="buried", headline=headline, facts=tuple(facts), do=_after_the_fix(evidence, groups))


def _after_the_fix(evidence: Evidence, groups: Sequence[tuple[Cause, int]]) -> tuple[str, ...]:
    name = quoted(evidence.name)
    if not groups:
        return (f"fleet jobs list {name} --state buried", f"after the fix:  fleet jobs kick {name} --all")
    kick = f"after the fix:  fleet restart {name} && fleet jobs kick {name}"
    if not evidence.reasons:
        return (f"{kick} --all",)
    worst = sorted(groups, key=lambda pair: -pair[1])[:2]
    return tuple(f"{kick} --error {quoted(pattern(cause.cause))}" for cause, _ in worst)


def failing(evidence: Evidence) -> Finding | None:
    """Attempts that end in errors and are tried again: not yet buried, but on the way."""
    share = evidence.row.flow.errors or 0.0
    # A cause that buries jobs has been told of already.
    groups = [c for c in evidence.causes if {kind for kind, _ in c.kinds} <= {"retried", "timeout"}]
    if share < _BADLY or not groups:
        return None
    facts = [("fails", f"{share:.0%} of the attempts of the last 5 minutes")]
    for cause in groups[:_MOST_CAUSES]:
        facts.append((f"{cause.count} ×", f"{cause.cause}   {cause.place}".rstrip()))
    mark = last_event(evidence, None, before=min(cause.first_at for cause in groups))
    if mark is not None:
        facts.append(("before", f"none before {deploy_text(evidence, mark)}"))
    return Finding(
        rule="failing",
        headline=f"{share:.0%} of the attempts fail and are tried again",
        facts=tuple(facts),
        do=(
            f"fleet logs {quoted(evidence.name)}",
            f"meanwhile:  fleet pause {quoted(evidence.name)} --for 10m",
        ),
    )


def slow_job(evidence: Evidence) -> Finding | None:
    """One job that takes far longer than the others."""
    slow = [row for row in evidence.processes if row.health is Health.SLOW]
    if not slow:
        return None
    facts = [("process", f"{row.name}: {row.note}") for row in slow[:3]]
    if evidence.timeout:
        facts.append(("limit", f"timeout = {format_duration(evidence.timeout)} ends it"))
    return Finding(
        rule="slow-job",
        headline=f"{len(slow)} job{'s take' if len(slow) > 1 else ' takes'} far longer than the others",
        facts=tuple(facts),
        do=(f"fleet jobs show {slow[0].job}", f"fleet logs {quoted(slow[0].name)}"),
    )


def leases(evidence: Evidence) -> Finding | None:
    """Workers that vanished with their jobs, and jobs that used up their time."""
    row = evidence.row
    stale = (row.jobs.stale or 0) if row.jobs else 0
    recent = evidence.snapshot.taken_at - evidence.since
    crashed = sum(minute.crashed for minute in evidence.minutes if minute.minute * 60 >= recent)
    late = [(cause, many) for cause in evidence.causes for kind, many in cause.kinds if kind == "timeout"]
    if not (stale or crashed or late):
        return None
    facts = []
    if stale:
        facts.append(("stale", f"{stale} reserved jobs whose lease is over: the next idle worker takes them"))
    if crashed:
        facts.append(("crashed", f"{crashed} jobs came back from workers that died or vanished"))
    timed_out = sum(many for _, many in late)
    do = [f"fleet logs {quoted(evidence.name)}"]
    if timed_out:
        facts.append(("timeout", f"{timed_out} attempts ran longer than {format_duration(evidence.timeout)}"))
        do.append(f"set timeout higher in [pipelines.{evidence.name}], then: fleet up")
    if row.flow.run_p95 is not None:
        facts.append(("run", f"p50 {precise(row.flow.run_p50 or 0)}, p95 {precise(row.flow.run_p95)}"))
    what = [f"{stale} leases are over"] * bool(stale) + [f"{crashed} crashes"] * bool(crashed)
    what += [f"{timed_out} attempts hit the time limit"] * bool(timed_out)
    return Finding(rule="leases", headline=", ".join(what), facts=tuple(facts), do=tuple(do))


def clocks(evidence: Evidence) -> Finding | None:
    """Hosts that disagree about the time: the queue does not mind, people who read logs do."""
    off: dict[str, float] = {}
    for row in evidence.processes:
        if row.skew is not None and abs(row.skew) > abs(off.get(row.host, 0.0)):
            off[row.host] = row.skew
    wrong = {host: skew for host, skew in off.items() if abs(skew) > _SKEW}
    if not wrong:
        return None
    facts = [
        (host, f"{short_duration(abs(skew))} {'behind' if skew > 0 else 'ahead of'} this host's clock")
        for host, skew in wrong.items()
    ]
    facts.append(("effect", "leases and delays are right; rates and times of events may not be"))
    return Finding(
        rule="clocks",
        headline=f"the clock of {', '.join(wrong)} is wrong, or ours",
        facts=tuple(facts),
        do=("timedatectl status   on each host",),
    )


def well(evidence: Evidence) -> Finding:
    """Nothing is wrong, and the numbers that say so."""
    row, now = evidence.row, evidence.row.flow
    number = "" if row.by_hand is None else f" ({_by_hand(row)})"
    facts = [("runs", f"{'–' if row.running is None else row.running} of {row.wanted} processes{number}")]
    if row.jobs is not None:
        waits = "" if row.oldest_ready is None else f", the oldest for {short_duration(row.oldest_ready)}"
        facts.append(("holds", f"{row.jobs.ready:,} ready{waits}; {row.jobs.buried:,} buried"))
    if now.out is not None:
        arrives = "–" if now.arrivals is None else f"{now.arrivals:.1f}/s"
        facts.append(("does", f"{now.out:.1f}/s, and {arrives} arrive"))
    if now.wait_p95 is not None and now.run_p95 is not None:
        facts.append(("times", f"waits p95 {precise(now.wait_p95)}, runs p95 {precise(now.run_p95)}"))
    if now.errors is not None:
        facts.append(("errors", f"{now.errors:.1%} of the attempts of the last 5 minutes"))
    reason = f": {row.reason}" if row.reason and row.by_hand is None else ""
    return Finding(
        rule="well",
        headline=f"nothing is wrong{reason}",
        facts=tuple(facts),
        do=(f"fleet status {quoted(row.name)}",),
    )
