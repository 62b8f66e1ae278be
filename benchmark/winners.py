"""Who wins on speed, quality and efficiency, and by how much over the runner-up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from benchmark.results import ModelResult

QUALITY_KEYS = ("fid",)
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
    for key in QUALITY_KEYS:
        scored = [(model, score) for model in models if (score := model.score(key)) is not None]
        if not scored:
            continue
        identities = {score.identity for _, score in scored}
        counts = {score.n_generated for _, score in scored}
        if len(identities) > 1 or len(counts) > 1:
            return "none (the scores are of different sizes or kinds and cannot be compared)"
        if len(scored) < 2:
            return f"{scored[0][0].name} (the only model with a score)" if len(models) > 1 else (
                f"{models[0].name} (the only model)"
            )  # fmt: skip
        lower = scored[0][1].better == "lower"
        (best, first), (second, next_best) = sorted(scored, key=lambda pair: pair[1].value * (1 if lower else -1))[:2]
        word = "lower" if lower else "higher"
        gap, decimals = abs(first.value - next_best.value), first.decimals
        while round(gap, decimals) == 0 and decimals < first.decimals + 3:
            decimals += 1
        if round(gap, decimals) == 0:
            return f"none ({best.name} and {second.name} have the same {first.short})"
        return (
            f"{best.name} ({first.short} {word} by {gap:.{decimals}f}{_than([model for model, _ in scored], second)})"
        )
    reasons = [reason for model in models for reason in (model.unscored or {}).values()]
    if not reasons:
        return "n/a (no quality metric was asked for)"
    return f"n/a ({reasons[0]})" if len(reasons[0]) <= LONGEST_REASON else "n/a (no score; the reasons are below)"
