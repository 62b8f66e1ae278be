"""Whether what is read as findings of passes can be such: numbers from which a report can be computed."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.measure.findings import FINDINGS, Energy, Finding, Findings, MachineState, Memory, Roofline, Stages
from benchmark.report.numbers import has_value
from files.records import Damaged


def check_findings(findings: Findings, states: Sequence[MachineState], place: str) -> None:
    """Raise Damaged where a figure is not a number, or below what it can be; `place` says where in the file it is."""
    for name in FINDINGS:
        found = getattr(findings, name)
        if found is not None:
            check_finding(found, f"{place}.findings.{name}")
    _check_not_negative(f"{place}.findings.pass_seconds", **findings.pass_seconds)
    for at, state in enumerate(states):
        _check_not_negative(f"{place}.states[{at}]", unix_s=state.unix_s)


def check_finding(found: Finding, place: str) -> None:
    """Raise Damaged where a figure of one pass is not a number, or below what it can be."""
    match found:
        case Stages():
            _check_positive(
                place, unwatched_seconds=found.unwatched_seconds, timed_seconds=found.timed_seconds,
                batch_size=found.batch_size,
            )  # fmt: skip
            _check_not_negative(place, seconds=found.seconds, watched_calls=found.watched_calls)
            for at, stage in enumerate(found.stages):
                inside = f"{place}.stages[{at}]"
                _check_not_negative(inside, seconds=stage.seconds, calls=stage.calls)
                for call, seconds in enumerate(stage.call_seconds):
                    _check_not_negative(inside, **{f"call_seconds[{call}]": seconds})
        case Memory():
            _check_not_negative(
                place, peak_tensor_bytes=found.peak_tensor_bytes, peak_reserved_bytes=found.peak_reserved_bytes
            )
            _check_not_negative(f"{place}.card_peaks_bytes", **found.card_peaks_bytes)
        case Energy():
            _check_positive(
                place, joules_per_image=found.joules_per_image, images=found.images, seconds=found.seconds
            )  # fmt: skip
            if found.mean_power_w is not None:
                _check_positive(place, mean_power_w=found.mean_power_w)
        case Roofline():
            _check_not_negative(
                place, flops_per_image=found.flops_per_image, weight_bytes_per_image=found.weight_bytes_per_image
            )
            _check_positive(
                place, matrix_flops_per_s=found.matrix_flops_per_s, copy_bytes_per_s=found.copy_bytes_per_s
            )  # fmt: skip


def _check_positive(place: str, **figures: float) -> None:
    for name, figure in figures.items():
        if not (has_value(figure) and figure > 0):
            raise Damaged(f"{place}.{name} is not a number above 0")


def _check_not_negative(place: str, **figures: float) -> None:
    for name, figure in figures.items():
        if not (has_value(figure) and figure >= 0):
            raise Damaged(f"{place}.{name} is not a number from 0 on")
