"""The one loop over metrics, for the benchmark, score_folder.py and the fine-tuning report.

A metric that fails costs its own row, with the reason in one line, and nothing else.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import metrics
from files.downloads import Need, OpenProgress, show_bar
from files.needs import tell
from metrics import needed
from metrics.base import Comparison, Metric, MetricUnavailable, OpenTask, Score, Scoring

Made = TypeVar("Made")
INTERRUPTED = "interrupted"


def never() -> bool:
    """Say that no stop was asked for."""
    return False


def needs_of(name: str, scoring: Scoring) -> Sequence[Need]:
    """Return what the metric of this name needs on this machine; one that is its class alone needs nothing."""
    needs = getattr(metrics.METRICS[name], "needs", None)
    return () if needs is None else needs(scoring)


def fetch_networks(
    names: Sequence[str], scoring: Scoring, progress: OpenProgress = show_bar, announce: Callable[[str], None] = tell
) -> None:
    """Bring the networks of these metrics to this machine, for programs that score and generate nothing.

    announce: is told which metrics have no value since theirs cannot be fetched; OFFLINE=1 fetches nothing.
    """
    users: dict[Need, list[str]] = {}
    for name in names:
        for need in needs_of(name, scoring):
            users.setdefault(need, []).append(name)
    for need, concerned in users.items():
        try:
            need.fetch(progress)
        except OSError as error:
            announce(without_network(concerned, _one_line(error)))


def without_network(names: Sequence[str], reason: str) -> str:
    """Return the line on metrics that share a network which cannot be fetched."""
    labels = ", ".join(metrics.METRICS[name].label.partition(" (")[0] for name in names)
    if getattr(metrics.METRICS[names[0]], "needs", None) is needed.inception and needed.has_stand_in():
        return f"{labels}: the FID Inception is missing ({reason}); another network stands in, under its own name"
    return f"{labels}: n/a, {reason}"


@dataclass(frozen=True)
class Unscored:
    """Why a metric gives no row. is_error: it broke; otherwise it does not apply to these images or this machine."""

    reason: str
    is_error: bool = False


@dataclass(frozen=True)
class Scored:
    """The rows of one comparison, and by name the reason of each metric that gives none.

    errors: those of `unscored` that broke, rather than did not apply.
    """

    scores: tuple[Score, ...]
    unscored: Mapping[str, str] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


class _Interrupted(BaseException):
    """A stop was asked for while a metric was at work."""


def open_metrics(
    names: Sequence[str], scoring: Scoring, stopped: Callable[[], bool] = never
) -> dict[str, Metric | Unscored]:
    """Construct the metrics of these names, for any number of comparisons; where one fails, its reason is kept instead.

    stopped: asked while images go through a network, so that a stop need not wait for all of them. Give `score_all` the
    same one.
    """
    if stopped is not never:
        scoring = replace(scoring, progress=_stoppable(scoring.progress, stopped))
    return {name: _attempt(partial(metrics.METRICS[name], scoring)) for name in names}


def score_all(
    opened: Mapping[str, Metric | Unscored],
    comparison: Comparison,
    *,
    stopped: Callable[[], bool] = never,
    done: Callable[[], None] = lambda: None,
) -> Scored:
    """Return the rows of all metrics for one comparison; rows that another metric already gave are not repeated.

    stopped: once it is true, the metric at work and those after it have the reason "interrupted".
    done: called after each metric.
    """
    scores: list[Score] = []
    unscored: dict[str, Unscored] = {}
    for name, metric in opened.items():
        made = _score_one(metric, comparison, stopped)
        if isinstance(made, Unscored):
            unscored[name] = made
        else:
            there = {score.label for score in scores}  # two metrics may end up with the same features
            scores += [score for score in made if score.label not in there]
        done()
    return Scored(
        tuple(scores),
        {name: why.reason for name, why in unscored.items()},
        tuple(name for name, why in unscored.items() if why.is_error),
    )


def _score_one(
    metric: Metric | Unscored, comparison: Comparison, stopped: Callable[[], bool]
) -> list[Score] | Unscored:
    if stopped():
        return Unscored(INTERRUPTED)
    return metric if isinstance(metric, Unscored) else _attempt(partial(metric.score, comparison))


def _attempt(work: Callable[[], Made]) -> Made | Unscored:
    """Return what `work` makes, or why it makes nothing."""
    try:
        return work()
    except _Interrupted:
        return Unscored(INTERRUPTED)
    except MetricUnavailable as reason:
        return Unscored(_one_line(reason))
    except MemoryError:  # the process is in no state to go on
        raise
    except (OSError, ValueError) as error:
        return Unscored(_one_line(error), is_error=True)
    except Exception as error:  # a bug in one metric must not cost the other rows
        traceback.print_exc()
        return Unscored(f"{type(error).__name__}: {_one_line(error)}", is_error=True)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _stoppable(progress: OpenTask, stopped: Callable[[], bool]) -> OpenTask:
    """Return `progress` whose tasks raise `_Interrupted` once a stop is asked for, except at their last step."""

    @contextmanager
    def task(name: str, total: int) -> Iterator[Callable[[int], None]]:
        with progress(name, total) as report:

            def count(done: int) -> None:
                if stopped() and done < total:
                    raise _Interrupted
                report(done)

            yield count

    return task
