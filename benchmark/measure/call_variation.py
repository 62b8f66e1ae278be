"""How much calls of one process differ from each other, without what changes slowly meanwhile. Imports no torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from itertools import pairwise

LEAST_CALLS = 3  # of which two neighbours differ twice


def call_variation(seconds: Sequence[float]) -> float | None:
    """Return the coefficient of variation of calls in their order; None of fewer than three.

    It is taken from the differences of neighbours: the standard deviation of these is that of single calls times the
    square root of two, and a process that grows steadily slower or faster changes only their mean.

    seconds: of each call, in the order in which they were made.
    """
    if len(seconds) < LEAST_CALLS:
        return None
    steps_s = [later - earlier for earlier, later in pairwise(seconds)]
    return statistics.stdev(steps_s) / math.sqrt(2) / statistics.fmean(seconds)
