"""Cost against quality with the frontier, as a layout in pixels: for report.html and for frontier.png."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from benchmark.report.frontier import Frontier, FrontierPoint
from benchmark.report.label_places import distance, place_labels
from benchmark.report.marks import DARK, FONT_SIZE, GREY, PALE, Band, Box, Dot, Drawing, Line, Words
from benchmark.report.numbers import has_value, shown_number
from benchmark.report.plot_axes import Axis, shown_tick

WIDTH, LEAST_HEIGHT, HEIGHT_OF_LABEL = 860, 460, 22
LEFT, RIGHT, TOP, BOTTOM = 86, 24, 58, 58
DOT_RADIUS, LABEL_HEIGHT, LONGEST_LABEL = 5.0, 17.0, 40
LEADER_FROM = 12.0  # a label that is farther from its dot has a line to it
WIDE_FROM = 12.0  # the longest distance of a score over the typical one, from which on the axis is compressed
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07d00", "#5a4fcf", "#8c564b", "#444444")
FLOOR_COLOUR, FLOOR_BAND, DIM = "#5f7d5f", "#e9f1e9", "#566372"

Cost = Literal["seconds", "joules"]
_COST_LABELS = {"seconds": "seconds per image", "joules": "joules per image"}


@dataclass(frozen=True)
class _Placed:
    """A point with its cost and its interval in pixels."""

    point: FrontierPoint
    x: float
    y: float
    across: tuple[float, float] | None
    up: tuple[float, float] | None
    on_frontier: bool


def can_draw(frontier: Frontier | None, cost: Cost = "seconds") -> bool:
    """Return whether some column has both the score and this cost."""
    return frontier is not None and bool(_drawn(frontier, cost))


def draw_frontier(frontier: Frontier, width_of: Callable[[str, float], float], cost: Cost = "seconds") -> Drawing:
    """Return the plot: a dot with intervals for each column, the frontier joined, and the floor.

    width_of: a text's width in pixels at a font size.
    """
    points = _drawn(frontier, cost)
    height = max(LEAST_HEIGHT, TOP + BOTTOM + 2 * len(points) * HEIGHT_OF_LABEL)
    area = Box(LEFT, TOP, WIDTH - RIGHT, height - BOTTOM)
    across = _cost_axis([end for point in points for end in _cost_ends(point, cost)], area)
    up = _score_axis(frontier, points, area)
    placed = [_place(point, cost, across, up) for point in points]
    colours = _colours(frontier.points)
    joined = sorted(((each.x, each.y) for each in placed if each.on_frontier), key=lambda place: place[0])
    labels = _labels(placed, joined, area, width_of)
    marks: list[Line | Band | Dot | Words] = [*_floor_band(frontier, up, area), *_grid(across, up, area)]
    marks += _floor(frontier, up, area)
    marks += [*_axis_titles(frontier, cost, up, area, height), *_heading(frontier, cost)]
    marks.append(Line(tuple(joined), DARK, 1.6))
    for each in placed:
        colour = GREY if each.point.left_out else colours[each.point.model]
        marks += [Line(((end, each.y), (other, each.y)), colour, 1.4) for end, other in _maybe(each.across)]
        marks += [Line(((each.x, end), (each.x, other)), colour, 1.4) for end, other in _maybe(each.up)]
    for each, box in zip(placed, labels, strict=True):
        if distance(box, (each.x, each.y)) > LEADER_FROM:
            nearest = (min(max(each.x, box.left), box.right), min(max(each.y, box.top), box.bottom))
            marks.append(Line(((each.x, each.y), nearest), GREY, 0.8))
    for each, box in zip(placed, labels, strict=True):
        colour = GREY if each.point.left_out else colours[each.point.model]
        marks.append(Dot(each.x, each.y, DOT_RADIUS, colour, each.on_frontier, _title(frontier, each.point, cost)))
        marks.append(_label(each, box, colour if each.on_frontier else DIM))
    return Drawing(WIDTH, height, tuple(marks), tuple(labels))


def _drawn(frontier: Frontier, cost: Cost) -> list[FrontierPoint]:
    return [point for point in frontier.points if has_value(point.score) and has_value(_cost_of(point, cost))]


def _cost_of(point: FrontierPoint, cost: Cost) -> float | None:
    return point.seconds_per_image if cost == "seconds" else point.joules_per_image


def _cost_range(point: FrontierPoint, cost: Cost) -> tuple[float, float] | None:
    return point.seconds_interval if cost == "seconds" else point.joules_range


def _cost_ends(point: FrontierPoint, cost: Cost) -> list[float]:
    """Return a cost with the ends of its interval, of which one may reach below any cost."""
    value = _cost_of(point, cost)
    assert value is not None
    return [value, *(max(end, value / 3) for end in _cost_range(point, cost) or ())]


def _cost_axis(costs: Sequence[float], area: Box) -> Axis:
    margin = max(1.12, (max(costs) / min(costs)) ** 0.06)
    return Axis(min(costs) / margin, max(costs) * margin, area.left, area.right, "log")


def _score_axis(frontier: Frontier, points: Sequence[FrontierPoint], area: Box) -> Axis:
    """Return the axis of scores, the better ones below; compressed where few are far from all others."""
    scores = [point.score for point in points if point.score is not None]
    ends = [*scores, *(end for point in points for end in point.score_interval or ())]
    if has_value(frontier.floor) and frontier.floor is not None:
        ends += [frontier.floor, *(frontier.floor_interval or ())]
    low, high = min(ends), max(ends)
    if low == high:
        low, high = low - max(abs(low), 1.0) / 10, high + max(abs(high), 1.0) / 10
    start, stop = (area.bottom, area.top) if frontier.better == "lower" else (area.top, area.bottom)
    origin = min(scores) if frontier.better == "lower" else max(scores)
    half_widths = [(i[1] - i[0]) / 2 for i in (point.score_interval for point in points) if i is not None]
    far = sorted(abs(score - origin) for score in scores)
    typical = max(statistics.median(half_widths) if half_widths else 0.0, statistics.median(far))
    if typical > 0 and far[-1] > WIDE_FROM * typical:
        unit = 2 * typical
        return Axis(low - unit / 4, high + (high - low) / 4, start, stop, "wide", origin, unit)
    margin = 0.07 * (high - low)
    return Axis(low - margin, high + margin, start, stop)


def _place(point: FrontierPoint, cost: Cost, across: Axis, up: Axis) -> _Placed:
    value, score = _cost_of(point, cost), point.score
    assert value is not None
    assert score is not None
    ends = _cost_range(point, cost)
    on_frontier = point.on_frontier if cost == "seconds" else point.on_energy_frontier
    return _Placed(
        point, across.place(value), up.place(score),
        ends and (across.place(max(ends[0], across.low)), across.place(ends[1])),
        point.score_interval and (up.place(point.score_interval[0]), up.place(point.score_interval[1])),
        bool(on_frontier),
    )  # fmt: skip


def _labels(
    placed: Sequence[_Placed], joined: Sequence[tuple[float, float]], area: Box,
    width_of: Callable[[str, float], float],
) -> list[Box]:  # fmt: skip
    dots = [_around(each.x, each.y, DOT_RADIUS + 2) for each in placed]
    bars = [Box(min(ends), each.y - 2, max(ends), each.y + 2) for each in placed for ends in _maybe(each.across)]
    bars += [Box(each.x - 2, min(ends), each.x + 2, max(ends)) for each in placed for ends in _maybe(each.up)]
    bars += _along(joined)
    sizes = [(width_of(_short(each.point), FONT_SIZE) + 4, LABEL_HEIGHT) for each in placed]
    return place_labels([(each.x, each.y) for each in placed], sizes, area, dots, bars)


def _label(placed: _Placed, box: Box, colour: str) -> Words:
    """Return a label whose text begins, or ends, beside its dot."""
    y, text = (box.top + box.bottom) / 2, _short(placed.point)
    if box.right <= placed.x:
        return Words(box.right - 2, y, text, "end", colour, halo=True)
    if box.left >= placed.x:
        return Words(box.left + 2, y, text, "start", colour, halo=True)
    return Words((box.left + box.right) / 2, y, text, "middle", colour, halo=True)


def _along(points: Sequence[tuple[float, float]]) -> list[Box]:
    """Return small boxes along a line through points."""
    boxes = []
    for (x1, y1), (x2, y2) in pairwise(points):
        count = max(1, round(math.dist((x1, y1), (x2, y2)) / 12))
        boxes += [_around(x1 + (x2 - x1) * at / count, y1 + (y2 - y1) * at / count, 3) for at in range(count)]
    return boxes


def _around(x: float, y: float, radius: float) -> Box:
    return Box(x - radius, y - radius, x + radius, y + radius)


def _maybe(ends: tuple[float, float] | None) -> list[tuple[float, float]]:
    return [] if ends is None else [ends]


def _short(point: FrontierPoint) -> str:
    text = point.configuration
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _colours(points: Sequence[FrontierPoint]) -> dict[str, str]:
    """Return a colour for each model, in their order."""
    models = list(dict.fromkeys(point.model for point in points))
    return {model: COLOURS[at % len(COLOURS)] for at, model in enumerate(models)}


def _grid(across: Axis, up: Axis, area: Box) -> list[Line | Words]:
    marks: list[Line | Words] = []
    ticks = across.ticks(60)
    for value in ticks:
        x = across.place(value)
        marks.append(Line(((x, area.top), (x, area.bottom)), PALE))
        marks.append(Words(x, area.bottom + 14, shown_tick(value, ticks), "middle"))
    ticks = up.ticks(26)
    for value in ticks:
        y = up.place(value)
        marks.append(Line(((area.left, y), (area.right, y)), PALE))
        marks.append(Words(area.left - 7, y, shown_tick(value, ticks), "end"))
    frame = ((area.left, area.top), (area.left, area.bottom), (area.right, area.bottom))
    return [*marks, Line(frame, GREY)]


def _floor(frontier: Frontier, up: Axis, area: Box) -> list[Line]:
    """Return the line of what real images score."""
    if frontier.floor is None or not has_value(frontier.floor):
        return []
    y = up.place(frontier.floor)
    return [Line(((area.left, y), (area.right, y)), FLOOR_COLOUR, 1.4, dashed=True)]


def _floor_band(frontier: Frontier, up: Axis, area: Box) -> list[Band]:
    """Return the band of its interval."""
    if frontier.floor_interval is None or not all(map(has_value, frontier.floor_interval)):
        return []
    top, bottom = sorted(map(up.place, frontier.floor_interval))
    return [Band(Box(area.left, top, area.right, bottom), FLOOR_BAND)]


def _axis_titles(frontier: Frontier, cost: Cost, up: Axis, area: Box, height: float) -> list[Words]:
    middle = (area.left + area.right) / 2
    scale = ", compressed scale" if up.scale == "wide" else ""
    return [
        Words(middle, height - 16, f"{_COST_LABELS[cost]} (log scale; lower = better)", "middle"),
        Words(16, (area.top + area.bottom) / 2, f"{frontier.label}{scale}", "middle", upwards=True),
    ]


def _heading(frontier: Frontier, cost: Cost) -> list[Words]:
    bars = "; bars: 95 % intervals" if cost == "seconds" else ""
    floor = "; dashed: what real images score" if has_value(frontier.floor) else ""
    named = {"seconds": "Speed", "joules": "Energy"}[cost]
    return [
        Words(LEFT, 16, f"{named} against quality, {frontier.images} images of each configuration", size=15.0),
        Words(LEFT, 38, f"filled and joined: no other is as {_LOW[cost]} and better{bars}{floor}", colour=DIM),
    ]


_LOW = {"seconds": "fast", "joules": "thrifty"}


def _title(frontier: Frontier, point: FrontierPoint, cost: Cost) -> str:
    value = _cost_of(point, cost)
    unit = "s" if cost == "seconds" else "J"
    shown = f"{point.column}: {value:.3g} {unit}, {frontier.short} {shown_number(point.score, frontier.decimals)}"
    dominated = point.dominated_by if cost == "seconds" else point.energy_dominated_by
    if dominated:
        shown += f"; {dominated} is as {_LOW[cost]} and better"
    return f"{shown}; left out: {point.left_out}" if point.left_out else shown
