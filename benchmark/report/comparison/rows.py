"""The rows of a comparison: for each pair of columns each figure of both runs, how far they lie apart, who wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.report.comparison.counted_rounds import count_beside_other_work, counted_means_s
from benchmark.report.comparison.differences import is_same_machine
from benchmark.report.comparison.estimates import (
    Estimate,
    Pairing,
    compare_latencies,
    compare_scores,
)
from benchmark.report.comparison.pairing import ColumnPair
from benchmark.report.costs import energy_of
from benchmark.report.latency_ratios import LEAST_ROUNDS, TIE_CONFIDENCE, to_ratio
from benchmark.report.numbers import has_value
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.verdict import Outcome
from metrics.base import Score

LATENCY, ENERGY, MEMORY = "latency", "energy", "memory"
ACROSS = "timed on two cards or machines; --across-machines compares them all the same"


@dataclass(frozen=True)
class Row:
    """One figure of one pair of columns.

    figure: "latency", "energy", "memory", or the key of a score. decimals: of a score, as the table shows it.
    change: new / old of latency, energy and memory; new - old of a score; None where the two are not compared.
    interval: the 95 % interval of the change, None where it is not known.
    outcome: what the interval decides; None without one. winner: the run that is better, of a WIN alone.
    pairing: what of two scores was paired. rounds: how many of the old and of the new run decided.
    reason: why there is no change, or no interval of it; "" where there is one.
    across_machines: the two were timed on different machines.
    estimate: of the logarithm of the ratio, or of the difference.
    floor_interval: of the new score, or of the old one: 95 %.
    """

    column: str
    figure: str
    label: str
    better: Literal["lower", "higher"]
    old: float | None
    new: float | None
    decimals: int = 0
    change: float | None = None
    interval: tuple[float, float] | None = None
    outcome: Outcome | None = None
    winner: Literal["old", "new", ""] = ""
    pairing: Pairing | None = None
    rounds: tuple[int, int] | None = None
    reason: str = ""
    across_machines: bool = False
    estimate: Estimate | None = None
    floor_interval: tuple[float, float] | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether the change is a ratio, and not a difference."""
        return self.figure in (LATENCY, ENERGY, MEMORY)

    @property
    def worsening(self) -> Estimate | None:
        """The estimate of how much worse the new run is: above 0 where it is."""
        if self.estimate is None or self.better == "lower":
            return self.estimate
        return self.estimate.reversed()


def compare_columns(old: RunResult, new: RunResult, pairs: Sequence[ColumnPair], across_machines: bool) -> list[Row]:
    """Return the rows of every pair of columns.

    across_machines: compare speeds and energy of two machines; such rows are marked.
    """
    rows: list[Row] = []
    same_requests = asked_the_same(old, new)
    for pair in pairs:
        is_same = is_same_machine(old, new, pair)
        costs = [row for row in (_latency(pair), _energy(pair)) if row is not None]
        if not is_same:
            costs = [_mark(row, across_machines) for row in costs]
        memory = _memory(pair)
        rows += [*costs, *([] if memory is None else [memory])]
        same_reference = old.reference_identity == new.reference_identity != ""
        rows += _scores(pair, same_requests, same_reference)
    return rows


def asked_the_same(old: RunResult, new: RunResult) -> bool:
    """Return whether image i of both runs was asked for by the same prompt from the same seed."""
    seeds = old.settings.get("SEED"), new.settings.get("SEED")
    prompts = old.prompts_identity, new.prompts_identity
    return bool(prompts[0]) and prompts[0] == prompts[1] and seeds[0] is not None and seeds[0] == seeds[1]


def _mark(row: Row, across_machines: bool) -> Row:
    """Return a row of two machines: as it is, but marked, or with both figures and no comparison."""
    if across_machines:
        return replace(row, across_machines=True)
    return Row(row.column, row.figure, row.label, row.better, row.old, row.new, row.decimals, reason=ACROSS)


