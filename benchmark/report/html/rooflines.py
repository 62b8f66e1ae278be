"""How near each column comes to what the device can do, in report.html: a roofline plot, a table, and words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmark.measure.findings import Roofline
from benchmark.report.costs import rooflines_of
from benchmark.report.html.elements import grid, text
from benchmark.report.html.plots import BLUE, DARK, GREY, WIDTH
from benchmark.report.limits import bandwidth_share, matrix_share, name_limit
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import shown_digits, shown_percent, shown_si

LEFT, RIGHT, TOP, BOTTOM = 100, 230, 14, 46
LEAST_HEIGHT, LABEL_HEIGHT, LONGEST_LABEL = 300, 18, 28
LEAST_SLOPE_PX = 140  # a shorter slope has no room for its label
PALE = "#dde3ea"


@dataclass(frozen=True)
class _Point:
    """A column in the plot. intensity: FLOPs for each byte of weights that is read."""

    name: str
    intensity: float
    flops_per_s: float


@dataclass(frozen=True)
class _Roof:
    """What the device can do in one dtype."""

    dtype: str
    matrix_flops_per_s: float
    copy_bytes_per_s: float

    @property
    def ridge(self) -> float:
        """The intensity from which on matrix throughput is the lower limit."""
        return self.matrix_flops_per_s / self.copy_bytes_per_s


def show_rooflines(models: Sequence[ModelResult]) -> list[str]:
    """Return plot, words and table of the columns that have a roofline; nothing where there is no such column."""
    rooflines = rooflines_of(models)
    measured = [(model, rooflines[model.name]) for model in models if model.name in rooflines]
    if not measured:
        return []
    points = [
        _Point(model.name, intensity, roofline.flops_per_image / model.mean_latency_s)
        for model, roofline in measured if (intensity := _intensity(roofline))
    ]  # fmt: skip
    intro = (
        "The roof is what this device reached at best: the throughput of a large matrix product, and the bandwidth of "
        "a copy in its memory. A column's point is what it reaches with the operations that its plain network needs, "
        "by how many of them there are for each byte of weights that it reads. The time is that of the timed calls."
    )
    if any(model.mode == "compiled" for model, _ in measured):
        intro += (
            " The operations and weights of a compiled column are those of its eager model. Its compiled form may need "
            "fewer, where it computes once what is the same in every step or for every image."
        )
    nearest = "".join(
        f"<li>{text(model.name)}: {text(name_limit(roofline, model.mean_latency_s))}</li>"
        for model, roofline in measured
    )
    plot = [_draw(points, _roofs([roofline for _, roofline in measured]))] if points else []
    return [
        "<h2>Roofline</h2>", f"<p><small>{intro}</small></p>", *plot,
        "<p>The limit that each column is near: half of it or more, so that it could not become twice as fast.</p>",
        f"<ul>{nearest}</ul>", _tabulate(measured),
    ]  # fmt: skip


def _tabulate(measured: Sequence[tuple[ModelResult, Roofline]]) -> str:
    cells = [_cells(model, roofline) for model, roofline in measured]
    rows = [(label, [column[label] for column in cells]) for label in cells[0]]
    return grid("Metric", [model.name for model, _ in measured], rows)


def _cells(model: ModelResult, roofline: Roofline) -> dict[str, str]:
    latency_s = model.mean_latency_s
    weight_bytes = roofline.weight_bytes_per_image
    return {
        "Operations for an image": shown_si(roofline.flops_per_image, "FLOP"),
        "Weights read for an image": shown_si(weight_bytes, "B"),
        "FLOP for each byte of weights": shown_digits(_intensity(roofline)),
        "Throughput": shown_si(roofline.flops_per_image / latency_s, "FLOP/s"),
        "Matrix throughput of the device": f"{shown_si(roofline.matrix_flops_per_s, 'FLOP/s')} ({roofline.dtype})",
        "Share of the matrix throughput": shown_percent(matrix_share(roofline, latency_s)),
        "Weights read in a second": shown_si(weight_bytes / latency_s, "B/s"),
        "Copy bandwidth of the device": shown_si(roofline.copy_bytes_per_s, "B/s"),
        "Share of the copy bandwidth": shown_percent(bandwidth_share(roofline, latency_s)),
    }


def _intensity(roofline: Roofline) -> float | None:
    """Return the FLOPs for each byte of weights that is read; None where no weights are."""
    return roofline.flops_per_image / roofline.weight_bytes_per_image if roofline.weight_bytes_per_image else None


def _roofs(rooflines: Sequence[Roofline]) -> list[_Roof]:
    roofs = {each.dtype: _Roof(each.dtype, each.matrix_flops_per_s, each.copy_bytes_per_s) for each in rooflines}
    return list(roofs.values())


def _draw(points: Sequence[_Point], roofs: Sequence[_Roof]) -> str:
    height = max(LEAST_HEIGHT, TOP + BOTTOM + (len(points) + 1) * LABEL_HEIGHT)
    intensities = [*(point.intensity for point in points), *(roof.ridge for roof in roofs)]
    across = _Axis(min(intensities) / 8, 4 * max(intensities), LEFT, WIDTH - RIGHT)
    throughputs = [*(point.flops_per_s for point in points), *(roof.matrix_flops_per_s for roof in roofs)]
    up = _Axis(min(throughputs) / 6, 4 * max(throughputs), height - BOTTOM, TOP)
    marks = [_grid_lines(across, up)]
    marks += [_roof(roof, across, up) for roof in roofs]
    marks += _points(points, across, up)
    middle = (LEFT + WIDTH - RIGHT) / 2
    marks.append(f'<text x="{middle:.0f}" y="{height - 6}" text-anchor="middle">FLOP for each byte of weights</text>')
    style = f'font-size="13" font-family="system-ui, sans-serif" fill="{DARK}"'
    return f'<svg width="{WIDTH}" height="{height}" {style} role="img">{"".join(marks)}</svg>'


@dataclass(frozen=True)
class _Axis:
    """A logarithmic axis: which value lies at which pixel."""

    low: float
    high: float
    start_px: float
    stop_px: float

    def place(self, value: float) -> float:
        share = (math.log(value) - math.log(self.low)) / (math.log(self.high) - math.log(self.low))
        return self.start_px + share * (self.stop_px - self.start_px)

    def ticks(self) -> list[float]:
        """Return powers of ten inside the axis, seven of them at most."""
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1, 1 + (last - first) // 7)]


def _grid_lines(across: _Axis, up: _Axis) -> str:
    marks = []
    for value in across.ticks():
        x = across.place(value)
        marks.append(_line(x, up.start_px, x, up.stop_px, PALE))
        shown = f"{value:,.0f}" if value >= 1 else f"{value:g}"
        marks.append(f'<text x="{x:.1f}" y="{up.start_px + 16:.1f}" text-anchor="middle">{shown}</text>')
    for value in up.ticks():
        y = up.place(value)
        marks.append(_line(across.start_px, y, across.stop_px, y, PALE))
        marks.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_power(value)}</text>')
    marks.append(_line(across.start_px, up.start_px, across.stop_px, up.start_px, GREY))
    marks.append(_line(across.start_px, up.start_px, across.start_px, up.stop_px, GREY))
    return "".join(marks)


def _power(flops_per_s: float) -> str:
    """Return a tick's figure, "10 TFLOP/s"."""
    number, unit = shown_si(flops_per_s, "FLOP/s").split(" ")
    return f"{number.partition('.')[0]} {unit}"


