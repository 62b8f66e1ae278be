"""Axes of plots: which value lies at which pixel, and where ticks stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

MOST_TICKS = 8


@dataclass(frozen=True)
class Axis:
    """An axis from one pixel to another.

    scale: linear; log; or wide, linear within `unit` of `origin` and logarithmic beyond it.
    """

    low: float
    high: float
    start_px: float
    stop_px: float
    scale: Literal["linear", "log", "wide"] = "linear"
    origin: float = 0.0
    unit: float = 1.0

    def place(self, value: float) -> float:
        """Return the pixel of a value; one beyond the axis is at its end."""
        kept = min(max(value, self.low), self.high)
        low, high, at = (self._scaled(each) for each in (self.low, self.high, kept))
        return self.start_px + (at - low) / (high - low) * (self.stop_px - self.start_px)

    def _scaled(self, value: float) -> float:
        if self.scale == "log":
            return math.log(value)
        return math.asinh((value - self.origin) / self.unit) if self.scale == "wide" else value

    def ticks(self, least_px: float = 40.0) -> list[float]:
        """Return round values within the axis, this far apart."""
        if self.scale == "linear" or (self.scale == "log" and self.high / self.low < 4):
            return _even(self.low, self.high)
        chosen: list[float] = []
        factors = (1.0, 5.0, 2.0, 3.0, 7.0) if self.scale == "log" else (1.0, 5.0, 2.0)
        for value in _round_values(self.low, self.high, factors):
            if all(abs(self.place(value) - self.place(other)) >= least_px for other in chosen):
                chosen.append(value)
        return sorted(chosen)


def _even(low: float, high: float) -> list[float]:
    """Return about five multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * number for number in range(first, last + 1)]


def _round_values(low: float, high: float, factors: Sequence[float]) -> list[float]:
    """Return 0 and so many times powers of ten, of both signs, within a range; the roundest first."""
    largest = max(abs(low), abs(high))
    first = math.floor(math.log10(largest))
    values = [0.0]
    for factor in factors:
        for power in range(first, first - MOST_TICKS, -1):
            values += [sign * factor * 10.0**power for sign in (1, -1)]
    return [value for value in values if low <= value <= high]


def shown_tick(value: float, ticks: Sequence[float]) -> str:
    """Return a tick as few digits tell it from the others."""
    digits = next((digits for digits in range(1, 7) if len({f"{tick:.{digits}g}" for tick in ticks}) == len(ticks)), 6)
    exact = f"{value:.{max(2, digits)}g}"
    return f"{float(exact):,.6f}".rstrip("0").rstrip(".") if abs(value) < 1e6 else exact
