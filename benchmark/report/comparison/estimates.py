"""How far two runs lie apart in one figure, with its interval: a ratio of latencies, or a difference of scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from scipy.special import stdtr, stdtrit

from benchmark.report.latency_ratios import LEAST_ROUNDS, TIE_CONFIDENCE, TIE_RATIO, to_ratio
from benchmark.report.numbers import has_value
from benchmark.report.quality_verdict import TIE_SHARE
from benchmark.report.verdict import Outcome
from metrics.base import Score
from metrics.replicates import MINIMUM_SAMPLES, jackknife_variance

# So many degrees of freedom make Student's t the normal distribution.
_NORMAL_DEGREES = 1e9
_REFERENCE = "reference"  # the key of replicates without a group of the reference images
Pairing = Literal["paired", "reference paired", "unpaired"]


@dataclass(frozen=True)
class Estimate:
    """An estimate of new against old: the logarithm of a ratio, or a difference.

    below, above: standard errors to each side; they differ for shares near their ends. degrees: of freedom.
    """

    value: float
    below: float
    above: float
    degrees: float

    def interval(self, confidence: float) -> tuple[float, float]:
        """Return the interval at this level."""
        errors = float(stdtrit(self.degrees, (1 + confidence) / 2))
        return self.value - errors * self.below, self.value + errors * self.above

    def chance_within(self, threshold: float) -> float:
        """Return the p-value of a true value of at most `threshold`: how likely it shows as much as this by chance."""
        distance = self.value - threshold
        if distance <= 0:
            return 1.0
        return float(stdtr(self.degrees, -distance / self.below)) if self.below > 0 else 0.0

    def ratios(self, confidence: float = TIE_CONFIDENCE) -> tuple[float, float]:
        """Return the interval of the ratio of which this is the logarithm."""
        low, high = self.interval(confidence)
        return to_ratio(low), to_ratio(high)

    def outcome_of_ratio(self) -> Outcome:
        """Return TIE where the 95 % interval lies within 3 % of 1, then WIN where it excludes 1, else UNDECIDED."""
        return self._outcome(math.log(TIE_RATIO))

    def outcome_of_difference(self, better: float) -> Outcome:
        """Return TIE where the 95 % interval lies within 3 % of the better score around 0, then WIN or UNDECIDED."""
        return self._outcome(TIE_SHARE * abs(better))

    def _outcome(self, limit: float) -> Outcome:
        low, high = self.interval(TIE_CONFIDENCE)
        if -limit <= low and high <= limit:
            return "TIE"
        return "UNDECIDED" if low <= 0 <= high else "WIN"

    def reversed(self) -> Estimate:
        """Return the estimate of old against new."""
        return Estimate(-self.value, self.above, self.below, self.degrees)


def compare_latencies(old_s: Sequence[float], new_s: Sequence[float]) -> Estimate | None:
    """Return the log of how many times as long the new run takes, or None of fewer than three rounds on a side.

    The rounds of two runs are not paired: the two variances add, with the degrees of freedom of Welch.

    old_s, new_s: mean latency of each round that counts, above 0.
    Source: Welch 1947, "The generalization of Student's problem".
    """
    return compare_with_others([old_s], new_s)


def compare_with_others(others_s: Sequence[Sequence[float]], own_s: Sequence[float]) -> Estimate | None:
    """Return the log of how many times as long one takes as the geometric mean of others, as `compare_latencies` does.

    Each of the others weighs the same, however many rounds it has. None: one of all these has fewer than three rounds.

    others_s: of each of the others, at least one; own_s: mean latency of each round that counts, above 0.
    Source: Satterthwaite 1946, "An approximate distribution of estimates of variance components".
    """
    if min(map(len, (*others_s, own_s))) < LEAST_ROUNDS:
        return None
    others, own = [[math.log(seconds) for seconds in each] for each in others_s], [math.log(each) for each in own_s]
    value = statistics.fmean(own) - statistics.fmean(map(statistics.fmean, others))
    parts = [statistics.variance(each) / len(each) / len(others) ** 2 for each in others]
    parts.append(statistics.variance(own) / len(own))
    error = math.sqrt(sum(parts))
    if error == 0:
        return Estimate(value, 0.0, 0.0, sum(len(each) - 1 for each in (*others, own)))
    degrees = sum(parts) ** 2 / sum(
        part**2 / (len(each) - 1) for part, each in zip(parts, (*others, own), strict=True)
    )  # fmt: skip
    return Estimate(value, error, error, degrees)


def compare_scores(old: Score, new: Score, same_requests: bool) -> tuple[Estimate, Pairing] | None:
    """Return new minus old, and what of the two was paired; None where no interval is known.

    Replicates without the same group are subtracted. Of the reference this always holds, since scores against others
    are not compared. Of the generated images it holds where both runs asked for the same prompts from the same seeds.
    Otherwise the variances of the two add. Scores with intervals alone are taken as unpaired, each with the part of
    its interval that faces the other.

    Source: Newcombe 1998, "Interval estimation for the difference between independent proportions", method 10.
    """
    if _has_replicates(old) and _has_replicates(new) and _are_alike(old, new):
        return _from_replicates(old, new, same_requests)
    if not (_has_interval(old) and _has_interval(new)):
        return None
    assert old.interval is not None
    assert new.interval is not None
    normal_975 = float(stdtrit(_NORMAL_DEGREES, 0.975))
    below = math.hypot(new.value - new.interval[0], old.interval[1] - old.value) / normal_975
    above = math.hypot(new.interval[1] - new.value, old.value - old.interval[0]) / normal_975
    return Estimate(new.value - old.value, below, above, _NORMAL_DEGREES), "unpaired"


def _from_replicates(old: Score, new: Score, same_requests: bool) -> tuple[Estimate, Pairing]:
    variance = 0.0
    for sample, theirs in old.replicates.items():
        ours = new.replicates[sample]
        if same_requests or sample == _REFERENCE:
            deleted = [a - b for a, b in zip(ours, theirs, strict=True)]
            variance += jackknife_variance(deleted)
        else:
            variance += jackknife_variance(ours) + jackknife_variance(theirs)
    error = math.sqrt(variance)
    degrees = min(map(len, old.replicates.values())) - 1
    pairing: Pairing = "paired" if same_requests else "reference paired" if _REFERENCE in old.replicates else "unpaired"
    return Estimate(new.value - old.value, error, error, degrees), pairing


def _are_alike(old: Score, new: Score) -> bool:
    return {name: len(each) for name, each in old.replicates.items()} == {
        name: len(each) for name, each in new.replicates.items()
    }


def _has_replicates(score: Score) -> bool:
    samples = score.replicates.values()
    return bool(samples) and all(len(each) >= MINIMUM_SAMPLES and all(map(has_value, each)) for each in samples)


def _has_interval(score: Score) -> bool:
    return score.interval is not None and all(map(has_value, score.interval))
