"""Who wins on speed, quality and efficiency, and by how much over the runner-up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from benchmark.report.results import ModelResult
from metrics.intervals import difference_interval

# With fewer generated images than this, FID's bias is larger than most differences between models.
FRECHET_DECIDES_FROM = 2048
LONGEST_REASON = 40


def name_winners(models: Sequence[ModelResult]) -> list[str]:
    """Return the winners' lines: three, or three for each mode. Tuning never passes for a better model."""
    lines = []
    by_mode = itertools.groupby(
        sorted(models, key=lambda model: model.mode, reverse=True), key=lambda model: model.mode
    )
    groups = [(mode, list(group)) for mode, group in by_mode]
    for mode, group in groups:
        suffix = f" [{mode}]" if len(groups) > 1 else ""
        lines += [
            f"Speed Winner{suffix}: {_by_ratio(group, lambda model: model.throughput_per_s, 'faster')}",
            f"Quality Winner{suffix}: {_quality(group)}",
            f"Efficiency Winner{suffix}: {_by_ratio(group, lambda model: model.efficiency, 'more efficient')}",
        ]
    return lines


def _than(models: Sequence[ModelResult], runner_up: ModelResult) -> str:
    """Two columns need no runner-up's name."""
    return f" than {runner_up.name}" if len(models) > 2 else ""


def _by_ratio(models: Sequence[ModelResult], figure: Callable[[ModelResult], float], word: str) -> str:
    ranked = sorted(models, key=figure, reverse=True)
    if len(ranked) < 2:
        return f"{ranked[0].name} (the only model)"
    ratio = figure(ranked[0]) / figure(ranked[1])
    shown = f"{ratio:.1f}" if ratio >= 1.05 else f"{ratio:.2f}"
    return f"{ranked[0].name} ({shown}x {word}{_than(models, ranked[1])})"


def _quality(models: Sequence[ModelResult]) -> str:
    """Return who is better by FID, or by KID where there are too few images for FID, and by how much; or nobody."""
    key, reason = _deciding_key(models)
    if key is None:
        return reason
    scored = [(model, score) for model in models if (score := model.score(key)) is not None]
    if len({score.identity for _, score in scored}) > 1 or len({score.n_generated for _, score in scored}) > 1:
        return "none (the scores are of different sizes or kinds and cannot be compared)"
    if len(scored) < 2 and scored[0][0].warnings:
        return f"none ({scored[0][0].name} is the only model with a score, but it has a warning, see below)"
    if len(scored) < 2:
        return f"{scored[0][0].name} (the only model{' with a score' if len(models) > 1 else ''})"
    lower = scored[0][1].better == "lower"
    (best, first), (second, other) = sorted(scored, key=lambda pair: pair[1].value * (1 if lower else -1))[:2]
    word = "lower" if lower else "higher"
    gap, decimals = abs(first.value - other.value), first.decimals
    while round(gap, decimals) == 0 and decimals < first.decimals + 3:
        decimals += 1
    if round(gap, decimals) == 0:
        return f"none ({best.name} and {second.name} have the same {first.short})"
    than = _than([model for model, _ in scored], second)
    interval = difference_interval(first, other)
    if interval is not None and interval[0] <= 0 <= interval[1]:
        return f"none ({best.name}'s {first.short} {word} by {gap:.{decimals}f}{than}, within noise{reason})"
    if best.warnings:
        return f"none ({best.name} scores best, but it has a warning, see below)"
    if interval is None and key == "kid":
        return (
            f"none ({best.name}'s {first.short} {word} by {gap:.{decimals}f}{than}, of too few images to tell{reason})"
        )
    return f"{best.name} ({first.short} {word} by {gap:.{decimals}f}{than}{reason})"


def _deciding_key(models: Sequence[ModelResult]) -> tuple[str | None, str]:
    """Return the key of the row that decides and what its line adds, or None and the line."""
    fids = [score for model in models if (score := model.score("fid")) is not None]
    if fids and min(score.n_generated for score in fids) >= FRECHET_DECIDES_FROM:
        return "fid", ""
    biased = f"; {fids[0].short} is biased at N={min(score.n_generated for score in fids)}" if fids else ""
    if any(model.score("kid") for model in models):
        return "kid", biased
    if fids:
        return None, f"none ({biased[2:]}; add kid to METRICS)"
    reasons = [reason for model in models for reason in (model.unscored or {}).values()]
    if not reasons:
        return None, "n/a (neither FID nor KID was asked for)"
    return None, f"n/a ({reasons[0]})" if len(reasons[0]) <= LONGEST_REASON else (
        "n/a (no score; the reasons are below)"
    )  # fmt: skip
