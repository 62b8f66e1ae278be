"""Figures that may have no value, as they are shown: NaN, an infinite number, and None after a results.json is read."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metrics.base import Score
from metrics.replicates import Estimate, score_difference

NO_VALUE = "n/a"
_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def has_value(number: float | None) -> bool:
    """Return whether a figure is a finite number."""
    return number is not None and math.isfinite(number)


def shown_number(number: float | None, decimals: int) -> str:
    """Return a figure with so many decimals, or n/a."""
    return f"{number:.{decimals}f}" if has_value(number) else NO_VALUE


def shown_digits(number: float | None, digits: int = 3) -> str:
    """Return a figure rounded to so many significant digits, as "1,560,000", "12.3" or "0.0123"; or n/a."""
    if number is None or not math.isfinite(number):
        return NO_VALUE
    decimals = digits - 1 - math.floor(math.log10(abs(number))) if number else 0
    return f"{round(number, decimals):,.{max(0, decimals)}f}"


def shown_si(number: float | None, unit: str) -> str:
    """Return a figure of three digits with a prefix of its unit: "1.23 TFLOP"; or n/a."""
    if number is None or not math.isfinite(number):
        return NO_VALUE
    place = min(len(_PREFIXES) - 1, max(0, math.floor(math.log10(number) / 3))) if number > 0 else 0
    return f"{shown_digits(number / 1000.0**place)} {_PREFIXES[place]}{unit}"


def shown_range(numbers: Sequence[float], decimals: int) -> str:
    """Return "low..high" of at least one figure; the figure alone where they look the same."""
    ends = [shown_number(end, decimals) for end in (min(numbers), max(numbers))]
    return "..".join(dict.fromkeys(ends))


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
    found = paired_difference(one, other)
    return None if found is None else found.interval()


def paired_difference(one: Score, other: Score) -> Estimate | None:
    """Return `one` minus `other` with its spread, or None where that is not known."""
    for score in (one, other):
        figures = [score.value, *(number for numbers in score.replicates.values() for number in numbers)]
        if not all(map(has_value, figures)):
            return None
    return score_difference(one, other)
