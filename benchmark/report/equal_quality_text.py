"""The lines of equal quality, as the table and the HTML report print them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from benchmark.report.equal_quality import MOST_IMAGES, Alternative, EqualQuality
from benchmark.report.numbers import shown_interval

ALL_MODELS = "all models"


def equal_quality_lines(answers: Sequence[EqualQuality]) -> list[str]:
    """Return a line for each answer; of several, each says which model it is of."""
    of_models = [answer for answer in answers if answer.group]
    return [_line(answer, len(of_models) > 1) for answer in answers]


def _line(answer: EqualQuality, names_model: bool) -> str:
    group = "" if answer.group else f" [{ALL_MODELS}]"
    whose = f" for {answer.group}" if names_model and answer.group else ""
    return f"Equal Quality{group}: {_answer(answer, whose)}"


def _answer(answer: EqualQuality, whose: str) -> str:
    if answer.outcome == "FOUND":
        return f"{answer.configuration} ({_gain(answer)}{_left_out(answer)})"
    if answer.outcome == "BEST":
        return (
            f"{answer.configuration} (scores best, and no other is known to be faster; "
            f"margin {shown_margin(answer)}{_left_out(answer)})"
        )
    if answer.outcome == "UNKNOWN":
        return f"n/a{whose} ({answer.reason}{_left_out(answer)})"
    why = _all_worse(answer) if answer.outcome == "WORSE" else _undecided(answer)
    return f"none{whose} ({why}{_left_out(answer)})"


def _gain(answer: EqualQuality) -> str:
    chosen = chosen_of(answer)
    ratio = f"{chosen.speed.value:.1f}" if chosen.speed.value >= 1.05 else f"{chosen.speed.value:.2f}"
    return f"{ratio}x faster than {answer.than}; {_change(answer, chosen)}"


def chosen_of(answer: EqualQuality) -> Alternative:
    """Return the alternative that was chosen."""
    (chosen,) = (alternative for alternative in answer.alternatives if alternative.name == answer.chosen)
    return chosen


def _change(answer: EqualQuality, alternative: Alternative) -> str:
    """Return "KID higher by 0.0002, -0.0004..0.0008"."""
    if alternative.difference == 0 and alternative.quality.interval == (0.0, 0.0):
        return f"the same {answer.short}"
    interval = shown_interval(alternative.quality.interval, answer.decimals)
    return f"{_worse_by(answer, alternative.difference)}, {interval}"


def _worse_by(answer: EqualQuality, difference: float) -> str:
    direction = "higher" if answer.better == "lower" else "lower"
    return f"{answer.short} {direction} by {difference:.{answer.decimals}f}"


def _all_worse(answer: EqualQuality) -> str:
    least = min(alternative.difference for alternative in answer.alternatives)
    return (
        f"all that are faster than {answer.configuration} are worse: {_worse_by(answer, least)} or more, and the "
        f"margin is {shown_margin(answer)}"
    )


def _undecided(answer: EqualQuality) -> str:
    if answer.reason:
        return answer.reason
    undecided = f"undecided at N={answer.images}"
    needed = answer.images_needed
    if needed is None:
        return f"{undecided}; more generated and more reference images would be needed"
    if needed > MOST_IMAGES:
        return f"{undecided}; more than {MOST_IMAGES:,} images would be needed"
    # The floor's interval gets narrower with more images, and so does a margin that is made of it.
    at = f" with QUALITY_MARGIN={shown_margin(answer)}" if answer.margin_is_auto else ""
    return f"{undecided}; about {_rounded_up(needed):,} images would decide{at}"


def shown_margin(answer: EqualQuality) -> str:
    """Return the margin with three digits, as QUALITY_MARGIN takes it."""
    return f"{answer.margin:.3g}"


def _rounded_up(count: int) -> int:
    """Return a count of two digits and zeros that is no less."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return math.ceil(count / unit) * unit


def _left_out(answer: EqualQuality) -> str:
    """Return which columns took no part, and why."""
    if not answer.left_out:
        return ""
    return f"; left out: {', '.join(f'{name} ({reason})' for name, reason in answer.left_out.items())}"
