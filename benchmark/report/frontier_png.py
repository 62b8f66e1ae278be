"""frontier.png: cost against quality of every column, with the frontier."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.console.plain_text import visible
from benchmark.report.frontier import Frontier
from benchmark.report.frontier_plot import draw_frontier
from benchmark.report.marks import Band, Dot, Drawing, Line, Words
from files import PROGRAM
from files.writing import write_atomically

LAYOUT_DPI, FILE_DPI = 100, 200
_ALIGNED = {"start": "left", "middle": "center", "end": "right"}


def write_frontier_plot(frontier: Frontier, path: Path) -> None:
    """Write the plot as PNG.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # a second to import, and of use here alone
    from matplotlib.figure import Figure

    figure = Figure(dpi=LAYOUT_DPI)
    renderer = FigureCanvasAgg(figure).get_renderer()
    with write_atomically(path) as partial_path, warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing")  # a name's character is a box there
        drawing = draw_frontier(frontier, partial(_width_of, renderer))
        figure.set_size_inches(drawing.width / LAYOUT_DPI, drawing.height / LAYOUT_DPI)
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, drawing.width), ylim=(drawing.height, 0))
        axes.set_axis_off()
        _paint(drawing, axes)
        figure.savefig(partial_path, format="png", dpi=FILE_DPI, metadata={"Software": PROGRAM})


def _width_of(renderer: Any, content: str, size: float) -> float:
    """Return the width in pixels of a text as matplotlib sets it."""
    from matplotlib.font_manager import FontProperties

    width, _, _ = renderer.get_text_width_height_descent(visible(content), FontProperties(size=_points(size)), False)
    return float(width)


def _points(pixels: float) -> float:
    return pixels * 72 / LAYOUT_DPI


def _paint(drawing: Drawing, axes: Any) -> None:
    from matplotlib.patches import Circle, Rectangle

    for order, mark in enumerate(drawing.marks):
        if isinstance(mark, Line):
            style = (0, (6, 4)) if mark.dashed else "solid"
            width = _points(mark.width)
            xs, ys = [x for x, _ in mark.points], [y for _, y in mark.points]
            axes.plot(xs, ys, color=mark.colour, linewidth=width, linestyle=style, zorder=order)
        elif isinstance(mark, Band):
            box = mark.box
            corner, width, height = (box.left, box.top), box.right - box.left, box.bottom - box.top
            axes.add_patch(Rectangle(corner, width, height, facecolor=mark.colour, linewidth=0, zorder=order))
        elif isinstance(mark, Dot):
            face = mark.colour if mark.filled else "white"
            paint = {"facecolor": face, "edgecolor": mark.colour, "linewidth": _points(1.6), "zorder": order}
            axes.add_patch(Circle((mark.x, mark.y), mark.radius, **paint))
        else:
            _write(mark, axes, order)


def _write(words: Words, axes: Any, order: int) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=_points(3), foreground="white")] if words.halo else None
    # A name is no formula, whatever dollar signs it holds.
    axes.text(
        words.x, words.y, visible(words.text), ha=_ALIGNED[words.anchor], va="center_baseline" if not words.upwards
        else "center", color=words.colour, fontsize=_points(words.size), rotation=90 if words.upwards else 0,
        rotation_mode="anchor" if words.upwards else None, zorder=order, path_effects=halo,
        parse_math=False,
    )  # fmt: skip
