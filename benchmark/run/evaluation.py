"""Scoring what was generated: each column's images against the reference images, metric by metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.console.progress import Progress
from benchmark.data.reference import Reference
from benchmark.data.run_data import Data
from benchmark.report.contact_sheet import MOST_ROWS, SheetRow
from benchmark.report.results import ModelResult
from benchmark.run.snapshot import Snapshot
from benchmark.settings.fields import Settings
from metrics.base import Comparison, ImageSet, Scoring
from metrics.degenerate import find_degenerate
from metrics.scoring import open_metrics, score_all

OF_A_CLASS = "asked for a class, not for a caption"
NO_REFERENCE = "no reference images"
FOREIGN_REFERENCE = "the references are not of these prompts"


@dataclass(frozen=True)
class Evaluated:
    """A column's result, with scores or before it has any, beside what its folder holds.

    training: the images that its LoRA was trained on, where that is known. leak: what its scores must be read with
    where these could not be left out of the references.
    """

    result: ModelResult
    snapshot: Snapshot
    training: ImageSet | None = None
    leak: str = ""

    def images(self, count: int) -> ImageSet:
        """Return the images of requests 0..count-1 that are there, each with what it was asked for."""
        asked = self.snapshot.asked(count)
        return ImageSet(self.result.name, tuple(map(self.snapshot.image_path, asked)), tuple(asked.values()))


def evaluate(
    columns: Sequence[Evaluated],
    reference: Reference | None,
    settings: Settings,
    scoring: Scoring,
    progress: Progress,
    stopped: Callable[[], bool] = lambda: False,
) -> list[Evaluated]:
    """Return the columns with the scores of METRICS, and with the reason for each metric that has none.

    Random weights have no quality. stopped: once it is true, the metric in progress and all that are left have the
    reason "interrupted".
    """
    names = settings.metric_names()
    if settings.weights == "random":
        unscored = dict.fromkeys(names, "random weights")
        return [replace(column, result=replace(column.result, unscored=unscored)) for column in columns]
    opened = open_metrics(names, scoring, stopped)
    real = ImageSet("no reference", ()) if reference is None else reference.images(settings.num_references)
    scored = []
    with progress.task("metrics", len(columns) * len(names), unit="scores") as task:
        for column in columns:
            made = column.images(settings.num_samples)
            comparison = compare(column, made, real, reference, settings.num_samples)
            found = score_all(opened, comparison, stopped=stopped, done=lambda: task.advance(1))
            # Once a stop is asked for, other processes are on their way to their end.
            looking = replace(scoring, helpers=None) if stopped() else scoring
            warnings = warnings_of(made, real, looking) if found.scores or not stopped() else ()
            warnings += (column.leak,) if column.leak else ()
            result = replace(column.result, scores=found.scores, unscored=found.unscored, warnings=warnings)
            scored.append(replace(column, result=result))
    return scored


def compare(column: Evaluated, made: ImageSet, real: ImageSet, reference: Reference | None, count: int) -> Comparison:
    """Return what a column's images are scored against; they are paired with their targets by index."""
    targets = None if reference is None else reference.targets(column.snapshot.asked(count))
    if column.result.class_conditional:
        targets, unpaired = None, OF_A_CLASS
    elif reference is None:
        unpaired = NO_REFERENCE
    else:
        unpaired = "" if targets is not None else FOREIGN_REFERENCE
    statistics = None if reference is None else reference.statistics
    return Comparison(
        made, real, targets=targets, statistics=statistics, training=column.training or None, unpaired=unpaired
    )


def warnings_of(generated: ImageSet, reference: ImageSet, scoring: Scoring) -> tuple[str, ...]:
    """Return what is wrong with the images themselves."""
    try:
        return tuple(find_degenerate(generated, reference, scoring))
    except OSError as error:  # its scores say the same
        return (" ".join(str(error).split()),)


def sheet_rows(columns: Sequence[Evaluated], data: Data, count: int) -> list[SheetRow]:
    """Return the contact sheet's rows: the first prompts, what each model made of them, and the real image."""
    asked = {column.result.name: column.snapshot.asked(count) for column in columns}
    first = range(min(count, MOST_ROWS, len(data.prompts.prompts)))
    targets = None if data.reference is None else data.reference.targets(first)
    rows = []
    for index in first:
        prompt = data.prompts.row(index).text
        tiles: dict[str, Path | None] = {} if targets is None else {"reference": targets[index]}
        otherwise: dict[str, str] = {}
        for column in columns:
            name = column.result.name
            if index in asked[name]:
                tiles[name] = column.snapshot.image_path(index)
                if asked[name][index] != prompt:
                    otherwise[name] = asked[name][index]
        rows.append(SheetRow(prompt, tiles, otherwise))
    return rows