def _roof(roof: _Roof, across: _Axis, up: _Axis) -> str:
    """Return the slope of the bandwidth and the line of matrix throughput, each with its label."""
    start = max(across.low, up.low / roof.copy_bytes_per_s)
    corner_x, roof_y = across.place(roof.ridge), up.place(roof.matrix_flops_per_s)
    start_x, start_y = across.place(start), up.place(start * roof.copy_bytes_per_s)
    marks = [
        f'<polyline points="{start_x:.1f},{start_y:.1f} {corner_x:.1f},{roof_y:.1f} {across.stop_px:.1f},{roof_y:.1f}" '
        f'fill="none" stroke="{DARK}" stroke-width="2"/>',
        f'<text x="{across.stop_px:.1f}" y="{roof_y - 7:.1f}" text-anchor="end">'
        f"{text(roof.dtype)} {shown_si(roof.matrix_flops_per_s, 'FLOP/s')}</text>",
    ]
    if math.hypot(corner_x - start_x, roof_y - start_y) >= LEAST_SLOPE_PX:
        x, y = (start_x + corner_x) / 2, (start_y + roof_y) / 2
        angle = math.degrees(math.atan2(roof_y - start_y, corner_x - start_x))
        marks.append(
            f'<text transform="translate({x:.1f} {y:.1f}) rotate({angle:.1f})" dy="-7" text-anchor="middle">'
            f"memory {shown_si(roof.copy_bytes_per_s, 'B/s')}</text>"
        )
    return "".join(marks)


def _points(points: Sequence[_Point], across: _Axis, up: _Axis) -> list[str]:
    """Return a dot for each column. Labels stand right of the plot, in the order of the dots and apart."""
    ordered = sorted(points, key=lambda point: -point.flops_per_s)
    labels = spread_labels([up.place(point.flops_per_s) for point in ordered], up.stop_px + 6, up.start_px - 6)
    marks = []
    for point, label_y in zip(ordered, labels, strict=True):
        x, y = across.place(point.intensity), up.place(point.flops_per_s)
        name = point.name if len(point.name) <= LONGEST_LABEL else f"{point.name[: LONGEST_LABEL - 1]}…"
        label_x = across.stop_px + 14
        marks.append(_line(x, y, label_x - 4, label_y, GREY, 'stroke-dasharray="1 3"'))
        dot = f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{BLUE}">'
        marks.append(f"{dot}<title>{text(point.name)}</title></circle>")
        marks.append(f'<text x="{label_x:.1f}" y="{label_y + 4:.1f}">{text(name)}</text>')
    return marks


def spread_labels(wanted_y: Sequence[float], top: float, bottom: float) -> list[float]:
    """Return where labels stand, near where they should: apart from each other, in the same order, within the plot.

    wanted_y: ascending.
    """
    placed: list[float] = []
    for y in wanted_y:
        placed.append(max(y, top, placed[-1] + LABEL_HEIGHT if placed else top))
    limit = bottom
    for at in reversed(range(len(placed))):
        placed[at] = min(placed[at], limit)
        limit = placed[at] - LABEL_HEIGHT
    return placed


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, further: str = "") -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" {further}/>'
