"""What a plot is made of, in pixels from the upper left corner: one layout for the page and for an image file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DARK, GREY, PALE = "#1c2430", "#8896a6", "#dde3ea"
FONT_SIZE = 13.0


@dataclass(frozen=True)
class Box:
    """A rectangle."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: Box) -> float:
        """Return the area that two have in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        down = min(self.bottom, other.bottom) - max(self.top, other.top)
        return across * down if across > 0 and down > 0 else 0.0

    def holds(self, other: Box) -> bool:
        """Return whether the other one lies within this one."""
        return (
            self.left <= other.left and other.right <= self.right
            and self.top <= other.top and other.bottom <= self.bottom
        )  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[tuple[float, float], ...]
    colour: str = GREY
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Band:
    """A filled rectangle."""

    box: Box
    colour: str


@dataclass(frozen=True)
class Dot:
    """A circle. filled: with its colour, else with white. title: shown where the mouse points at it."""

    x: float
    y: float
    radius: float
    colour: str
    filled: bool
    title: str


@dataclass(frozen=True)
class Words:
    """A line of text from elsewhere; `y` is its middle. anchor: which end of it, or its middle, is at x.

    halo: it has a white edge, and can be read over lines.
    """

    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    colour: str = DARK
    size: float = FONT_SIZE
    upwards: bool = False
    halo: bool = False


@dataclass(frozen=True)
class Drawing:
    """A plot; marks that come later lie above. labels: where the labels of points stand."""

    width: int
    height: int
    marks: tuple[Line | Band | Dot | Words, ...]
    labels: tuple[Box, ...] = ()
