"""Where the labels of points stand: near their point, within the plot, and never over each other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmark.report.marks import Box

GAPS = (9.0, 14.0, 20.0, 28.0, 38.0, 50.0, 66.0, 86.0, 110.0, 140.0)
# Right and left first: text reads on from its dot.
SIDES = ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1), (0, -1), (0, 1))
BAR_WEIGHT, DOT_WEIGHT = 0.3, 20.0  # of a pixel that a label covers, against a pixel of distance


def place_labels(
    points: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]], bounds: Box,
    dots: Sequence[Box] = (), bars: Sequence[Box] = (),
) -> list[Box]:  # fmt: skip
    """Return a box for each label: of its size, within the bounds, apart from every other box.

    It is near its point, and covers as little as can be of what is drawn.

    points: to which the labels belong. dots, bars: what a label should not cover; bars matter less.

    Raises:
        ValueError: the bounds have no room for so many.
    """
    placed: dict[int, Box] = {}
    # The most crowded points come first: they have the least choice.
    for at in sorted(range(len(points)), key=lambda at: _room_around(at, points)):
        free = [
            box for box in _near(points[at], sizes[at])
            if bounds.holds(box) and not any(box.overlap(other) for other in placed.values())
        ]  # fmt: skip
        if not free:
            free = list(_anywhere(sizes[at], bounds, list(placed.values())))
        if not free:
            raise ValueError(f"no room for {len(points)} labels in a plot of this size")
        placed[at] = min(free, key=lambda box: _cost(box, points[at], dots, bars))
    return [placed[at] for at in range(len(points))]


def _room_around(at: int, points: Sequence[tuple[float, float]]) -> float:
    return min((math.dist(points[at], other) for number, other in enumerate(points) if number != at), default=0.0)


def _near(point: tuple[float, float], size: tuple[float, float]) -> Iterator[Box]:
    """Yield boxes around a point, at growing distances."""
    (x, y), (width, height) = point, size
    for gap in GAPS:
        for across, down in SIDES:
            left = x - width / 2 + across * (width / 2 + gap)
            top = y - height / 2 + down * (height / 2 + gap)
            yield Box(left, top, left + width, top + height)


def _anywhere(size: tuple[float, float], bounds: Box, taken: Sequence[Box]) -> Iterator[Box]:
    """Yield boxes in rows that fill the bounds, where no label stands."""
    width, height = size
    top = bounds.top
    while top + height <= bounds.bottom:
        left = bounds.left
        while left + width <= bounds.right:
            box = Box(left, top, left + width, top + height)
            if not any(box.overlap(other) for other in taken):
                yield box
            left += 8.0
        top += 4.0


def distance(box: Box, point: tuple[float, float]) -> float:
    """Return how far a point is from a box; 0 within it."""
    x, y = point
    across = max(box.left - x, 0.0, x - box.right)
    down = max(box.top - y, 0.0, y - box.bottom)
    return math.hypot(across, down)


def _cost(box: Box, point: tuple[float, float], dots: Sequence[Box], bars: Sequence[Box]) -> float:
    covered = DOT_WEIGHT * sum(box.overlap(dot) for dot in dots) + BAR_WEIGHT * sum(box.overlap(bar) for bar in bars)
    return distance(box, point) + covered
