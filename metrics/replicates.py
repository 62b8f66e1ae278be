"""Arithmetic of 95 % intervals without torch: proportions, delete-group jackknives, and differences of two scores.

A report is written from data alone, and compares scores by their replicates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from scipy.special import stdtrit

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


def jackknife_interval(value: float, deleted: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Return the interval of a statistic of independent samples from its delete-group replicates, or None if few.

    deleted: for each sample, the G statistics without one of its G groups; the samples' variances add.
    """
    if not deleted or min(map(len, deleted.values())) < MINIMUM_SAMPLES:
        return None
    variance = math.fsum(map(jackknife_variance, deleted.values()))
    half_width = student_t_975(min(map(len, deleted.values())) - 1) * math.sqrt(variance)
    return value - half_width, value + half_width


def difference_interval(one: Score, other: Score) -> tuple[float, float] | None:
    """Return the 95 % interval of `one` minus `other`, scores of one kind, or None where it is not known.

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
    return jackknife_interval(one.value - other.value, deleted)
