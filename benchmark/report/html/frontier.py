"""Speed at equal quality in report.html: the lines, what was compared, and the plots with the frontier."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.report.equal_quality import Alternative, EqualQuality
from benchmark.report.equal_quality_text import ALL_MODELS, equal_quality_lines, shown_margin
from benchmark.report.frontier import Frontier, FrontierPoint
from benchmark.report.frontier_plot import can_draw, draw_frontier
from benchmark.report.html.drawings import to_svg, width_in_page
from benchmark.report.html.elements import grid, text
from benchmark.report.numbers import NO_VALUE, shown_digits, shown_interval, shown_number, shown_range

# The outcome as it is shown, and the class of its colour.
_BADGES = {
    "FOUND": ("FOUND", "WIN"), "BEST": ("THE BEST", "TIE"), "WORSE": ("NONE", "TIE"),
    "UNDECIDED": ("UNDECIDED", "UNDECIDED"), "UNKNOWN": (NO_VALUE, ""),
}  # fmt: skip


def list_equal_quality(answers: Sequence[EqualQuality]) -> list[str]:
    """Return the line of each answer, behind its outcome; nothing where there is no choice."""
    if not answers:
        return []
    lines = []
    for answer, line in zip(answers, equal_quality_lines(answers), strict=True):
        shown, colour = _BADGES[answer.outcome]
        lines.append(f'<li><b class="outcome {colour}">{shown}</b> {text(line)}</li>')
    return [f'<ul class="winners">{"".join(lines)}</ul>']


def show_frontier(frontier: Frontier | None, answers: Sequence[EqualQuality]) -> list[str]:
    """Return plots and tables of cost against quality; nothing where no score can be compared."""
    if frontier is None or not can_draw(frontier):
        return []
    intro = (
        "A configuration is on the frontier where no other is as fast and better: faster or tied by the rounds, and "
        "better by the whole 95 % interval of the difference of the scores. The shaded band is the 95 % interval of "
        "what real images score."
    )
    parts = ["<h2>Speed against quality</h2>", f"<p><small>{intro}</small></p>"]
    parts.append(to_svg(draw_frontier(frontier, width_in_page)))
    if can_draw(frontier, "joules"):
        energy = (
            "Energy of the whole card. The bars across are the least and the most of a round that measured it. As "
            "thrifty is what needs less in each of its rounds, or within 3 % the same."
        )
        parts += [to_svg(draw_frontier(frontier, width_in_page, "joules")), f"<p><small>{energy}</small></p>"]
    return [*parts, _points(frontier), *_alternatives(answers)]


def _points(frontier: Frontier) -> str:
    names = ["s/image", "95 % interval", frontier.short, "95 % interval", "J/image", "On the frontier"]
    has_energy = can_draw(frontier, "joules")
    rows = [(point.column, _cells(point, frontier.decimals)) for point in frontier.points]
    if not has_energy:
        names.remove("J/image")
        rows = [(name, [*cells[:4], cells[5]]) for name, cells in rows]
    return grid("Column", names, rows)


def _cells(point: FrontierPoint, decimals: int) -> list[str]:
    interval = NO_VALUE
    if point.seconds_interval is not None:
        interval = "..".join(shown_digits(end, 3) for end in point.seconds_interval)
    joules = NO_VALUE
    if point.joules_per_image is not None:
        joules = shown_digits(point.joules_per_image)
        if point.joules_range is not None and point.joules_range[0] < point.joules_range[1]:
            joules += f" ({shown_range(point.joules_range, 1)})"
    return [
        shown_digits(point.seconds_per_image), interval, shown_number(point.score, decimals),
        shown_interval(point.score_interval, decimals) or NO_VALUE, joules, _verdict(point),
    ]  # fmt: skip


def _verdict(point: FrontierPoint) -> str:
    if point.left_out:
        return f"left out: {point.left_out}"
    if point.on_frontier is None:
        return NO_VALUE
    return "yes" if point.on_frontier else f"no: {point.dominated_by} is as fast and better"


def _alternatives(answers: Sequence[EqualQuality]) -> list[str]:
    """Return a table of every configuration that takes less time than the best one."""
    rows = [
        (each.name, _compared(answer, each)) for answer in answers for each in answer.alternatives
    ]  # fmt: skip
    if not rows:
        return []
    rule = (
        "EQUAL: the whole 95 % interval of how much worse the score is lies below the margin, and Holm's procedure "
        "over all that are faster agrees. WORSE: it lies above the margin. UNDECIDED: neither."
    )
    names = ("Compared in", "With the best", "Faster by", "Score worse by", "95 % interval", "Margin", "Quality")
    return ["<h3>What is faster than the best</h3>", f"<p><small>{rule}</small></p>", grid("Column", names, rows)]


def _compared(answer: EqualQuality, each: Alternative) -> list[str]:
    decimals = answer.decimals
    return [
        answer.group or ALL_MODELS, answer.best, f"{shown_number(each.speed.value, 2)}x ({each.speed.outcome})",
        shown_number(each.difference, decimals), shown_interval(each.quality.interval, decimals) or NO_VALUE,
        shown_margin(answer), each.quality.outcome,
    ]  # fmt: skip
