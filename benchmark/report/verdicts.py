"""Who wins on speed, quality and efficiency, and by how much over the runner-up: decided once, kept as data."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import has_value, paired_interval
from metrics.base import Score

# With fewer generated images than this, FID's bias is larger than most differences between models.
FRECHET_DECIDES_FROM = 2048
LONGEST_REASON = 40

Question = Literal["speed", "quality", "efficiency"]
Outcome = Literal["WIN", "TIE", "UNDECIDED"]
# What decided: the better figure, the only column, the only one with a score, equal values, an interval of the
# difference that holds 0, a warning on the images, too few images for an interval, scores of different kinds, FID
# alone of too few images, no score at all.
Rule = Literal[
    "better figure", "only model", "only score", "same value", "within noise", "warning", "too few images",
    "not comparable", "biased", "no score",
]  # fmt: skip
_RATIO_WORDS = {"speed": "faster", "efficiency": "more efficient"}


@dataclass(frozen=True)
class Verdict:
    """The answer to one question within one group of columns; `format_verdict` prints it.

    group: the mode of the columns, or "" where the run has one mode alone.
    rule: what decided.
    ranked: the columns that were compared, the best first. winner: the first of them where the outcome is WIN, else "".
    runner_up: the second of them, or "".
    metric: key of the figure that was compared, "throughput_per_s", "efficiency", "fid" or "kid"; "" where none was.
    short: a score's name in the line, "FID". better: which of its values are better.
    ratio: the first column's figure / the second's. difference: the first column's score - the second's, and interval:
    its 95 % interval; None where it is not known. decimals: with how many the difference is shown.
    reason: why there is no score. biased: what the line adds where FID could not decide.
    """

    question: Question
    group: str
    outcome: Outcome
    rule: Rule
    winner: str = ""
    runner_up: str = ""
    ranked: tuple[str, ...] = ()
    metric: str = ""
    short: str = ""
    better: Literal["lower", "higher"] = "higher"
    ratio: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    decimals: int = 1
    reason: str = ""
    biased: str = ""


def decide(models: Sequence[ModelResult]) -> tuple[Verdict, ...]:
    """Return three verdicts, or three for each mode. Tuning never passes for a better model."""
    by_mode = itertools.groupby(
        sorted(models, key=lambda model: model.mode, reverse=True), key=lambda model: model.mode
    )
    groups = [(mode, list(group)) for mode, group in by_mode]
    verdicts: list[Verdict] = []
    for mode, group in groups:
        name = mode if len(groups) > 1 else ""
        verdicts += [
            _by_ratio("speed", name, group, "throughput_per_s", lambda model: model.throughput_per_s),
            _quality(name, group),
            _by_ratio("efficiency", name, group, "efficiency", lambda model: model.efficiency),
        ]
    return tuple(verdicts)


def _by_ratio(
    question: Question, group: str, models: Sequence[ModelResult], metric: str, figure: Callable[[ModelResult], float]
) -> Verdict:
    ranked = sorted(models, key=figure, reverse=True)
    names = tuple(model.name for model in ranked)
    if len(ranked) < 2:
        return Verdict(question, group, "WIN", "only model", names[0], ranked=names, metric=metric)
    ratio = figure(ranked[0]) / figure(ranked[1])
    return Verdict(question, group, "WIN", "better figure", names[0], names[1], names, metric, ratio=ratio)


def _quality(group: str, models: Sequence[ModelResult]) -> Verdict:
    """Return who is better by FID, or by KID where there are too few images for FID, and by how much; or no one."""
    key, biased = _deciding_key(models)
    none = Verdict("quality", group, "UNDECIDED", "no score", biased=biased)
    if not key:
        return replace(none, rule="biased") if biased else replace(none, reason=_reason(models))
    scored = [(model, score) for model in models if (score := _score(model, key)) is not None]
    none = replace(none, metric=key, short=scored[0][1].short, better=scored[0][1].better)
    if len({score.identity for _, score in scored}) > 1 or len({score.n_generated for _, score in scored}) > 1:
        return replace(none, rule="not comparable")
    lower = none.better == "lower"
    scored.sort(key=lambda pair: pair[1].value * (1 if lower else -1))
    best, first = scored[0]
    none = replace(none, ranked=tuple(model.name for model, _ in scored))
    if len(scored) < 2 and best.warnings:
        return replace(none, rule="warning")
    if len(scored) < 2:
        return replace(none, outcome="WIN", rule="only score" if len(models) > 1 else "only model", winner=best.name)
    second, other = scored[1]
    decimals = _decimals(abs(first.value - other.value), first.decimals)
    interval = paired_interval(first, other)
    none = replace(
        none, runner_up=second.name, difference=first.value - other.value, interval=interval, decimals=decimals
    )  # fmt: skip
    if round(abs(first.value - other.value), decimals) == 0:
        return replace(none, outcome="TIE", rule="same value")
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return replace(none, outcome="TIE", rule="within noise")
    if best.warnings:
        return replace(none, rule="warning")
    if interval is None and key == "kid":
        return replace(none, rule="too few images")
    return replace(none, outcome="WIN", rule="better figure", winner=best.name)


def _decimals(gap: float, usual: int) -> int:
    """Return with how many decimals a difference shows a digit that is not 0; at most three more than usual."""
    return next((more for more in range(usual, usual + 3) if round(gap, more) != 0), usual + 3)


def _score(model: ModelResult, key: str) -> Score | None:
    score = model.score(key)
    return score if score is not None and has_value(score.value) else None


def _deciding_key(models: Sequence[ModelResult]) -> tuple[str, str]:
    """Return the key of the row that decides ("": none does), and what is to be said of FID where it does not."""
    fids = [score for model in models if (score := _score(model, "fid")) is not None]
    if fids and min(score.n_generated for score in fids) >= FRECHET_DECIDES_FROM:
        return "fid", ""
    biased = f"{fids[0].short} is biased at N={min(score.n_generated for score in fids)}" if fids else ""
    return "kid" if any(_score(model, "kid") for model in models) else "", biased


def _reason(models: Sequence[ModelResult]) -> str:
    """Return why no model has an FID or a KID."""
    given = [(name, reason) for model in models for name, reason in model.unscored.items()]
    reasons = [reason for name, reason in given if name in ("fid", "kid")] or [reason for _, reason in given]
    if not reasons:
        return "neither FID nor KID was asked for"
    return reasons[0] if len(reasons[0]) <= LONGEST_REASON else "no score; the reasons are below"


def format_verdict(verdict: Verdict) -> str:
    """Return the line of one verdict, as the table and the HTML report print it."""
    group = f" [{verdict.group}]" if verdict.group else ""
    return f"{verdict.question.capitalize()} Winner{group}: {_answer(verdict)}"


def _answer(verdict: Verdict) -> str:
    if verdict.outcome == "WIN":
        return f"{verdict.winner} ({_margin(verdict)})"
    if verdict.rule == "no score":
        return f"n/a ({verdict.reason})"
    return f"none ({_why_none(verdict)})"


def _margin(verdict: Verdict) -> str:
    """Return why the winner has won, and by how much."""
    if verdict.rule == "only model":
        return "the only model"
    if verdict.rule == "only score":
        return "the only model with a score"
    if verdict.ratio is not None:
        ratio = f"{verdict.ratio:.1f}" if verdict.ratio >= 1.05 else f"{verdict.ratio:.2f}"
        return f"{ratio}x {_RATIO_WORDS[verdict.question]}{_than(verdict)}"
    return _by_score(verdict) + _biased(verdict)


def _why_none(verdict: Verdict) -> str:
    if verdict.rule == "not comparable":
        return "the scores are of different sizes or kinds and cannot be compared"
    if verdict.rule == "biased":
        return f"{verdict.biased}; add kid to METRICS"
    first = verdict.ranked[0]
    if verdict.rule == "same value":
        return f"{first} and {verdict.runner_up} have the same {verdict.short}"
    if verdict.rule == "warning":
        only = "is the only model with a score" if len(verdict.ranked) < 2 else "scores best"
        return f"{first} {only}, but it has a warning, see below"
    ending = "within noise" if verdict.rule == "within noise" else "of too few images to tell"
    return f"{first}'s {_by_score(verdict)}, {ending}{_biased(verdict)}"


def _by_score(verdict: Verdict) -> str:
    assert verdict.difference is not None, "two scores were compared"
    return f"{verdict.short} {verdict.better} by {abs(verdict.difference):.{verdict.decimals}f}{_than(verdict)}"


def _biased(verdict: Verdict) -> str:
    return f"; {verdict.biased}" if verdict.biased else ""


def _than(verdict: Verdict) -> str:
    """Two columns need no runner-up's name."""
    return f" than {verdict.runner_up}" if len(verdict.ranked) > 2 else ""
