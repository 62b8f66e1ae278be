"""Who wins on speed and on efficiency: by the rounds of the columns of one mode."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
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
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.verdict import Pair, Rule, Verdict


@dataclass(frozen=True)
class _Column:
    """A column with its complete rounds, by number, and those of them in which nothing else had the card in use.

    cost: what a latency is multiplied by, 1 or its parameters.
    """

    model: ModelResult
    complete: Mapping[int, Round]
    cost: float

    @property
    def rounds(self) -> dict[int, Round]:
        return {number: found for number, found in self.complete.items() if found.counts}

    @property
    def level(self) -> float:
        """Log of the geometric mean of its costs: the least is the best."""
        rounds = self.rounds or self.complete
        return statistics.fmean(math.log(found.mean_latency_s) for found in rounds.values()) + math.log(self.cost)


def decide_by_rounds(
    question: Literal["speed", "efficiency"], group: str, models: Sequence[ModelResult], rounds: int,
    interrupted: bool = False, failed: Collection[str] = (), not_started: Sequence[str] = (),
) -> Verdict:  # fmt: skip
    """Return who is the fastest, or has the most throughput for its parameters, on so many rounds; or no one.

    Of a run that was interrupted, nothing is decided before every column that did not fail has all rounds. Otherwise a
    column that lacks rounds takes no part: it failed.

    models: the columns of one mode, at least one. failed: names of those that did not come to their end. not_started:
    names of those of the mode that an interrupted run did not come to.
    """
    metric = "throughput_per_s" if question == "speed" else "efficiency"
    ranked = sorted(models, key=lambda model: float(getattr(model, metric)), reverse=True)
    none = Verdict(
        question, group, "UNDECIDED", "too few rounds", ranked=tuple(model.name for model in ranked), metric=metric,
        rounds=rounds,
    )  # fmt: skip
    if not_started:
        reason = f"{not_started[0]} has 0 of {rounds} rounds"
        return replace(none, rule="incomplete rounds", left_out=tuple(not_started), reason=reason)
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
    if len(whole) < 2 or (interrupted and any(model.name not in failed for model in lacking)):
        return replace(none, rule="incomplete rounds")
    return _decide(none, [_column(model, rounds, question) for model in whole])


def compare_speeds(one: ModelResult, other: ModelResult, rounds: int) -> Pair:
    """Return which of two columns is faster, as a verdict on speed compares them; both have all of so many rounds."""
    return _pair(_column(one, rounds, "speed"), _column(other, rounds, "speed"), rounds)


def rounds_to_tell(faster: ModelResult, slower: ModelResult, rounds: int) -> int | None:
    """Return how many rounds would decide between two columns; None where that is not known, or too many."""
    ratio = _ratio(_column(faster, rounds, "speed"), _column(slower, rounds, "speed"))
    return None if ratio is None else rounds_needed([ratio], rounds)


def typical_latency_s(model: ModelResult, rounds: int) -> float:
    """Return the geometric mean of the rounds that count, seconds per image."""
    return math.exp(_column(model, rounds, "speed").level)


def count_complete(model: ModelResult, rounds: int) -> int:
    """Return how many of so many rounds are complete."""
    return len(_complete(model, rounds))


def _complete(model: ModelResult, rounds: int) -> dict[int, Round]:
    """Return the complete rounds of those that were asked for, by number."""
    return {found.number: found for found in model.rounds if found.complete and found.number < rounds}


def _column(model: ModelResult, rounds: int, question: str) -> _Column:
    return _Column(model, _complete(model, rounds), float(model.parameters if question == "efficiency" else 1))


def _decide(none: Verdict, columns: Sequence[_Column]) -> Verdict:
    """Return the verdict on columns that all have the rounds of `none`."""
    ranked = sorted(columns, key=lambda column: (-_leads(column, columns), column.level))
    best = ranked[0].model.name
    pairs = tuple(_pair(one, other, none.rounds) for one, other in itertools.combinations(ranked, 2))
    of_best = pairs[: len(ranked) - 1]
    # The closest column that is not beaten decides; where all are, the runner-up is the closest of them.
    lost = next((pair for pair in of_best if pair.outcome != "WIN" or pair.first != best), None)
    decisive = lost or of_best[0]
    names = [column.model.name for column in ranked]
    if decisive.first != best:  # pairs rest on different rounds, and go round in a circle
        names.remove(decisive.first)
        names.insert(0, decisive.first)
    verdict = replace(
        none, ranked=tuple(names), pairs=pairs, runner_up=decisive.second, ratio=decisive.value,
        interval=decisive.interval, win_interval=decisive.win_interval, confidence=decisive.confidence,
        look=decisive.look,
        disturbed=any(len(column.rounds) < len(column.complete) for column in columns),
    )  # fmt: skip
    if lost is None:
        return replace(verdict, outcome="WIN", rule="better figure", winner=best)
    if lost.rounds < LEAST_ROUNDS:
        rule: Rule = "disturbed rounds" if verdict.disturbed else "other runs"
        return replace(verdict, rule=rule, rounds_needed=_together(none.rounds, lost.rounds), confidence=None)
    if lost.outcome == "TIE":
        return replace(verdict, outcome="TIE", rule="tie")
    if lost.first != best:
        return replace(verdict, rule="undecided")
    ratios = [ratio for other in ranked[1:] if (ratio := _ratio(ranked[0], other)) is not None]
    return replace(verdict, rule="undecided", rounds_needed=rounds_needed(ratios, none.rounds))


def _together(rounds: int, common: int) -> int:
    """Return with how many rounds enough of them would have been timed by one run."""
    return rounds + LEAST_ROUNDS - common


def _leads(column: _Column, columns: Sequence[_Column]) -> int:
    """Return of how many other columns it is the better one."""
    return sum(_lead(column, other) > 0 for other in columns if other is not column)


def _lead(one: _Column, other: _Column) -> float:
    """Return the log of how many times better the first column is; where rounds cannot be compared, of all rounds."""
    ratio = _ratio(one, other)
    return other.level - one.level if ratio is None else ratio.mean


def _common(one: _Column, other: _Column) -> list[int]:
    """Return the rounds of which the same run of the program timed both columns, undisturbed.

    Only of these cancels what changes from one run to another. A round that does not tell its run goes with any.
    """
    return [
        number for number, found in one.rounds.items()
        if number in other.rounds and _same_runs(found.sessions, other.rounds[number].sessions)
    ]  # fmt: skip


def _same_runs(one: Collection[str], other: Collection[str]) -> bool:
    return not one or not other or set(one) == set(other)


def _ratio(better: _Column, worse: _Column) -> LogRatio | None:
    """Return how many times better a column is than another, of their common rounds; None: too few of them."""
    common = _common(better, worse)
    if len(common) < LEAST_ROUNDS:
        return None
    of_each = [[column.rounds[number].mean_latency_s for number in common] for column in (worse, better)]
    return log_ratio(of_each[0], of_each[1], worse.cost / better.cost)


def _pair(one: _Column, other: _Column, rounds: int) -> Pair:
    better, worse = (one, other) if _lead(one, other) >= 0 else (other, one)
    ratio, common = _ratio(better, worse), len(_common(better, worse))
    names = better.model.name, worse.model.name
    if ratio is None:
        return Pair(*names, "UNDECIDED", to_ratio(_lead(better, worse)), rounds=common)
    look = look_of(rounds, better.model.looks, worse.model.looks)
    confidence = confidence_at(look)
    return Pair(
        *names, ratio.outcome(confidence), to_ratio(ratio.mean), ratio.interval(TIE_CONFIDENCE),
        ratio.interval(confidence), confidence, look, common,
    )  # fmt: skip
