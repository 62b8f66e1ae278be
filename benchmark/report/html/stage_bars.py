"""Where the time of a call goes, in report.html: a bar of stages for each column, and a table of them."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.measure.findings import Stages, StageTime
from benchmark.report.costs import count_stage_rounds, stages_of
from benchmark.report.html.elements import grid, text
from benchmark.report.html.plots import DARK, LEFT, WIDTH
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import NO_VALUE, shown_digits, shown_percent

RIGHT, LANE_HEIGHT, BAR_HEIGHT, LEGEND_HEIGHT = 110, 38, 24, 30
# Of each stage the colour, and the one that alternates with it from call to call.
_COLOURS = {
    "text encoder": ("#e6bd69", "#e6bd69"), "backbone": ("#8fb9e0", "#679bcb"), "decoder": ("#8fc7a0", "#8fc7a0"),
}  # fmt: skip
_BETWEEN_COLOUR = "#d3dfeb"
_BETWEEN = "backbone, between its calls"
MOST_SEGMENTS = 100  # more of them could not be told apart
LEAST_SHOWN_PX = 42  # a narrower part of a bar has no room for its share
ALIKE_WITHIN = 0.1


@dataclass(frozen=True)
class _Segment:
    seconds: float
    colour: str
    title: str


def show_stages(models: Sequence[ModelResult]) -> list[str]:
    """Return bars and tables of the columns whose stages were measured; nothing where there is no such column."""
    measured = {model.name: stages for model in models if (stages := stages_of(model)) is not None}
    if not measured:
        return []
    rounds = {model.name: count_stage_rounds(model) for model in models}
    sizes = sorted({stages.batch_size for stages in measured.values()})
    batch = f"batch size {', '.join(map(str, sizes))}"
    intro = (
        f"One call of each column ({batch}), measured in calls of their own after the timed ones; the mean over the "
        "rounds that measured it. Every bar is a whole call. The backbone's shades alternate from call to call: a step "
        "of a diffusion model, or a scale of one that predicts scale by scale."
    )
    return [
        "<h2>Where the time goes</h2>", f"<p><small>{intro}</small></p>", _draw(measured), _tabulate(measured, rounds),
        *_tabulate_calls(measured),
    ]  # fmt: skip


def _draw(measured: dict[str, Stages]) -> str:
    marks, has_between = [], False
    for lane, (name, stages) in enumerate(measured.items()):
        top = LEGEND_HEIGHT + lane * LANE_HEIGHT
        total_s = _sum(stages)
        scale = (WIDTH - LEFT - RIGHT) / total_s if total_s else 0.0
        marks.append(f'<text x="0" y="{top + 17}">{text(name)}</text>')
        x = float(LEFT)
        for stage in stages.stages:
            width = stage.seconds * scale
            marks.append(_stage(stage, x, top, scale))
            if width >= LEAST_SHOWN_PX:
                share = shown_percent(stage.seconds / total_s)
                marks.append(f'<text x="{x + width / 2:.1f}" y="{top + 17}" text-anchor="middle">{share}</text>')
            has_between = has_between or any(part.colour == _BETWEEN_COLOUR for part in _segments(stage))
            x += width
        marks.append(f'<text x="{x + 8:.1f}" y="{top + 17}">{_ms(total_s)} ms</text>')
    height = LEGEND_HEIGHT + len(measured) * LANE_HEIGHT
    style = f'font-size="14" font-family="system-ui, sans-serif" fill="{DARK}"'
    drawn = f"{_legend(measured, has_between)}{''.join(marks)}"
    return f'<svg width="{WIDTH}" height="{height}" {style} role="img">{drawn}</svg>'


def _legend(measured: dict[str, Stages], has_between: bool) -> str:
    present = {stage.name for stages in measured.values() for stage in stages.stages}
    entries: list[tuple[str, str]] = [(name, colours[0]) for name, colours in _COLOURS.items() if name in present]
    entries += [(_BETWEEN, _BETWEEN_COLOUR)] if has_between else []
    marks, x = [], LEFT
    for name, colour in entries:
        marks.append(f'<rect x="{x}" y="2" width="14" height="14" fill="{colour}"/>')
        marks.append(f'<text x="{x + 20}" y="14">{name}</text>')
        x += 44 + 7 * len(name)
    return "".join(marks)


def _stage(stage: StageTime, left: float, top: float, scale: float) -> str:
    """Return the part of a bar that is a stage's, with a segment for each of its calls where these are known."""
    marks, x = [], left
    for segment in _segments(stage):
        width = segment.seconds * scale
        place = f'x="{x:.2f}" y="{top}" width="{width:.2f}" height="{BAR_HEIGHT}"'
        marks.append(f'<rect {place} fill="{segment.colour}"><title>{segment.title}</title></rect>')
        x += width
    return "".join(marks)


