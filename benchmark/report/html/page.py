"""report.html: table, winners, timed batches, rounds, pairs, costs, contact sheet and footer in one file to pass on."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from pathlib import Path

from benchmark.report.configurations import has_choice
from benchmark.report.footer import compared_images, footer_lines
from benchmark.report.html.cards import tabulate_cards
from benchmark.report.html.costs import tabulate_energy, tabulate_memory
from benchmark.report.html.elements import grid, text
from benchmark.report.html.frontier import list_equal_quality, show_frontier
from benchmark.report.html.machine import tabulate_states
from benchmark.report.html.plots import plot_batches, plot_rounds
from benchmark.report.html.rooflines import show_rooflines
from benchmark.report.html.stage_bars import show_stages
from benchmark.report.html.verdict_tables import VERDICT_STYLE, list_winners, tabulate_pairs
from benchmark.report.latency_ratios import TIE_CONFIDENCE, t_interval
from benchmark.report.numbers import NO_VALUE, has_value, shown_interval, shown_number, shown_percent
from benchmark.report.ownership import GENERATOR
from benchmark.report.results import ModelResult, Round, RunResult
from benchmark.report.table import table_rows
from files.writing import write_text
from metrics.base import Score

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1180px; margin: 2rem auto; padding: 0 1rem; color: #1c2430; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { padding: .3rem .5rem; text-align: right; border-bottom: 1px solid #dde3ea; }
th:first-child, td:first-child { text-align: left; } thead th { border-bottom: 2px solid #8896a6; }
ul { padding-left: 1.2rem; } img { max-width: 100%; }
small, .notes, .states { color: #566372; } .notes, .states { font-size: 13px; }
.states th, .states td { padding: .2rem .5rem; } .states td:first-child { white-space: nowrap; }
.wide th:nth-child(2), .wide td:nth-child(2) { text-align: left; }
"""


def write_html_report(run: RunResult, contact_sheet: bytes | None, path: Path) -> None:
    """Write the report. The contact sheet (a PNG's content), where there is one, is in it: the file can be moved alone.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    body = ["<h1>Text-to-image benchmark</h1>"]
    if run.models:
        body += [_table(run.models), list_winners(run.verdicts), *list_equal_quality(run.equal_quality)]
        body += show_frontier(run.frontier, run.equal_quality) if has_choice(run.models) else []
        body += ["<h2>Seconds per image, every timed batch</h2>", plot_batches(run.models), *_rounds(run.models)]
        body += [tabulate_pairs(run.verdicts), *tabulate_cards(run.models)]
        body += [*show_stages(run.models), *tabulate_energy(run.models), *show_rooflines(run.models)]
        body += tabulate_memory(run.models)
    if any(model.scores for model in run.models):
        body += ["<h2>Quality, with 95 % intervals</h2>", _quality_table(run.models)]
    if contact_sheet is not None:
        content = base64.b64encode(contact_sheet).decode("ascii")
        body += ["<h2>First prompts</h2>", f'<img alt="contact sheet" src="data:image/png;base64,{content}">']
    notes = "".join(f"<li>{text(line)}</li>" for line in footer_lines(run))
    body += ["<h2>How it was measured</h2>", f'<ul class="notes">{notes}</ul>', *tabulate_states(run.models)]
    style = f"<style>{STYLE}{VERDICT_STYLE}</style>"
    head = f'<meta charset="utf-8">{GENERATOR}<title>Text-to-image benchmark</title>{style}'
    write_text(path, f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n')


def _table(models: Sequence[ModelResult]) -> str:
    return grid("Metric", [model.name for model in models], [(row.label, row.cells) for row in table_rows(models)])


def _rounds(models: Sequence[ModelResult]) -> list[str]:
    """The means of each column's rounds: how far fresh processes lie apart. Nothing where there is one round alone."""
    if all(model.round_spread is None for model in models):
        return []
    numbers = sorted({found.number for model in models for found in model.rounds})
    rows = []
    for number in numbers:
        rows.append((f"Round {number + 1}", [_round(model, number) for model in models]))
    rows.append(("95 % interval of the mean", [_interval_of_mean(model) for model in models]))
    rows.append(("Spread between rounds", [shown_percent(model.round_spread) for model in models]))
    rows.append(("Equal images of later rounds", [_equal(model) for model in models]))
    return [
        "<h2>Rounds, each in a fresh process</h2>",
        "<p>Mean of each complete round without another process on the card, in % of the mean of all of them; the line "
        "is its 95 % interval.</p>",
        plot_rounds(models, _interval),
        grid("Seconds per image", [model.name for model in models], rows),
    ]


def _round(model: ModelResult, number: int) -> str:
    found = next((found for found in model.rounds if found.number == number), None)
    if found is None:
        return NO_VALUE
    return shown_number(found.mean_latency_s, _decimals(model)) + _left_out(found)


def _left_out(found: Round) -> str:
    """Return why a round does not count, or ""."""
    if not found.complete:
        return " (incomplete)"
    return " (another process)" if found.other_processes else ""


def _interval_of_mean(model: ModelResult) -> str:
    means_s = [found.mean_latency_s for found in model.rounds if found.counts]
    return shown_interval(_interval(means_s), _decimals(model)) if len(means_s) > 1 else NO_VALUE


def _interval(means_s: Sequence[float]) -> tuple[float, float]:
    return t_interval(means_s, TIE_CONFIDENCE)


def _decimals(model: ModelResult) -> int:
    """Return with how many decimals a column's seconds have four digits: differences of 1 % are to be seen."""
    return max(0, 3 - math.floor(math.log10(min(found.mean_latency_s for found in model.rounds))))


def _equal(model: ModelResult) -> str:
    equal, compared = compared_images(model)
    return f"{equal} of {compared}" if compared else NO_VALUE


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
            if interval := shown_interval(like.floor_interval, like.decimals):
                floor += f"<br><small>{interval}</small>"
            meaning = f"<br><small>{text(like.floor_meaning)}, N = {like.floor_count}</small>"
        against = f" against {like.n_reference}" if like.n_reference else ""
        cells += [f"{floor}{meaning}", f"{like.n_generated}{against}"]
        rows.append(f"<tr><td>{text(like.label)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>")
    names = "".join(f"<th>{text(name)}</th>" for name in (*(model.name for model in models), "floor", "N"))
    return f"<table><thead><tr><th>Metric</th>{names}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
