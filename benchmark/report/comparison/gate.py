"""The gate: whether a figure of the new run is worse by more than is allowed, beyond what chance would do.

Every gated row asks one question: does the whole interval lie beyond the threshold? The intervals are adjusted by Holm,
so that all of them together raise a false alarm in at most 5 % of comparisons, and in at most half of that in the
direction that counts. With one row alone, it is the 95 % interval that the row shows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from benchmark.report.comparison.estimates import Estimate
from benchmark.report.comparison.rows import LATENCY, Row
from benchmark.report.equal_quality import margin_of
from benchmark.report.latency_ratios import to_ratio

SLOWER = 0.03
ERROR_RATE = 0.05
GateResult = Literal["FAILED", "PASSED", "UNDECIDED"]


@dataclass(frozen=True)
class Thresholds:
    """What is allowed.

    slower: the share by which a column may be slower, 0.03 for 3 %; None: latencies are not gated.
    worse: by the key of a score, by how much it may be worse, in its own unit; the key "" stands for the score that
    decides. Other scores have their default margins.
    gate_scores: False: no score is gated.
    """

    slower: float | None = SLOWER
    worse: Mapping[str, float] = field(default_factory=dict)
    gate_scores: bool = True


@dataclass(frozen=True)
class GateTest:
    """One gated row.

    threshold, change, interval: of a latency new / old; of a score how much worse it is, above 0 where it is.
    interval: Holm's, at `confidence`. result: FAILED where it lies wholly above the threshold, PASSED where wholly at
    or below it, UNDECIDED where the threshold is inside.
    is_default: no one gave the threshold of this row.
    """

    column: str
    figure: str
    label: str
    decimals: int
    threshold: float
    change: float
    interval: tuple[float, float]
    confidence: float
    result: GateResult
    is_default: bool

    @property
    def is_ratio(self) -> bool:
        """Whether it is a ratio of latencies, and not a difference of scores."""
        return self.figure == LATENCY


@dataclass(frozen=True)
class NotGated:
    """A row that no test was made of, and why."""

    column: str
    label: str
    reason: str


@dataclass(frozen=True)
class Gate:
    """The tests in the order of the rows, and the rows with an interval, or a threshold, that were not tested."""

    tests: tuple[GateTest, ...]
    not_gated: tuple[NotGated, ...]

    @property
    def failed(self) -> bool:
        """Whether a figure is worse by more than is allowed."""
        return any(test.result == "FAILED" for test in self.tests)


@dataclass(frozen=True)
class _Question:
    row: Row
    estimate: Estimate
    threshold: float  # a logarithm for latencies
    is_default: bool


def ask_gate(rows: Sequence[Row], thresholds: Thresholds, deciding: str, margin: float | None = None) -> Gate:
    """Return the answers of all gated rows together.

    deciding: the key of the score that decides, "" where no score does. margin: by how much that one may be worse where
    `thresholds` do not say, in the place of `default_margin`: the run's QUALITY_MARGIN.

    Raises:
        ValueError: a threshold was given for a score that neither run has, or two for one score.
    """
    worse = _by_key(rows, thresholds, deciding)
    questions, not_gated = [], []
    for row in rows:
        threshold, is_default = _threshold_of(row, thresholds, worse)
        if is_default and row.figure == deciding and margin is not None:
            threshold, is_default = margin, False
        worsening = row.worsening
        if threshold is not None and worsening is not None:
            questions.append(_Question(row, worsening, threshold, is_default))
        elif reason := _why_not(row, thresholds, worse):
            not_gated.append(NotGated(row.column, row.label, reason))
    return Gate(tuple(_answers(questions)), tuple(not_gated))


def default_margin(row: Row) -> float | None:
    """Return by how much a score may be worse where no one says: as for equal quality, but never 0."""
    margin = margin_of(row.floor_interval)
    return margin if margin is not None and margin > 0 else None


def _by_key(rows: Sequence[Row], thresholds: Thresholds, deciding: str) -> dict[str, float]:
    keys = list(dict.fromkeys(row.figure for row in rows if not row.is_ratio))
    worse = dict(thresholds.worse)
    if "" in worse:
        if not deciding:
            raise ValueError("--worse VALUE: no score decides in both runs; name one, as kid=0.002")
        if deciding in worse:
            raise ValueError(
                f"--worse VALUE is for {deciding}, which decides, and so is --worse {deciding}=...: give one"
            )
        worse = {deciding: worse.pop("")} | worse
    if unknown := [key for key in worse if key not in keys]:
        there = f"there are {', '.join(keys)}" if keys else "there is no score"
        raise ValueError(f"--worse {unknown[0]}=...: no run has such a score; {there}")
    return worse


def _threshold_of(row: Row, thresholds: Thresholds, worse: Mapping[str, float]) -> tuple[float | None, bool]:
    """Return the row's threshold, None where it is not gated, and whether it is a default one."""
    if row.figure == LATENCY:
        return (None if thresholds.slower is None else math.log1p(thresholds.slower)), False
    if row.is_ratio or not thresholds.gate_scores:
        return None, False
    if row.figure in worse:
        return worse[row.figure], False
    return default_margin(row), True


def _why_not(row: Row, thresholds: Thresholds, worse: Mapping[str, float]) -> str:
    """Return why a row that could be gated is not, "" for one of which no one would ask."""
    if row.figure == LATENCY:
        return row.reason if thresholds.slower is not None else "--slower none"
    if row.is_ratio:
        return ""
    if not thresholds.gate_scores:
        return "--worse none"
    if row.estimate is None:
        return row.reason
    return "" if row.figure in worse else f"its margin is not known; --worse {row.figure}=VALUE gives one"


def _answers(questions: Sequence[_Question]) -> list[GateTest]:
    """Return the tests with Holm's intervals: the least likely first, each at its level, until one does not fail.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    chances = [question.estimate.chance_within(question.threshold) for question in questions]
    order = sorted(range(len(questions)), key=lambda place: chances[place])
    found: dict[int, GateTest] = {}
    share = 0.0
    is_stopped = False
    for done, place in enumerate(order):
        if not is_stopped:
            share = ERROR_RATE / (len(questions) - done)
        found[place] = _answer(questions[place], 1 - share)
        is_stopped = is_stopped or found[place].result != "FAILED"
    return [found[place] for place in range(len(questions))]


def _answer(question: _Question, confidence: float) -> GateTest:
    row, estimate, threshold = question.row, question.estimate, question.threshold
    low, high = estimate.interval(confidence)
    result: GateResult = "FAILED" if low > threshold else "PASSED" if high <= threshold else "UNDECIDED"
    shown = (lambda value: to_ratio(value)) if row.is_ratio else (lambda value: value)
    return GateTest(
        row.column, row.figure, row.label, row.decimals, shown(threshold), shown(estimate.value),
        (shown(low), shown(high)), confidence, result, question.is_default,
    )  # fmt: skip
