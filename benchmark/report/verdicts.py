"""Who wins on speed, quality and efficiency, and by how much over the runner-up: decided once, kept as data."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

from benchmark.report.model_result import ModelResult
from benchmark.report.quality_verdict import decide_by_scores
from benchmark.report.speed_verdict import decide_by_rounds
from benchmark.report.verdict import Pair as Pair
from benchmark.report.verdict import Verdict as Verdict
from benchmark.report.verdict_text import format_verdict as format_verdict


def decide(
    models: Sequence[ModelResult],
    rounds: int,
    interrupted: bool = False,
    failed: Collection[str] = (),
    not_started: Mapping[str, Sequence[str]] | None = None,
) -> tuple[Verdict, ...]:
    """Return three verdicts, or three for each mode. Tuning never passes for a better model.

    rounds: how many were asked for; speed and efficiency are decided on that many.
    interrupted: the run ended early, and a column may have fewer of them for that reason.
    failed: names of columns that did not come to their end. They take part in what they have all rounds for.
    not_started: mode to the names of its columns that an interrupted run did not come to.
    """
    by_mode = itertools.groupby(
        sorted(models, key=lambda model: model.mode, reverse=True), key=lambda model: model.mode
    )
    groups = [(mode, list(group)) for mode, group in by_mode]
    verdicts: list[Verdict] = []
    for mode, group in groups:
        name = mode if len(groups) > 1 else ""
        verdicts += [
            decide_by_rounds("speed", name, group, rounds, interrupted, failed, (not_started or {}).get(mode, ())),
            decide_by_scores(name, group, failed),
            decide_by_rounds("efficiency", name, group, rounds, interrupted, failed, (not_started or {}).get(mode, ())),
        ]
    return tuple(verdicts)
