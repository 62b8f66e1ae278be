"""The report files of a run: written whole or not at all, and never in the place of another program's."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from benchmark.console.plain_text import one_line
from benchmark.report.configurations import has_choice
from benchmark.report.contact_sheet import SheetRow, draw_contact_sheet
from benchmark.report.frontier_plot import can_draw
from benchmark.report.frontier_png import write_frontier_plot
from benchmark.report.html.page import write_html_report
from benchmark.report.ownership import FRONTIER_NAME, REPORT_NAMES
from benchmark.report.results import RunResult, write_results
from benchmark.report.table_csv import write_csv
from files.images import is_our_png
from files.reading import is_there

JSON_NAME, CSV_NAME, SHEET_NAME, HTML_NAME = REPORT_NAMES
REFERENCE_COLUMN = "reference"  # on the sheet; no model has this title
Made = TypeVar("Made")


def write_reports(run: RunResult, rows: Sequence[SheetRow], folder: Path, announce: Callable[[str], None]) -> RunResult:
    """Write results.csv, samples.png, report.html, and then results.json, which has the failures of the others.

    Where a model has more than one configuration, frontier.png is written too; one of an earlier run is removed where
    this run has none.

    Return the run with these failures. A run without any result, and one that was stopped before its first score, leave
    the former files as they are, and say so.
    """
    former = [name for name in (*REPORT_NAMES, FRONTIER_NAME) if os.path.lexists(folder / name)]
    has_no_score = run.interrupted and not run.no_quality and not any(model.scores for model in run.models)
    if not run.models or (former and has_no_score):
        if former:
            reason = "the run was stopped before its first score" if run.models else "no model has a result"
            announce(f"{reason}: {', '.join(former)} in {folder} stay as they were")
        return run
    failures = dict(run.failures)

    def attempt(name: str, write: Callable[[Path], Made]) -> Made | None:
        try:
            return write(folder / name)
        except Exception as error:  # the table is still to be printed
            if not isinstance(error, OSError | ValueError):
                traceback.print_exc()
            failures[name] = one_line(error)
        return None

    columns = [model.name for model in run.models]
    if any(REFERENCE_COLUMN in row.tiles for row in rows):
        columns.append(REFERENCE_COLUMN)
    attempt(CSV_NAME, lambda path: write_csv(run, path))
    sheet = attempt(SHEET_NAME, lambda path: draw_contact_sheet(rows, columns, path))
    attempt(FRONTIER_NAME, lambda path: _write_frontier(run, path))
    attempt(HTML_NAME, lambda path: write_html_report(replace(run, failures=failures), sheet, path))
    attempt(JSON_NAME, lambda path: write_results(replace(run, failures=failures), path))
    return replace(run, failures=failures)


def _write_frontier(run: RunResult, path: Path) -> None:
    """Write the plot of a run that has a choice; of another run, remove what an earlier one wrote."""
    if run.frontier is not None and has_choice(run.models) and can_draw(run.frontier):
        write_frontier_plot(run.frontier, path)
    elif is_there(path) and is_our_png(path):
        path.unlink()
