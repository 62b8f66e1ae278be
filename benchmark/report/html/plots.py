"""The plots of report.html: every timed batch, the rounds of each column, and the pairs that a verdict compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from benchmark.console.plain_text import visible
from benchmark.report.model_result import ModelResult

WIDTH, LEFT, RIGHT, LANE_HEIGHT = 760, 190, 60, 34
DARK, GREY, BLUE = "#1c2430", "#8896a6", "#2f6fb3"


def plot_batches(models: Sequence[ModelResult]) -> str:
    """Return a lane for each column, a dot for each timed batch, a row of dots for each round, a bar at the mean."""
    longest_s = max(max(model.latencies_s) for model in models)

    def x(seconds: float) -> float:
        return LEFT + seconds / longest_s * (WIDTH - LEFT - RIGHT)

    marks = []
    for lane, model in enumerate(models):
        y = LANE_HEIGHT * lane + LANE_HEIGHT / 2
        marks.append(_label(model.name, y))
        for place, found in enumerate(model.rounds):
            row = y + (place - (len(model.rounds) - 1) / 2) * min(5.0, 18 / len(model.rounds))
            marks += [
                f'<circle cx="{x(s):.1f}" cy="{row:.1f}" r="3" fill="{BLUE}" opacity=".35"/>' for s in found.latencies_s
            ]
        marks.append(_bar(x(model.mean_latency_s), y))
    ticks = [(x(seconds), f"{seconds:.3g} s") for seconds in (0.0, longest_s / 2, longest_s)]
    return _svg(marks, ticks, len(models))


def plot_rounds(models: Sequence[ModelResult], interval: Callable[[Sequence[float]], tuple[float, float]]) -> str:
    """Return a lane for each column with a mark for the mean of each round that counts, in % of the mean of these.

    interval: of the mean, drawn as a line.
    """
    lanes = []
    for model in models:
        means_s = [found.mean_latency_s for found in model.rounds if found.counts]
        if len(means_s) > 1:
            whole_s = sum(means_s) / len(means_s)
            low, high = (100 * (end / whole_s - 1) for end in interval(means_s))
            lanes.append((model.name, [100 * (mean_s / whole_s - 1) for mean_s in means_s], low, high))
    # No narrower than 1 %: noise of the clock is not to look like a difference.
    widest = max(1.0, *(abs(end) for _, marks, low, high in lanes for end in (*marks, low, high)))

    def x(percent: float) -> float:
        return (LEFT + WIDTH - RIGHT) / 2 + percent / widest * (WIDTH - LEFT - RIGHT) / 2

    drawn = []
    for lane, (name, percents, low, high) in enumerate(lanes):
        y = LANE_HEIGHT * lane + LANE_HEIGHT / 2
        drawn += [_label(name, y), _line(x(low), x(high), y), _bar(x(0.0), y)]
        drawn += [_diamond(x(percent), y) for percent in percents]
    ticks = [
        (x(percent), f"{percent:+.{1 if widest < 10 else 0}f} %" if percent else "mean")
        for percent in (-widest, 0.0, widest)
    ]
    return _svg(drawn, ticks, len(lanes))


def _label(text: str, y: float) -> str:
    return f'<text x="0" y="{y + 5}">{escape(visible(text))}</text>'


def _bar(x: float, y: float) -> str:
    return f'<rect x="{x - 1:.1f}" y="{y - 11}" width="2" height="22" fill="{DARK}"/>'


def _line(start: float, stop: float, y: float) -> str:
    return f'<line x1="{start:.1f}" x2="{stop:.1f}" y1="{y}" y2="{y}" stroke="{BLUE}" stroke-width="2"/>'


def _diamond(x: float, y: float) -> str:
    return f'<path d="M{x:.1f} {y - 6}l5 6l-5 6l-5 -6z" fill="{BLUE}" opacity=".6"/>'


def _svg(marks: Sequence[str], ticks: Sequence[tuple[float, str]], lanes: int) -> str:
    """Return the plot with its axis: a line from the first tick to the last one, below the lanes."""
    base = LANE_HEIGHT * lanes + 4
    axis = f'<line x1="{ticks[0][0]:.1f}" x2="{ticks[-1][0]:.1f}" y1="{base}" y2="{base}" stroke="{GREY}"/>'
    texts = "".join(f'<text x="{x:.1f}" y="{base + 20}" text-anchor="middle">{text}</text>' for x, text in ticks)
    style = 'font-size="14" font-family="system-ui, sans-serif"'
    return f'<svg width="{WIDTH}" height="{base + 26}" {style} role="img">{"".join(marks)}{axis}{texts}</svg>'
