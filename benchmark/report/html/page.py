"""report.html: table, winners, every timed batch as a dot, contact sheet and footer in one file to pass on."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from benchmark.console.plain_text import visible
from benchmark.report.numbers import NO_VALUE, has_value, shown_interval, shown_number
from benchmark.report.ownership import GENERATOR
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.table import footer_lines, table_rows, verdict_lines
from files.writing import write_text
from metrics.base import Score

PLOT_WIDTH, PLOT_LEFT, LANE_HEIGHT = 760, 190, 34
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; }
th, td { padding: .3rem 1rem; text-align: right; border-bottom: 1px solid #dde3ea; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #8896a6; }
ul { padding-left: 1.2rem; } img { max-width: 100%; }
small, .notes { color: #566372; } .notes { font-size: 13px; }
"""


def write_html_report(run: RunResult, contact_sheet: bytes | None, path: Path) -> None:
    """Write the report. The contact sheet (a PNG's content), where there is one, is in it: the file can be moved alone.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    body = ["<h1>Text-to-image benchmark</h1>"]
    if run.models:
        winners = "".join(f"<li>{_text(line)}</li>" for line in verdict_lines(run))
        body += [_table(run.models), f"<ul>{winners}</ul>", "<h2>Seconds per image, every timed batch</h2>"]
        body += [_latency_plot(run.models)]
    if any(model.scores for model in run.models):
        body += ["<h2>Quality, with 95 % intervals</h2>", _quality_table(run.models)]
    if contact_sheet is not None:
        content = base64.b64encode(contact_sheet).decode("ascii")
        body += ["<h2>First prompts</h2>", f'<img alt="contact sheet" src="data:image/png;base64,{content}">']
    notes = "".join(f"<li>{_text(line)}</li>" for line in footer_lines(run))
    body += ["<h2>How it was measured</h2>", f'<ul class="notes">{notes}</ul>']
    head = f'<meta charset="utf-8">{GENERATOR}<title>Text-to-image benchmark</title><style>{STYLE}</style>'
    write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n')


def _text(text: str) -> str:
    """Return text from elsewhere as it may stand anywhere in the page: it makes no tag, and hides nothing."""
    return escape(visible(text))


def _table(models: Sequence[ModelResult]) -> str:
    names = "".join(f"<th>{_text(model.name)}</th>" for model in models)
    rows = "".join(
        f"<tr><td>{_text(row.label)}</td>{''.join(f'<td>{_text(cell)}</td>' for cell in row.cells)}</tr>"
        for row in table_rows(models)
    )
    return f"<table><thead><tr><th>Metric</th>{names}</tr></thead><tbody>{rows}</tbody></table>"


def _quality_table(models: Sequence[ModelResult]) -> str:
    """A row for each score with its interval in every cell, then what it is compared with: the floor, and counts."""
    first: dict[str, Score] = {}
    for model in models:
        for score in model.scores:
            first.setdefault(score.key, score)
    rows = []
    for key, like in first.items():
        cells = []
        for model in models:
            found = model.score(key)
            interval = "" if found is None else shown_interval(found.interval, found.decimals)
            value = NO_VALUE if found is None else shown_number(found.value, found.decimals)
            cells.append(f"{value}<br><small>{interval}</small>" if interval else value)
        floor = meaning = ""
        if has_value(like.floor):
            floor = shown_number(like.floor, like.decimals)
            meaning = f"<br><small>{_text(like.floor_meaning)}, N = {like.floor_count}</small>"
        against = f" against {like.n_reference}" if like.n_reference else ""
        cells += [f"{floor}{meaning}", f"{like.n_generated}{against}"]
        rows.append(f"<tr><td>{_text(like.label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    names = "".join(f"<th>{_text(name)}</th>" for name in (*(model.name for model in models), "floor", "N"))
    return f"<table><thead><tr><th>Metric</th>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _latency_plot(models: Sequence[ModelResult]) -> str:
    """A lane for each model, a dot for each batch, a bar at the mean, on one axis from zero."""
    longest_s = max(max(model.latencies_s) for model in models)
    height = LANE_HEIGHT * len(models) + 30

    def x(seconds: float) -> float:
        return PLOT_LEFT + seconds / longest_s * (PLOT_WIDTH - PLOT_LEFT - 60)

    marks = []
    for lane, model in enumerate(models):
        y = LANE_HEIGHT * lane + LANE_HEIGHT / 2
        marks.append(f'<text x="0" y="{y + 5}">{_text(model.name)}</text>')
        marks += [f'<circle cx="{x(s):.1f}" cy="{y}" r="4" fill="#2f6fb3" opacity=".35"/>' for s in model.latencies_s]
        mean = x(model.mean_latency_s)
        marks.append(f'<rect x="{mean - 1:.1f}" y="{y - 11}" width="2" height="22" fill="#1c2430"/>')
    base = LANE_HEIGHT * len(models) + 4
    marks.append(f'<line x1="{PLOT_LEFT}" x2="{x(longest_s):.1f}" y1="{base}" y2="{base}" stroke="#8896a6"/>')
    ticks = "".join(
        f'<text x="{x(s):.1f}" y="{base + 20}" text-anchor="middle">{s:.3g} s</text>'
        for s in (0.0, longest_s / 2, longest_s)
    )
    style = 'font-size="14" font-family="system-ui, sans-serif"'
    return f'<svg width="{PLOT_WIDTH}" height="{height}" {style} role="img">{"".join(marks)}{ticks}</svg>'