def _segments(stage: StageTime) -> Iterator[_Segment]:
    plain, other = _COLOURS[stage.name]
    calls_s = stage.call_seconds
    if stage.name != "backbone" or not 1 < len(calls_s) <= MOST_SEGMENTS:
        yield _Segment(stage.seconds, plain, f"{stage.name}: {_ms(stage.seconds)} ms")
        return
    between_s = stage.seconds - sum(calls_s)
    shrink = min(1.0, stage.seconds / sum(calls_s)) if sum(calls_s) else 1.0
    for number, seconds in enumerate(calls_s):
        title = f"{stage.name}, call {number + 1} of {len(calls_s)}: {_ms(seconds)} ms"
        yield _Segment(seconds * shrink, (plain, other)[number % 2], title)
    if between_s > 0.005 * stage.seconds:
        yield _Segment(between_s, _BETWEEN_COLOUR, f"{_BETWEEN}: {_ms(between_s)} ms")


def _tabulate(measured: dict[str, Stages], rounds: dict[str, int]) -> str:
    rows: list[tuple[str, Sequence[str]]] = []
    for name, stages in measured.items():
        total_s = _sum(stages)
        for place, stage in enumerate(stages.stages):
            share = shown_percent(stage.seconds / total_s if total_s else None)
            cells = stage.name, _ms(stage.seconds), share, str(stage.calls), _per_call(stage), ""
            rows.append(("" if place else name, cells))
        of_calls = f"{shown_percent(stages.ratio)} of the {_ms(stages.unwatched_seconds)} ms of unwatched calls"
        rows.append(("", ("sum", _ms(total_s), of_calls, "", "", str(rounds[name]))))
    return grid("Column", ("Stage", "ms", "Share", "Calls", "ms for each call", "Rounds"), rows, "wide")


def _per_call(stage: StageTime) -> str:
    """Return the mean time of a call, with the shortest and the longest where these are not alike."""
    calls_s = stage.call_seconds
    if not calls_s:
        return NO_VALUE
    mean_s, low_s, high_s = statistics.fmean(calls_s), min(calls_s), max(calls_s)
    ends = "" if high_s - low_s <= ALIKE_WITHIN * mean_s else f" ({_ms(low_s)}..{_ms(high_s)})"
    return f"{_ms(mean_s)}{ends}"


def _tabulate_calls(measured: dict[str, Stages]) -> list[str]:
    """Return a table of every call of the backbones that are called more than once, to be opened; or nothing."""
    of_column = {
        name: stage.call_seconds for name, stages in measured.items() for stage in stages.stages
        if stage.name == "backbone" and len(stage.call_seconds) > 1
    }  # fmt: skip
    if not of_column:
        return []
    rows = []
    for number in range(max(map(len, of_column.values()))):
        cells = [_ms(calls_s[number]) if number < len(calls_s) else "" for calls_s in of_column.values()]
        rows.append((f"Call {number + 1}", cells))
    table = grid("ms", list(of_column), rows, "states")
    return [f"<details><summary>Every call of the backbone</summary>{table}</details>"]


def _sum(stages: Stages) -> float:
    return sum(stage.seconds for stage in stages.stages)


def _ms(seconds: float) -> str:
    """Return milliseconds with three digits, and all of those in front of the point."""
    return f"{1e3 * seconds:,.0f}" if seconds >= 1 else shown_digits(1e3 * seconds)
