"""Who wins on speed, quality and efficiency, and by how much over the runner-up: decided once, kept as data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from benchmark.report.model_result import ModelResult
from benchmark.report.quality_verdict import decide_by_scores
from benchmark.report.speed_verdict import decide_by_rounds
from benchmark.report.verdict import Pair as Pair
from benchmark.report.verdict import Verdict as Verdict
from benchmark.report.verdict_text import format_verdict as format_verdict


class Group(NamedTuple):
    """Columns that are compared with each other: those of one mode and one dtype. dtype: "" where it is not known."""

    mode: str
    dtype: str = ""


def group_of(model: ModelResult) -> Group:
    """Return the group of a column."""
    return Group(model.mode, model.axes.get("DTYPE", ""))


def decide(
    models: Sequence[ModelResult],
    rounds: int,
    interrupted: bool = False,
    failed: Collection[str] = (),
    not_started: Mapping[Group, Sequence[str]] | None = None,
) -> tuple[Verdict, ...]:
    """Return three verdicts, or three for each mode and dtype. Tuning never passes for a better model.

    Of each model, its default configuration takes part alone: of others, the fewest steps would always win on speed.

    rounds: how many were asked for; speed and efficiency are decided on that many.
    interrupted: the run ended early, and a column may have fewer of them for that reason.
    failed: names of columns that did not come to their end. They take part in what they have all rounds for.
    not_started: the names of the columns of each group that an interrupted run did not come to.
    """
    groups: dict[Group, list[ModelResult]] = {}
    for model in sorted(models, key=lambda model: model.mode, reverse=True):
        if model.is_default:
            groups.setdefault(group_of(model), []).append(model)
    verdicts: list[Verdict] = []
    for group, members in groups.items():
        name, missing = _name(group, list(groups)), (not_started or {}).get(group, ())
        verdicts += [
            decide_by_rounds("speed", name, members, rounds, interrupted, failed, missing),
            decide_by_scores(name, members, failed),
            decide_by_rounds("efficiency", name, members, rounds, interrupted, failed, missing),
        ]
    return tuple(verdicts)


def _name(group: Group, groups: Sequence[Group]) -> str:
    """Return what tells a group from the others of the run: "compiled", "bfloat16", "compiled, bfloat16", or ""."""
    modes, dtypes = {other.mode for other in groups}, {other.dtype for other in groups}
    return ", ".join(part for part, of in ((group.mode, modes), (group.dtype, dtypes)) if len(of) > 1)
