"""How many times faster one column is than another, from a value for each round: its intervals, and what they decide.

The unit of replication is the round, since each is a process of its own: processes differ by far more than the calls
within one do. The two columns' latencies of one round are compared with each other, so that what changes from round to
round for both of them cancels, and what does not only widens the interval.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy.special import stdtrit

from benchmark.report.verdict import Outcome

LEAST_ROUNDS = 3
MOST_ROUNDS = 100  # a line names no more rounds than this as those that would decide
TIE_RATIO = 1.03
TIE_CONFIDENCE = 0.95
# To look again at other rounds is another chance to be wrong: 4 % at the first look and 1 % at the next are 5 %.
FIRST_CONFIDENCE, LATER_CONFIDENCE = 0.96, 0.99
_LARGEST_LOG = 700.0  # e to the power of it is still a float


@dataclass(frozen=True)
class LogRatio:
    """The logarithm of how many times better one column is than another: mean and sample spread over rounds."""

    mean: float
    spread: float
    rounds: int

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return Student's interval of the ratio."""
        half_width = self._half_width(confidence)
        return to_ratio(self.mean - half_width), to_ratio(self.mean + half_width)

    def outcome(self, confidence: float) -> Outcome:
        """Return what the rounds decide; WIN is for the column with the better mean.

        TIE comes first: the 95 % interval lies within 3 % of 1. WIN: the interval at `confidence` excludes 1.
        """
        if abs(self.mean) + self._half_width(TIE_CONFIDENCE) <= math.log(TIE_RATIO):
            return "TIE"
        return "WIN" if abs(self.mean) > self._half_width(confidence) else "UNDECIDED"

    def after(self, rounds: int) -> LogRatio:
        """Return what so many rounds would give, if mean and spread stayed as they are."""
        return replace(self, rounds=rounds)

    def _half_width(self, confidence: float) -> float:
        return student_t(confidence, self.rounds - 1) * self.spread / math.sqrt(self.rounds)


def log_ratio(worse: Sequence[float], better: Sequence[float], weight: float = 1.0) -> LogRatio:
    """Return how many times `better` is better: the logs of worse / better in each round, of at least two rounds.

    worse, better: latencies above 0, one for each round. weight: a factor of every ratio.
    """
    logs = [math.log(a) - math.log(b) + math.log(weight) for a, b in zip(worse, better, strict=True)]
    return LogRatio(statistics.fmean(logs), statistics.stdev(logs), len(logs))


def t_interval(values: Sequence[float], confidence: float) -> tuple[float, float]:
    """Return Student's interval for the mean of at least two independent values."""
    mean = statistics.fmean(values)
    half_width = student_t(confidence, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    return mean - half_width, mean + half_width


@functools.cache
def student_t(confidence: float, degrees: int) -> float:
    """Return how many standard errors Student's two-sided interval reaches to each side."""
    assert 0 < confidence < 1
    assert degrees >= 1
    return float(stdtrit(degrees, (1 + confidence) / 2))


def look_of(rounds: int, *earlier: Sequence[int]) -> int:
    """Return the number of a look at so many rounds, from 1: that of the column which was looked at more often before.

    A look at as many rounds as an earlier one is the same look. One at fewer rounds than before is another chance too.

    earlier: for each of the columns, the numbers of rounds of earlier looks, in their order.
    """
    return 1 + max((looks.index(rounds) if rounds in looks else len(looks) for looks in earlier), default=0)


def confidence_at(look: int) -> float:
    """Return the level of the interval by which a look names a winner."""
    return FIRST_CONFIDENCE if look == 1 else LATER_CONFIDENCE


def rounds_needed(of_best: Sequence[LogRatio], asked: int) -> int | None:
    """Return with how many rounds the best column would beat all others or tie; None: more than `MOST_ROUNDS`.

    of_best: how many times better it is than each other column, the closest first. They are looked at again, so that a
    win is one at 99 %. asked: how many rounds there are; a ratio may rest on fewer.
    """
    for rounds in range(asked + 1, MOST_ROUNDS + 1):
        outcomes = (ratio.after(ratio.rounds + rounds - asked).outcome(LATER_CONFIDENCE) for ratio in of_best)
        if next((outcome for outcome in outcomes if outcome != "WIN"), "WIN") != "UNDECIDED":
            return rounds
    return None


def to_ratio(log: float) -> float:
    """Return the ratio of a logarithm, kept within what a float can hold."""
    return math.exp(max(-_LARGEST_LOG, min(_LARGEST_LOG, log)))
