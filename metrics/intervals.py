"""95 % confidence intervals for means, proportions and delete-group jackknives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from scipy.special import stdtrit
from torch import Tensor

from metrics.base import Score

MINIMUM_SAMPLES = 5
_NORMAL_975 = 1.959963984540054


def student_t_975(degrees: int) -> float:
    """Return the 97.5 % point of Student's t."""
    assert degrees >= MINIMUM_SAMPLES - 1
    return float(stdtrit(degrees, 0.975))


def mean_interval(values_N: Tensor) -> tuple[float, float] | None:
    """Return Student's interval for the mean of independent values, or None below `MINIMUM_SAMPLES`."""
    count = len(values_N)
    if count < MINIMUM_SAMPLES:
        return None
    values_N = values_N.to(torch.float64)
    half_width = student_t_975(count - 1) * float(values_N.std()) / math.sqrt(count)
    return float(values_N.mean()) - half_width, float(values_N.mean()) + half_width


def proportion_interval(share: float, count: int) -> tuple[float, float]:
    """Return Wilson's interval for a share 0..1 of `count` independent trials; it keeps its width at 0 and 1."""
    z_squared = _NORMAL_975**2
    centre = (share + z_squared / (2 * count)) / (1 + z_squared / count)
    half_width = math.sqrt(z_squared * (share * (1 - share) / count + z_squared / (4 * count**2))) / (
        1 + z_squared / count
    )
    return max(0.0, centre - half_width), min(1.0, centre + half_width)


GROUPS = 20


def groups_of(count: int, most: int = GROUPS) -> Tensor:
    """Return the number of each sample's group, `groups_N`.

    Drawn at random, since a folder may be sorted or go round its classes, and with a fixed seed, so that a request is
    in the same group for every model.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)) % min(most, count)


def jackknife_interval(value: float, deleted: Mapping[str, Sequence[float]]) -> tuple[float, float] | None:
    """Return the interval of a statistic of independent samples from its delete-group replicates, or None if few.

    deleted: for each sample, the G statistics without one of its G groups; the samples' variances add.
    """
    if not deleted or min(map(len, deleted.values())) < MINIMUM_SAMPLES:
        return None
    variance = 0.0
    for replicates in deleted.values():
        groups = len(replicates)
        mean = math.fsum(replicates) / groups
        variance += (groups - 1) / groups * math.fsum((value - mean) ** 2 for value in replicates)
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


def mean_replicates(values_N: Tensor) -> dict[str, tuple[float, ...]]:
    """Return the replicates of a mean over the generated images, or none where there are too few images."""
    if len(values_N) < MINIMUM_SAMPLES:
        return {}
    values_N = values_N.to(torch.float64)
    groups_N = groups_of(len(values_N))
    sums_G = torch.zeros(int(groups_N.max()) + 1, dtype=torch.float64).index_add(0, groups_N, values_N)
    left_G = len(values_N) - groups_N.bincount()
    return {"generated": tuple(((values_N.sum() - sums_G) / left_G).tolist())}
