"""Which columns are on the frontier: no other is as fast and better, beyond the intervals. Imports no torch.

A column that is as fast is faster, or ties: where a sweep changes quality alone, the worse ones are not on it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmark.report.configurations import describe, model_of
from benchmark.report.costs import energy_of
from benchmark.report.latency_ratios import LEAST_ROUNDS, TIE_CONFIDENCE, TIE_RATIO, t_interval
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import paired_difference
from benchmark.report.quality_verdict import deciding_key, value_of
from benchmark.report.speed_verdict import compare_speeds, count_complete
from benchmark.report.verdict import Pair
from metrics.base import Score


@dataclass(frozen=True)
class FrontierPoint:
    """What a column costs, and what it scores.

    configuration: the column in words. model: its model's name.
    seconds_per_image: the mean over rounds that count. seconds_interval: its 95 % interval; None of fewer than two.
    score: None where there is none that can be compared. score_interval: 95 %, where it is known.
    joules_per_image: None where energy was not measured. joules_range: the least and the most of a round.
    on_frontier: None where that is not known: without a score, with fewer rounds than decide, left out, or where a
        better column that looks as fast was timed in other runs.
    dominated_by: a column that is as fast and better, the best of these; "" on the frontier.
    on_energy_frontier, energy_dominated_by: the same with joules for seconds, by rounds that do not overlap.
    left_out: why it takes no part ("failed", "warning"), or "".
    """

    column: str
    configuration: str
    model: str
    seconds_per_image: float
    seconds_interval: tuple[float, float] | None
    score: float | None
    score_interval: tuple[float, float] | None
    joules_per_image: float | None = None
    joules_range: tuple[float, float] | None = None
    on_frontier: bool | None = None
    dominated_by: str = ""
    on_energy_frontier: bool | None = None
    energy_dominated_by: str = ""
    left_out: str = ""


@dataclass(frozen=True)
class Frontier:
    """Cost against the score that decides, for all columns; the floor is what real images score."""

    metric: str
    label: str
    short: str
    better: Literal["lower", "higher"]
    decimals: int
    images: int
    points: tuple[FrontierPoint, ...]
    floor: float | None = None
    floor_interval: tuple[float, float] | None = None


def find_frontier(models: Sequence[ModelResult], rounds: int, failed: Collection[str] = ()) -> Frontier | None:
    """Return the frontier of a run, or None where its columns have no score that can be compared.

    rounds: how many were asked for; speeds are compared on that many. failed: names of columns that take no part.
    """
    left_out = {model.name: "failed" for model in models if model.name in failed}
    left_out |= {model.name: "warning" for model in models if model.warnings and model.name not in left_out}
    part = [model for model in models if model.name not in left_out]
    key, _ = deciding_key(part)
    scores = {model.name: score for model in part if (score := value_of(model, key)) is not None}
    if not key or len({(score.identity, score.n_generated) for score in scores.values()}) != 1:
        return None
    like = next(iter(scores.values()))
    part = [model for model in part if model.name in scores]
    return Frontier(
        key, like.label, like.short, like.better, like.decimals, like.n_generated,
        tuple(_point(model, models, part, key, rounds, left_out.get(model.name, "")) for model in models),
        like.floor, like.floor_interval,
    )  # fmt: skip


def _point(
    model: ModelResult, models: Sequence[ModelResult], part: Sequence[ModelResult], key: str, rounds: int, left_out: str
) -> FrontierPoint:
    means_s = [found.mean_latency_s for found in model.rounds if found.counts]
    score, energy = value_of(model, key), energy_of(model)
    on_frontier = on_energy_frontier = None
    dominated_by = energy_dominated_by = ""
    if any(other is model for other in part):
        if rounds >= LEAST_ROUNDS:
            dominated_by = _dominating(model, part, key, lambda other: _is_as_fast(other, model, rounds))
            on_frontier = not dominated_by
            if on_frontier and _may_be_dominated(model, part, key, rounds):
                on_frontier = None
        if energy is not None:
            energy_dominated_by = _dominating(model, part, key, lambda other: _needs_less(other, model))
            on_energy_frontier = not energy_dominated_by
    return FrontierPoint(
        column=model.name, configuration=describe(model, models), model=model_of(model),
        seconds_per_image=statistics.fmean(means_s) if means_s else model.mean_latency_s,
        seconds_interval=t_interval(means_s, TIE_CONFIDENCE) if len(means_s) > 1 else None,
        score=None if score is None else score.value, score_interval=None if score is None else score.interval,
        joules_per_image=None if energy is None else energy.joules_per_image,
        joules_range=None if energy is None else _range(energy_rounds(model)),
        on_frontier=on_frontier, dominated_by=dominated_by, on_energy_frontier=on_energy_frontier,
        energy_dominated_by=energy_dominated_by, left_out=left_out,
    )  # fmt: skip


def _dominating(
    model: ModelResult, part: Sequence[ModelResult], key: str, costs_less: Callable[[ModelResult], bool]
) -> str:
    """Return the best of the columns that cost less and score better, beyond the intervals; "" where there is none."""
    score = _score_of(model, key)
    found = [
        (_score_of(other, key), other.name)
        for other in part
        if other is not model and _is_better(_score_of(other, key), score) and costs_less(other)
    ]
    sign = 1 if score.better == "lower" else -1
    return min(found, key=lambda pair: sign * pair[0].value)[1] if found else ""


def _score_of(model: ModelResult, key: str) -> Score:
    score = value_of(model, key)
    assert score is not None, "a column without a score takes no part"
    return score


def _is_better(one: Score, other: Score) -> bool:
    """Return whether the whole interval of the difference says so."""
    better, worse = (one, other) if one.better == "lower" else (other, one)
    difference = paired_difference(better, worse)
    return difference is not None and difference.interval()[1] < 0


def _may_be_dominated(model: ModelResult, part: Sequence[ModelResult], key: str, rounds: int) -> bool:
    """Return whether a better column looks as fast, and one run timed too few rounds of both to tell."""
    score = _score_of(model, key)
    return any(
        other is not model and _is_better(_score_of(other, key), score) and _looks_as_fast(other, model, rounds)
        for other in part
    )


def _looks_as_fast(one: ModelResult, other: ModelResult, rounds: int) -> bool:
    speed = _speed(one, other, rounds)
    return speed is None or (speed.rounds < LEAST_ROUNDS and speed.first == one.name)


def _is_as_fast(one: ModelResult, other: ModelResult, rounds: int) -> bool:
    speed = _speed(one, other, rounds)
    return speed is not None and (speed.outcome == "TIE" or (speed.outcome == "WIN" and speed.first == one.name))


def _speed(one: ModelResult, other: ModelResult, rounds: int) -> Pair | None:
    """Return two columns' speeds as a verdict compares them; None where one has no complete round."""
    if not (count_complete(one, rounds) and count_complete(other, rounds)):
        return None
    return compare_speeds(one, other, rounds)


def energy_rounds(model: ModelResult) -> list[float]:
    """Return the joules per image of each round that measured them."""
    energy = energy_of(model)
    return [] if energy is None else [found.joules_per_image for found in energy.rounds]


def _range(figures: Sequence[float]) -> tuple[float, float]:
    return min(figures), max(figures)


def _needs_less(one: ModelResult, other: ModelResult) -> bool:
    """Return whether every round of one column needs less energy for an image than any of the other, or all the same.

    The same: no two of their rounds are more than 3 % apart.
    """
    mine, theirs = energy_rounds(one), energy_rounds(other)
    if not mine or not theirs:
        return False
    return max(mine) < min(theirs) or max(*mine, *theirs) <= TIE_RATIO * min(*mine, *theirs)
