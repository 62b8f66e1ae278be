"""Figures that may have no value, as they are shown: NaN, an infinite number, and None after a results.json is read."""

from __future__ import annotations

import math

from metrics.base import Score
from metrics.intervals import difference_interval

NO_VALUE = "n/a"


def has_value(number: float | None) -> bool:
    """Return whether a figure is a finite number."""
    return number is not None and math.isfinite(number)


def shown_number(number: float | None, decimals: int) -> str:
    """Return a figure with so many decimals, or n/a."""
    return f"{number:.{decimals}f}" if has_value(number) else NO_VALUE


def shown_percent(share: float | None) -> str:
    """Return a share as "1.2 %", or n/a."""
    return f"{shown_number(100 * share, 1 if share >= 0.001 else 2)} %" if share is not None else NO_VALUE


def shown_interval(interval: tuple[float, float] | None, decimals: int) -> str:
    """Return "low..high", or "" where an end is not known."""
    if interval is None or not all(map(has_value, interval)):
        return ""
    low, high = interval
    return f"{low:.{decimals}f}..{high:.{decimals}f}"


def paired_interval(one: Score, other: Score) -> tuple[float, float] | None:
    """Return the 95 % interval of `one` minus `other`, or None where it is not known."""
    for score in (one, other):
        figures = [score.value, *(number for numbers in score.replicates.values() for number in numbers)]
        if not all(map(has_value, figures)):
            return None
    return difference_interval(one, other)
