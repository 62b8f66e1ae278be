"""Scoring what was generated: each model's folder of images against the reference images, metric by metric."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import metrics
from benchmark.console.interruption import GivenUp
from benchmark.console.progress import Progress
from benchmark.data.reference import Reference
from benchmark.report.contact_sheet import MOST_ROWS, SheetRow
from benchmark.report.results import ModelResult
from benchmark.run.journal import Journal
from benchmark.settings.fields import Settings
from metrics.base import Comparison, ImageSet, MetricUnavailable, OpenTask, Score, Scoring, add_rows
from metrics.degenerate import find_degenerate

INTERRUPTED = "interrupted"


def generated_set(name: str, journal: Journal, count: int) -> tuple[ImageSet, list[int]]:
    """Return the recorded images of requests 0..count-1 with what each was asked for, and their indices."""
    prompts = {
        batch.start + offset: prompt
        for batch in journal.batches()
        for offset, prompt in enumerate(batch.prompts)
        if batch.start + offset < count
    }
    indices = sorted(prompts)
    paths = tuple(journal.image_path(index) for index in indices)
    return ImageSet(name, paths, tuple(prompts[index] for index in indices)), indices


def evaluate(
    pairs: Sequence[tuple[ModelResult, Journal]],
    reference: Reference,
    settings: Settings,
    scoring: Scoring,
    progress: Progress,
    training: Mapping[str, ImageSet] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> list[ModelResult]:
    """Return the results with the scores of METRICS, and with the reason for each metric that has none.

    A metric that cannot score a model says why and leaves the others alone; a row that another metric has already made
    (with the same features) is not shown twice. Random weights have no quality. training: what a column was trained on.
    stopped: once it is true, the metric in progress and all that are left have the reason "interrupted".
    """
    names = settings.metric_names()
    if settings.weights == "random":
        return [replace(result, unscored=dict.fromkeys(names, "random weights")) for result, _ in pairs]
    scoring = replace(scoring, progress=_stoppable(scoring.progress, stopped))
    scorers = {name: metrics.METRICS[name](scoring) for name in names}
    pictures = reference.pictures(settings.num_references)
    scored = []
    with progress.task("metrics", len(pairs) * len(scorers), unit="scores") as task:
        for result, journal in pairs:
            generated, indices = generated_set(result.name, journal, settings.num_samples)
            trained_on = (training or {}).get(result.name)
            comparison = Comparison(generated, pictures, reference.targets(indices), training=trained_on or None)
            scores: list[Score] = []
            reasons: dict[str, str] = {}
            for name, scorer in scorers.items():
                try:
                    if stopped():
                        raise GivenUp
                    add_rows(scores, scorer.score(comparison))
                except GivenUp:
                    reasons[name] = INTERRUPTED
                except (MetricUnavailable, OSError, ValueError) as error:
                    reasons[name] = " ".join(str(error).split())
                except Exception as error:  # one metric's failure must not take the table with it
                    traceback.print_exc()
                    reasons[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
                task.advance(1)
            warnings = warnings_of(generated, pictures) if scores or not stopped() else ()
            scored.append(replace(result, scores=tuple(scores), unscored=reasons, warnings=warnings))
    return scored


def _stoppable(progress: OpenTask, stopped: Callable[[], bool]) -> OpenTask:
    """Return `progress` whose tasks raise `GivenUp` once a stop is asked: the work that counts its steps there ends."""

    @contextmanager
    def task(name: str, total: int) -> Iterator[Callable[[int], None]]:
        with progress(name, total) as report:

            def count(done: int) -> None:
                if stopped() and done < total:
                    raise GivenUp
                report(done)

            yield count

    return task


def warnings_of(generated: ImageSet, reference: ImageSet) -> tuple[str, ...]:
    """Return what is wrong with the images themselves."""
    try:
        return tuple(find_degenerate(generated.paths, reference.paths))
    except OSError as error:  # its scores say the same
        return (" ".join(str(error).split()),)


def sheet_rows(pairs: Sequence[tuple[ModelResult, Journal]], reference: Reference, count: int) -> list[SheetRow]:
    """Return the contact sheet's rows: the first prompts, what each model made of them, and the real image."""
    sets = {result.name: generated_set(result.name, journal, count) for result, journal in pairs}
    rows = []
    asked_first = zip(reference.requests(min(count, MOST_ROWS), 0), reference.rows, strict=False)
    for index, (request, target) in enumerate(asked_first):
        tiles: dict[str, Path | None] = {"reference": target.path}
        asked: dict[str, str] = {}
        for name, (images, indices) in sets.items():
            if index in indices:
                place = indices.index(index)
                tiles[name] = images.paths[place]
                if images.captions[place] != request.prompt:
                    asked[name] = images.captions[place]
        rows.append(SheetRow(request.prompt, tiles, asked))
    return rows
