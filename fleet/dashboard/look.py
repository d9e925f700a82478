"""How the reader wants to see it: everything that keys change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import tzinfo

from fleet.dashboard.facts import Cause, PipelineRow, ProcessRow, Snapshot
from fleet.dashboard.flow import WINDOW

SORTS = ("trouble", "name", "load")
WINDOWS = {"1": 60.0, "2": 300.0, "3": 3600.0}  # key: seconds that rates and quantiles look back
WINDOW_NAMES = {60.0: "1 min", 300.0: "5 min", 3600.0: "1 hour"}
PANES = ("pipelines", "processes", "errors", "events")

KEYS = (
    ("q ?", "quit, and the workers go on; this help"),
    ("up down, j k", "select a row, or scroll"),
    ("tab", "the next pane: pipelines, processes, errors, events"),
    ("enter", "details: of a pipeline only its own rows; esc goes back"),
    ("w l e", "why is it so; its log lines; its errors"),
    ("p", "pause the selected pipeline, or resume it"),
    ("S K R X", "scale, kick buried jobs, restart, stop: shows the command first"),
    ("/ s", "filter by name; sort by trouble, name or load"),
    ("1 2 3", "rates, waits and run times of a minute, of five, of an hour"),
    ("space + -", "freeze the screen; look more or less often"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A text in place of the tables."""

    title: str
    lines: tuple[str, ...]  # foreign text: it passes `show` when it is drawn
    top: int = 0  # first line that is shown
    wraps: bool = False  # long lines go on below instead of being cut: commands to copy


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a key asks the screen to do; "run" has been confirmed."""

    verb: str  # why logs pause resume run
    words: tuple[str, ...]  # a pipeline or process; for "run" the words after `fleet`


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    ascii: bool = False
    timezone: tzinfo | None = None  # None: this host's
    interval: float = 1.0  # seconds between two snapshots
    window: float = WINDOW  # seconds that rates and quantiles look back
    slow: bool = False  # the interval was doubled because the sources are slow
    frozen: bool = False
    late: float = 0.0  # seconds since a snapshot was due and none came
    read_only: bool = False
    can_scale: bool = False  # whether this fleet has the command
    pane: str = PANES[0]
    pipeline: str | None = None  # selected row
    process: str | None = None  # selected row, "host/full_name"
    cause: str | None = None  # selected row, see `key_of`
    only: str | None = None  # show what belongs to this pipeline only
    filter: str = ""
    typing: bool = False  # the filter is being typed
    sort: str = SORTS[0]
    help: bool = False
    overlay: Overlay | None = None
    command: tuple[str, ...] | None = None  # words after `fleet`, waiting for enter
    number: bool = False  # the command ends in a number that is being typed
    wish: Wish | None = None  # for the screen, which takes it away
    note: str = ""  # what came of the last one


def pipeline_rows(snapshot: Snapshot, look: Look) -> list[PipelineRow]:
    """Trouble first, then in the order of the manifest, unless the reader sorts otherwise."""
    rows = [row for row in snapshot.pipelines if look.filter.lower() in row.name.lower()]
    if look.sort == "trouble":
        rows.sort(key=lambda row: row.health.rank)
    elif look.sort == "name":
        rows.sort(key=lambda row: row.name)
    elif look.sort == "load":
        rows.sort(key=lambda row: -(row.jobs.ready if row.jobs else -1))
    return rows


def process_rows(snapshot: Snapshot, look: Look) -> list[ProcessRow]:
    """Those that do not run first, then slow ones, then as supervisord numbers them, or by CPU."""
    rows = [
        row
        for row in snapshot.processes
        if (look.only is None or row.pipeline == look.only)
        and (look.filter.lower() in row.name.lower() or look.filter.lower() in row.pipeline.lower())
    ]
    if look.sort == "trouble":
        rows.sort(key=lambda row: (row.state in ("RUNNING", "OUTSIDE"), row.health.rank))
    elif look.sort == "name":
        rows.sort(key=lambda row: row.name)
    elif look.sort == "load":
        rows.sort(key=lambda row: -(row.cpu or 0))
    return rows


def causes(snapshot: Snapshot, look: Look) -> list[Cause]:
    """Those for which somebody has to act first, then by number."""
    rows = [
        cause
        for cause in snapshot.causes
        if (look.only is None or cause.pipeline == look.only)
        and look.filter.lower() in cause.pipeline.lower()
    ]
    rows.sort(key=lambda cause: (not cause.is_grave, -cause.count))
    return rows


def rows_of(snapshot: Snapshot, look: Look) -> Sequence[PipelineRow | ProcessRow | Cause]:
    """The rows of the pane that has the keys; events cannot be selected."""
    if look.pane == "pipelines":
        return pipeline_rows(snapshot, look)
    if look.pane == "processes":
        return process_rows(snapshot, look)
    return causes(snapshot, look) if look.pane == "errors" else []


def key_of(row: PipelineRow | ProcessRow | Cause) -> str:
    """What `Look.pipeline`, `Look.process` and `Look.cause` hold to name a row."""
    if isinstance(row, Cause):
        return f"{row.pipeline}/{row.place}/{row.cause}"
    return row.name if isinstance(row, PipelineRow) else f"{row.host}/{row.full_name}"


def selected(look: Look) -> str | None:
    return {"pipelines": look.pipeline, "processes": look.process, "errors": look.cause}.get(look.pane)