def _latency(pair: ColumnPair) -> Row:
    """Return the row of seconds per image: each round that counts is one value."""
    means_s = [counted_means_s(model) for model in (pair.old, pair.new)]
    estimate = compare_latencies(means_s[0], means_s[1])
    rounds = len(means_s[0]), len(means_s[1])
    row = _ratio(pair, LATENCY, "Latency (s/image)", pair.old.mean_latency_s, pair.new.mean_latency_s)
    if estimate is None:
        return replace(row, rounds=rounds, reason=_too_few(pair, rounds))
    outcome = estimate.outcome_of_ratio()
    return replace(
        row, change=to_ratio(estimate.value), interval=estimate.ratios(), outcome=outcome,
        winner="" if outcome != "WIN" else "old" if estimate.value > 0 else "new", rounds=rounds, estimate=estimate,
        reason="",
    )  # fmt: skip


def _too_few(pair: ColumnPair, rounds: tuple[int, int]) -> str:
    busy = count_beside_other_work(pair.old), count_beside_other_work(pair.new)
    why = f"; {busy[0]} and {busy[1]} were beside other work on the CPU" if any(busy) else ""
    return f"fewer than {LEAST_ROUNDS} rounds count: {rounds[0]} of the old run and {rounds[1]} of the new one{why}"


def _energy(pair: ColumnPair) -> Row | None:
    costs = [energy_of(model) for model in (pair.old, pair.new)]
    figures = [None if cost is None else cost.joules_per_image for cost in costs]
    if figures == [None, None]:
        return None
    return _ratio(pair, ENERGY, "Energy (J/image)", *figures)


def _memory(pair: ColumnPair) -> Row | None:
    figures = [_gigabytes(model) for model in (pair.old, pair.new)]
    if figures == [None, None]:
        return None
    return _ratio(pair, MEMORY, "Peak memory (GB)", *figures)


def _gigabytes(model: ModelResult) -> float | None:
    return None if model.peak_memory_bytes is None else model.peak_memory_bytes / 1e9


def _ratio(pair: ColumnPair, figure: str, label: str, old: float | None, new: float | None) -> Row:
    """Return the row of two figures of which no interval is known."""
    if old is None or new is None:
        return Row(pair.name, figure, label, "lower", old, new, reason=f"the {_which(old)} run has no figure")
    change = new / old if old > 0 else None
    return Row(pair.name, figure, label, "lower", old, new, change=change, reason="its interval is not known")


def _which(old: float | None) -> str:
    return "old" if old is None else "new"


def _scores(pair: ColumnPair, same_requests: bool, same_reference: bool) -> list[Row]:
    """Return the row of each score that one of the two columns has."""
    keys = dict.fromkeys(score.key for model in (pair.new, pair.old) for score in model.scores)
    return [_score(pair, key, same_requests, same_reference) for key in keys]


def _score(pair: ColumnPair, key: str, same_requests: bool, same_reference: bool) -> Row:
    old, new = pair.old.score(key), pair.new.score(key)
    like = new or old
    assert like is not None
    floor = next((each.floor_interval for each in (new, old) if each and each.floor_interval), None)
    row = Row(
        pair.name, key, like.short, like.better, None if old is None else old.value, None if new is None else new.value,
        like.decimals,
        floor_interval=floor,
    )  # fmt: skip
    reason = _why_not(old, new, same_reference)
    if reason or old is None or new is None:
        return replace(row, reason=reason)
    difference = new.value - old.value
    found = compare_scores(old, new, same_requests)
    if found is None:
        return replace(row, change=difference, reason="its interval is not known")
    estimate, pairing = found
    is_lower = like.better == "lower"
    outcome = estimate.outcome_of_difference((min if is_lower else max)(old.value, new.value))
    return replace(
        row, change=difference, interval=estimate.interval(TIE_CONFIDENCE), outcome=outcome,
        winner="" if outcome != "WIN" else "new" if (difference < 0) == is_lower else "old", pairing=pairing,
        estimate=estimate,
    )  # fmt: skip


def _why_not(old: Score | None, new: Score | None, same_reference: bool) -> str:
    """Return why two scores are not compared, or ""."""
    if old is None or new is None:
        return f"the {'old' if old is None else 'new'} run has no such score"
    if not has_value(old.value) or not has_value(new.value):
        return f"the score of the {'old' if not has_value(old.value) else 'new'} run is no number"
    if old.identity != new.identity:
        return "the scores are of different identities"
    if new.n_reference and not same_reference:
        return "the scores are against references that are not known to be the same"
    if (old.n_generated, old.n_reference) != (new.n_generated, new.n_reference):
        return "the scores are of different numbers of images"
    return ""
