"""Arithmetic of 95 % intervals without torch: proportions, delete-group jackknives, and differences of two scores.

A report is written from data alone, and compares scores by their replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import stdtr, stdtrit

from metrics.base import Score

MINIMUM_SAMPLES = 5
_NORMAL_975 = 1.959963984540054


def student_t_975(degrees: int) -> float:
    """Return the 97.5 % point of Student's t."""
    assert degrees >= MINIMUM_SAMPLES - 1
    return float(stdtrit(degrees, 0.975))


def proportion_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval for a share 0..1 of `count` independent trials; it keeps its width at 0 and 1."""
    z_squared = _NORMAL_975**2
    centre = (share + z_squared / (2 * count)) / (1 + z_squared / count)
    half_width = math.sqrt(z_squared * (share * (1 - share) / count + z_squared / (4 * count**2))) / (
        1 + z_squared / count
    )
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


def jackknife_variance(replicates: Sequence[float]) -> float:
    """Return the variance that one sample gives a statistic, from the G statistics without one of its G groups."""
    groups = len(replicates)
    mean = math.fsum(replicates) / groups
    return (groups - 1) / groups * math.fsum((value - mean) ** 2 for value in replicates)


@dataclass(frozen=True)
class Estimate:
    """A figure whose spread is known from its delete-group replicates.

    variances: of each sample that the figure depends on ("generated", "reference"); they add.
    degrees: of freedom, one less than the fewest groups of a sample.
    """

    value: float
    variances: Mapping[str, float]
    degrees: int

    @property
    def standard_error(self) -> float:
        return math.sqrt(math.fsum(self.variances.values()))

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return Student's interval."""
        half_width = float(stdtrit(self.degrees, (1 + confidence) / 2)) * self.standard_error
        return self.value - half_width, self.value + half_width

    def chance_below(self, limit: float) -> float:
        """Return how likely an estimate so far below `limit` is, where the true value is `limit`.

        A figure that never varies is at most `limit` (0), or above it (1).
        """
        if self.standard_error == 0:
            return 0.0 if self.value <= limit else 1.0
        return float(stdtr(self.degrees, (self.value - limit) / self.standard_error))


def jackknife(value: float, deleted: Mapping[str, Sequence[float]]) -> Estimate | None:
    """Return a statistic of independent samples with its variances, or None where there are few replicates.

    deleted: for each sample, the G statistics without one of its G groups.
    """
    if not deleted or min(map(len, deleted.values())) < MINIMUM_SAMPLES:
        return None
    variances = {sample: jackknife_variance(replicates) for sample, replicates in deleted.items()}
    return Estimate(value, variances, min(map(len, deleted.values())) - 1)


def jackknife_interval(value: float, deleted: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Return the 95 % interval of a statistic from its delete-group replicates, or None if few; see `jackknife`."""
    found = jackknife(value, deleted)
    return None if found is None else found.interval()


def score_difference(one: Score, other: Score) -> Estimate | None:
    """Return `one` minus `other`, scores of one kind, or None where its spread is not known.

    Replicates without the same group are subtracted: what both share (the reference, the requests) then counts once.
    """
    if one.replicates.keys() != other.replicates.keys():
        return None
    deleted = {}
    for sample, mine in one.replicates.items():
        theirs = other.replicates[sample]
        if len(mine) != len(theirs):
            return None
        deleted[sample] = [a - b for a, b in zip(mine, theirs, strict=True)]
    return jackknife(one.value - other.value, deleted)


def difference_interval(one: Score, other: Score) -> tuple[float, float] | None:
    """Return the 95 % interval of `one` minus `other`, scores of one kind, or None where it is not known."""
    found = score_difference(one, other)
    return None if found is None else found.interval()
