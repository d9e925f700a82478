"""A snapshot as one page of HTML: for an incident note, a mail, a wall.  Pure, self-contained, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

from fleet.dashboard.columns import ICONS, PLAIN_PROCESSES, STYLES, WIDE_PIPELINES
from fleet.dashboard.facts import Snapshot
from fleet.dashboard.lines import Column, Line, Row, Span, text_of
from fleet.dashboard.look import Look, causes, pipeline_rows, process_rows
from fleet.dashboard.panes import clock, event_line
from fleet.dashboard.text import show
from fleet.dashboard.view import once, silences

_PAGE = Template("""\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1rem; margin: 2rem 0 .4rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .6rem; border-bottom: 1px solid #8884; white-space: nowrap; }
td.r, th.r { text-align: right; } th { font-weight: 600; opacity: .7; }
:root { --red: #b11; --yellow: #850; --green: #173; --cyan: #067; }
@media (prefers-color-scheme: dark) { :root { --red: #f88; --yellow: #fc6; --green: #7d9; --cyan: #6cf; } }
.red { color: var(--red); } .yellow { color: var(--yellow); }
.green { color: var(--green); } .cyan { color: var(--cyan); }
.bold { font-weight: 700; } .dim { opacity: .6; } section { overflow-x: auto; }
pre { overflow-x: auto; background: #8881; padding: .6rem; }
</style>
<h1>$title</h1>
<p>$trouble</p>
<section><h2>Pipelines</h2>$pipelines</section>
<section><h2>Errors, last hour</h2>$errors</section>
<section><h2>Processes</h2>$processes</section>
<section><h2>Events</h2>$events</section>
<section><h2>As text</h2><pre>$text</pre></section>
</html>
""")


def page(snapshot: Snapshot, look: Look) -> str:
    """The whole page; every foreign text in it is filtered and escaped."""
    at = clock(snapshot.taken_at, look)
    pipelines = pipeline_rows(snapshot, look)
    processes = process_rows(snapshot, look)
    trouble = [*silences(snapshot, look)]
    trouble += [
        (
            Span(f"{ICONS[row.health]} {row.name} {row.health.value}: ", STYLES[row.health]),
            Span(show(row.reason)),
        )
        for row in pipelines
        if row.health.is_trouble and row.reason
    ]
    groups = [
        (
            str(cause.count),
            show(cause.cause),
            show(cause.place),
            show(cause.pipeline),
            clock(cause.first_at, look),
            clock(cause.last_at, look),
            ", ".join(f"{many} {kind}" for kind, many in cause.kinds),
        )
        for cause in causes(snapshot, look)
    ]
    lines = once(snapshot, look, 160, processes=True)
    return _PAGE.substitute(
        title=escape(show(f"{snapshot.project} · {at}")),
        trouble="<br>".join(map(_html, trouble)) or "all is well",
        pipelines=_table(WIDE_PIPELINES, pipelines),
        processes=_table(PLAIN_PROCESSES, processes),
        errors=_rows(("COUNT", "CAUSE", "PLACE", "PIPELINE", "FIRST", "LAST", "ENDED"), groups) or "none",
        events="<br>".join(_html(event_line(event, look)) for event in reversed(snapshot.events)) or "none",
        text=escape("\n".join(text_of(line).rstrip() for line in lines)),
    )


def _html(line: Line) -> str:
    return "".join(
        f'<span class="{span.style}">{escape(span.text)}</span>' if span.style else escape(span.text)
        for span in line
    )


def _table(columns: Sequence[Column[Row]], rows: Sequence[Row]) -> str:
    if not rows:
        return "none"
    head = "".join(f'<th class="{"r" * c.right}">{escape(c.head)}' for c in columns)
    body = []
    for row in rows:
        health = row.health  # type: ignore[attr-defined]
        icon = f'<td class="{STYLES[health]}">{ICONS[health]}'
        cells = (f'<td class="{"r" * c.right} {c.style(row)}">{escape(c.cell(row))}' for c in columns)
        body.append(f"<tr>{icon}{''.join(cells)}")
    return f"<table><tr><th>{head}{''.join(body)}</table>"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    titles = "".join(f"<th>{title}" for title in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}" for cell in row) for row in rows)
    return f"<table><tr>{titles}{body}</table>"
