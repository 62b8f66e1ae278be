"""What an image of a column costs: what the passes of its rounds found, taken together. Imports no torch."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from benchmark.measure.findings import PASSES, Energy, Findings, Memory, Roofline, Stages, StageTime
from benchmark.report.model_result import ModelResult

JOULES_PER_KWH = 3.6e6
ONLY_BESIDE_OTHERS = "other processes on the card in each round that measured it"
Found = TypeVar("Found")


@dataclass(frozen=True)
class EnergyCost:
    """Energy of the whole card for one image, over the rounds that measured it.

    joules_per_image: the mean over rounds. spread: sample standard deviation of the rounds / their mean; None of one.
    mean_power_w, idle_power_w: means over the rounds in which they could be read; None where in no one of them.
    """

    rounds: tuple[Energy, ...]
    joules_per_image: float
    spread: float | None
    mean_power_w: float | None
    idle_power_w: float | None

    @property
    def images_per_kwh(self) -> float:
        return JOULES_PER_KWH / self.joules_per_image

    @property
    def power_ratio(self) -> float | None:
        """Energy over mean power times time, the mean over rounds: 1 where counter and samples agree."""
        return _mean([found.power_ratio for found in self.rounds])


def energy_of(model: ModelResult) -> EnergyCost | None:
    """Return what an image costs in energy; None where no round that is used measured it."""
    found = _found(model, lambda findings: findings.energy)
    if not found:
        return None
    joules = [energy.joules_per_image for energy in found]
    return EnergyCost(
        found, statistics.fmean(joules), statistics.stdev(joules) / statistics.fmean(joules) if found[1:] else None,
        _mean([energy.mean_power_w for energy in found]), _mean([energy.idle_power_w for energy in found]),
    )  # fmt: skip


def throughput_per_joule(model: ModelResult) -> float | None:
    """Return images per second / joules per image, which rewards both speed and thrift; None without energy.

    It is the reciprocal of what hardware calls the energy-delay product.
    """
    energy = energy_of(model)
    return None if energy is None else model.throughput_per_s / energy.joules_per_image


def memory_of(model: ModelResult) -> Memory | None:
    """Return the memory of the round that needed the most; None where no round that is used measured it."""
    found = _found(model, lambda findings: findings.memory)
    if not found:
        return None
    return replace(
        max(found, key=lambda memory: memory.peak_tensor_bytes),
        peak_reserved_bytes=max(memory.peak_reserved_bytes for memory in found),
    )


def stages_of(model: ModelResult) -> Stages | None:
    """Return the mean over rounds of each stage and of each of its calls; None where no round measured them.

    A round whose calls are others than those of the first one takes no part.
    """
    alike = _alike_stages(model)
    if not alike:
        return None
    return Stages(
        tuple(_mean_stage(times) for times in zip(*(stages.stages for stages in alike), strict=True)),
        seconds=statistics.fmean(stages.seconds for stages in alike),
        unwatched_seconds=statistics.fmean(stages.unwatched_seconds for stages in alike),
        timed_seconds=statistics.fmean(stages.timed_seconds for stages in alike),
        watched_calls=sum(stages.watched_calls for stages in alike), batch_size=alike[0].batch_size,
    )  # fmt: skip


def count_stage_rounds(model: ModelResult) -> int:
    """Return of how many rounds `stages_of` is the mean."""
    return len(_alike_stages(model))


def _alike_stages(model: ModelResult) -> list[Stages]:
    found = _found(model, lambda findings: findings.stages)
    return [stages for stages in found if _kind(stages) == _kind(found[0])]


def roofline_of(model: ModelResult) -> Roofline | None:
    """Return the roofline of the first round that has one: of an undisturbed round where there is one.

    It is measured once for a column, and what is counted for it does not depend on what else runs.
    """
    rounds = [*model.undisturbed_rounds, *model.rounds]
    return next((made.findings.roofline for made in rounds if made.findings.roofline is not None), None)


def rooflines_of(models: Sequence[ModelResult]) -> dict[str, Roofline]:
    """Return the roofline of each column that has one, by name; the limits are the best that any column measured.

    There is one pair of limits for each dtype: the device is the same for all columns, and what slows a measurement of
    it down says nothing of the model.
    """
    measured = {model.name: roofline for model in models if (roofline := roofline_of(model)) is not None}
    of_dtype: dict[str, list[Roofline]] = {}
    for roofline in measured.values():
        of_dtype.setdefault(roofline.dtype, []).append(roofline)
    return {
        name: replace(
            roofline, matrix_flops_per_s=max(each.matrix_flops_per_s for each in of_dtype[roofline.dtype]),
            copy_bytes_per_s=max(each.copy_bytes_per_s for each in of_dtype[roofline.dtype]),
        )
        for name, roofline in measured.items()
    }  # fmt: skip


def why_unmeasured(model: ModelResult) -> dict[str, str]:
    """Return, for each pass that has no figure that is used, the first reason that a round gave.

    A figure is used if it is of a round without another process on the card, or if there is no such round.
    """
    reasons: dict[str, str] = {}
    for name in PASSES:
        used = _found(model, lambda findings, name=name: getattr(findings, name))  # type: ignore[misc]
        if used or (name == "roofline" and roofline_of(model) is not None):
            continue
        given = (made.findings.unmeasured.get(name) for made in (*model.undisturbed_rounds, *model.rounds))
        if reason := next(filter(None, given), None):
            reasons[name] = reason
        elif any(getattr(made.findings, name) is not None for made in model.rounds):
            reasons[name] = ONLY_BESIDE_OTHERS
    return reasons


def find_passes_not_run(model: ModelResult, asked: Sequence[str]) -> list[str]:
    """Return those of the passes that were asked for of which no round has a finding or a reason."""
    made = [found.findings for found in model.rounds]
    return [
        name for name in asked
        if not any(getattr(findings, name) is not None or name in findings.unmeasured for findings in made)
    ]  # fmt: skip


def _found(model: ModelResult, finding: Callable[[Findings], Found | None]) -> tuple[Found, ...]:
    """Return what a pass found, of each round that is used and has it."""
    each = (finding(made.findings) for made in model.undisturbed_rounds)
    return tuple(found for found in each if found is not None)


def _kind(stages: Stages) -> tuple[object, ...]:
    """Return what rounds of a column have in common, and what a mean can be taken of."""
    return stages.batch_size, *((stage.name, stage.calls, len(stage.call_seconds)) for stage in stages.stages)


def _mean_stage(times: Sequence[StageTime]) -> StageTime:
    calls = zip(*(time.call_seconds for time in times), strict=True)
    return replace(
        times[0], seconds=statistics.fmean(time.seconds for time in times),
        call_seconds=tuple(statistics.fmean(call) for call in calls),
    )  # fmt: skip


def _mean(figures: Sequence[float | None]) -> float | None:
    known = [figure for figure in figures if figure is not None]
    return statistics.fmean(known) if known else None
