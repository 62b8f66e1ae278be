"""Who wins on speed and on efficiency: by the rounds of the columns of one mode."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.report.latency_ratios import (
    LEAST_ROUNDS,
    TIE_CONFIDENCE,
    LogRatio,
    confidence_at,
    log_ratio,
    look_of,
    rounds_needed,
    to_ratio,
)
from benchmark.report.model_result import ModelResult
from benchmark.report.verdict import Pair, Verdict


@dataclass(frozen=True)
class _Column:
    """A column with all of its rounds. cost: what a latency is multiplied by, 1 or the number of parameters."""

    model: ModelResult
    means_s: tuple[float, ...]
    cost: float

    @property
    def level(self) -> float:
        """Log of the geometric mean of its costs: the least is the best."""
        return statistics.fmean(map(math.log, self.means_s)) + math.log(self.cost)


def decide_by_rounds(
    question: Literal["speed", "efficiency"], group: str, models: Sequence[ModelResult], rounds: int, interrupted: bool
) -> Verdict:
    """Return who is the fastest, or has the most throughput for its parameters, on so many rounds; or no one.

    Of a run that was interrupted, nothing is decided before every column has all rounds. Otherwise a column that lacks
    rounds takes no part: it failed.

    models: the columns of one mode, at least one.
    """
    metric = "throughput_per_s" if question == "speed" else "efficiency"
    ranked = sorted(models, key=lambda model: float(getattr(model, metric)), reverse=True)
    none = Verdict(
        question, group, "UNDECIDED", "too few rounds", ranked=tuple(model.name for model in ranked), metric=metric,
        rounds=rounds,
    )  # fmt: skip
    if len(models) < 2:
        return replace(none, outcome="WIN", rule="only model", winner=models[0].name)
    if rounds < LEAST_ROUNDS:
        return none
    whole = [model for model in models if len(_complete(model, rounds)) == rounds]
    lacking = [model for model in models if len(_complete(model, rounds)) < rounds]
    if lacking:
        fewest = min(lacking, key=lambda model: len(_complete(model, rounds)))
        none = replace(
            none, left_out=tuple(model.name for model in lacking),
            reason=f"{fewest.name} has {len(_complete(fewest, rounds))} of {rounds} rounds",
        )  # fmt: skip
    if len(whole) < 2 or (lacking and interrupted):
        return replace(none, rule="incomplete rounds")
    return _decide(none, [_column(model, rounds, question) for model in whole])


def _complete(model: ModelResult, rounds: int) -> list[float]:
    """Return the mean latency of each complete round of those that were asked for."""
    return [found.mean_latency_s for found in model.rounds if found.complete and found.number < rounds]


def _column(model: ModelResult, rounds: int, question: str) -> _Column:
    return _Column(model, tuple(_complete(model, rounds)), float(model.parameters if question == "efficiency" else 1))


def _decide(none: Verdict, columns: Sequence[_Column]) -> Verdict:
    """Return the verdict on columns that all have the rounds of `none`."""
    ranked = sorted(columns, key=lambda column: column.level)
    pairs = tuple(_pair(one, other, none.rounds) for one, other in itertools.combinations(ranked, 2))
    of_best = pairs[: len(ranked) - 1]
    # The closest column that is not beaten decides; where all are, the runner-up is the closest of them.
    decisive = next((pair for pair in of_best if pair.outcome != "WIN"), of_best[0])
    verdict = replace(
        none, outcome=decisive.outcome, ranked=tuple(column.model.name for column in ranked), pairs=pairs,
        runner_up=decisive.second, ratio=decisive.value, interval=decisive.interval,
        win_interval=decisive.win_interval, confidence=decisive.confidence, look=decisive.look,
    )  # fmt: skip
    if decisive.outcome == "WIN":
        return replace(verdict, rule="better figure", winner=decisive.first)
    if decisive.outcome == "TIE":
        return replace(verdict, rule="tie")
    needed = rounds_needed([_ratio(ranked[0], other) for other in ranked[1:]])
    return replace(verdict, rule="undecided", rounds_needed=needed)


def _ratio(better: _Column, worse: _Column) -> LogRatio:
    return log_ratio(worse.means_s, better.means_s, worse.cost / better.cost)


def _pair(better: _Column, worse: _Column, rounds: int) -> Pair:
    ratio = _ratio(better, worse)
    look = look_of(rounds, better.model.looks, worse.model.looks)
    confidence = confidence_at(look)
    return Pair(
        better.model.name, worse.model.name, ratio.outcome(confidence), to_ratio(ratio.mean),
        ratio.interval(TIE_CONFIDENCE), ratio.interval(confidence), confidence, look,
    )  # fmt: skip
