"""95 % confidence intervals of means, and the groups of samples that are left out of a replicate."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from metrics.replicates import MINIMUM_SAMPLES, student_t_975

GROUPS = 20


def mean_interval(values_N: Tensor) -> tuple[float, float] | None:
    """Return Student's interval for the mean of independent values, or None below `MINIMUM_SAMPLES`."""
    count = len(values_N)
    if count < MINIMUM_SAMPLES:
        return None
    values_N = values_N.to(torch.float64)
    half_width = student_t_975(count - 1) * float(values_N.std()) / math.sqrt(count)
    return float(values_N.mean()) - half_width, float(values_N.mean()) + half_width


def groups_of(count: int, most: int = GROUPS) -> Tensor:
    """Return the number of each sample's group, `groups_N`.

    Drawn at random, since a folder may be sorted or go round its classes, and with a fixed seed, so that a request is
    in the same group for every model.
    """
    return torch.randperm(count, generator=torch.Generator().manual_seed(0)) % min(most, count)


def mean_replicates(values_N: Tensor) -> dict[str, tuple[float, ...]]:
    """Return the replicates of a mean over the generated images, or none where there are too few images."""
    if len(values_N) < MINIMUM_SAMPLES:
        return {}
    values_N = values_N.to(torch.float64)
    groups_N = groups_of(len(values_N))
    sums_G = torch.zeros(int(groups_N.max()) + 1, dtype=torch.float64).index_add(0, groups_N, values_N)
    left_G = len(values_N) - groups_N.bincount()
    return {"generated": tuple(((values_N.sum() - sums_G) / left_G).tolist())}
