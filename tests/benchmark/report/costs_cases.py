"""Columns with what passes find on a large GPU, from which the tests of costs make what they look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from report_cases import report, timed_round

from benchmark.measure.findings import Energy, Findings, MachineState, Memory, Roofline, Stages, StageTime
from benchmark.report.model_result import ModelResult
from benchmark.report.results import RunResult

CARD = MachineState(
    1_000_000.0, "GPU-1a2b3c4d", "570.86", (), 4_200_000_000, 1980, 3201, ("gpu idle",), 41, 700.0, 700.0, 2.5, None,
    16, "performance",
)  # fmt: skip


def stage(name: str, seconds: float, *call_seconds: float, calls: int | None = None) -> StageTime:
    return StageTime(name, seconds, calls or len(call_seconds) or 1, call_seconds)  # type: ignore[arg-type]


def stages(unwatched_seconds: float, *found: StageTime, batch_size: int = 1) -> Stages:
    """Return the stages of a worker whose timed calls took 10 % longer than the unwatched ones of the pass."""
    seconds = sum(each.seconds for each in found)
    return Stages(found, seconds, unwatched_seconds, 1.1 * unwatched_seconds, 5, batch_size)


def energy(joules_per_image: float, seconds: float = 5.2, images: float = 100.0, **changes: object) -> Energy:
    """Return the energy of a span whose mean power agrees with it."""
    found = Energy(joules_per_image, images, seconds, joules_per_image * images / seconds, 75.0, "counter")
    return replace(found, **changes)  # type: ignore[arg-type]


def both_ends(number: int, end: MachineState = CARD) -> tuple[MachineState, MachineState]:
    start_s = CARD.unix_s + 60 * number
    return replace(CARD, unix_s=start_s), replace(end, unix_s=start_s + 30)


def with_findings(model: ModelResult, each: Sequence[Findings]) -> ModelResult:
    """Return the model with these findings, one for each of its rounds."""
    rounds = [replace(made, findings=found) for made, found in zip(model.rounds, each, strict=True)]
    return replace(model, rounds=tuple(rounds))


def with_states(model: ModelResult, *numbers: int, **changes: object) -> ModelResult:
    """Return the model with a state of the card at both ends of each round, in these rounds with changes at the end."""
    rounds = []
    for made in model.rounds:
        end = replace(CARD, **changes) if made.number in numbers else CARD  # type: ignore[arg-type]
        rounds.append(replace(made, states=both_ends(made.number, end)))
    return replace(model, rounds=tuple(rounds))


def measured(
    model: ModelResult,
    latency_s: float,
    found: Stages,
    joules: float,
    memory: Memory,
    roofline: Roofline,
    rounds: int = 3,
) -> ModelResult:
    """Return the model with so many rounds, in which every pass found something."""
    made = [
        timed_round(
            number, *(latency_s * (1 + 0.004 * (number - 1) + 0.002 * call) for call in (-1, 0, 1)),
            states=both_ends(number), sessions=("a",), findings=Findings(
                found, memory, energy(joules * (1 + 0.01 * (number - 1)), 5.1 + 0.1 * number, round(5 / latency_s) + 1),
                None if number else roofline,
            ),
        )
        for number in range(rounds)
    ]  # fmt: skip
    return replace(model, rounds=tuple(made), timed_images=3, images=3)


def _column(name: str, mode: str, millions: float, image_size: int) -> ModelResult:
    return ModelResult(name, mode, int(millions * 1e6), image_size, 1, 3, 3, (), 8_000_000_000, (), "")


def _memory(gigabytes: float, since: str = "call") -> Memory:
    return Memory(int(gigabytes * 1e9), int(1.12 * gigabytes * 1e9), since, True)  # type: ignore[arg-type]


def _roofline(tera_flops: float, giga_bytes: float, dtype: str = "bfloat16") -> Roofline:
    return Roofline(1e12 * tera_flops, 1e9 * giga_bytes, 6.9e14 if dtype == "bfloat16" else 5.1e13, 4.05e12, dtype)


VAR_SCALES_S = tuple(1e-3 * ms for ms in (0.55, 0.50, 0.50, 0.51, 0.53, 0.58, 0.70, 0.86, 1.05, 1.42))
INFINITY_SCALES_S = tuple(1e-3 * ms for ms in (28, 24, 24, 25, 26, 28, 33, 41, 52, 70, 96, 140, 190))


def large_run() -> RunResult:
    """Return a run of four models as a large GPU may have it, with every pass."""
    var = measured(
        _column("VAR-d16 (compiled)", "compiled", 310, 256), 0.00915,
        stages(0.00915, stage("backbone", 0.0074, *VAR_SCALES_S), stage("decoder", 0.00169, 0.00165)), 3.1,
        _memory(1.48, "first call"), _roofline(0.83, 6.1),
    )  # fmt: skip
    sdxl = measured(
        _column("SDXL", "eager", 2567.5, 1024), 2.61,
        stages(2.61, stage("text encoder", 0.021, 0.008, 0.012), stage("backbone", 2.45, *[0.0478] * 50),
               stage("decoder", 0.128, 0.126)), 1560.0, _memory(12.6), _roofline(605, 262),
    )  # fmt: skip
    infinity = measured(
        _column("Infinity-2B", "eager", 2200, 1024), 1.012,
        stages(1.012, stage("text encoder", 0.034, 0.033), stage("backbone", 0.79, *INFINITY_SCALES_S),
               stage("decoder", 0.186, 0.18)), 512.0, _memory(16.9), _roofline(98, 56),
    )  # fmt: skip
    pixart = measured(
        _column("PixArt-Sigma", "eager", 610.9, 1024), 1.42,
        stages(1.42, stage("text encoder", 0.048, 0.047), stage("backbone", 1.24, *[0.0602] * 20),
               stage("decoder", 0.129, 0.127)), 702.0, _memory(11.9), _roofline(178, 24.4),
    )  # fmt: skip
    return report(var, sdxl, infinity, pixart, rounds=3)
