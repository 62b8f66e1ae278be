"""Two runs compared: what differs, the rows, what was refused, and the gate, as data."""

from __future__ import annotations

from dataclasses import dataclass

from benchmark.report.comparison.differences import Difference, find_differences
from benchmark.report.comparison.exit_status import INCOMPARABLE, OK, WORSE
from benchmark.report.comparison.gate import Gate, Thresholds, ask_gate
from benchmark.report.comparison.loading import NamedRun
from benchmark.report.comparison.pairing import pair_columns
from benchmark.report.comparison.rows import Row, compare_columns
from benchmark.report.results import RunResult


@dataclass(frozen=True)
class ComparedRuns:
    """The comparison of an old and a new run.

    old, new: the paths that they were asked for by. only_old, only_new: titles of columns in one run alone.
    deciding: the key of the score that decides, "" where no score does.
    warnings: what failed in either run, whether it was interrupted, and what is wrong with its images.
    """

    old: str
    new: str
    old_started: str
    new_started: str
    differences: tuple[Difference, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    rows: tuple[Row, ...]
    deciding: str
    gate: Gate
    warnings: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """0, 1 where the gate failed, 2 where no row of any column could be compared with an interval."""
        if not any(row.outcome for row in self.rows):
            return INCOMPARABLE
        return WORSE if self.gate.failed else OK


def compare_runs(old: NamedRun, new: NamedRun, thresholds: Thresholds, across_machines: bool = False) -> ComparedRuns:
    """Return the comparison. Raises ValueError where a threshold is for a score that there is not."""
    columns = pair_columns(old.run, new.run)
    rows = compare_columns(old.run, new.run, columns.pairs, across_machines)
    deciding = deciding_score(new.run)
    if deciding not in {row.figure for row in rows}:
        deciding = deciding_score(old.run)
    return ComparedRuns(
        old.name, new.name, old.run.started, new.run.started, find_differences(old.run, new.run, columns.pairs),
        columns.only_old, columns.only_new, tuple(rows), deciding,
        ask_gate(rows, thresholds, deciding, _own_margin(new.run)),
        (*_warnings("old", old.run), *_warnings("new", new.run)),
    )  # fmt: skip


def deciding_score(run: RunResult) -> str:
    """Return the key of the score that the run's verdict on quality went by, or ""."""
    return next((verdict.metric for verdict in run.verdicts if verdict.question == "quality" and verdict.metric), "")


def _own_margin(run: RunResult) -> float | None:
    """Return the run's QUALITY_MARGIN, None where it is `auto` or not recorded."""
    try:
        return float(run.settings.get("QUALITY_MARGIN", "auto"))
    except ValueError:
        return None


def _warnings(which: str, run: RunResult) -> list[str]:
    """Return what a run lacks: columns that failed, and all that it was interrupted before; then its images' faults."""
    found = [f"{which} {title} failed: {reason}" for title, reason in run.failures.items()]
    if run.interrupted:
        found.append(f"the {which} run was interrupted: its columns may lack rounds and images")
    return [*found, *(f"{which} {model.name}: {warning}" for model in run.models for warning in model.warnings)]
