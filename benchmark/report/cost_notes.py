"""What the footer says of the passes: how energy was measured, what was not, and whether stages add up."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark.measure.call_variation import call_variation
from benchmark.measure.findings import PASSES, Stages
from benchmark.report.costs import energy_of, find_passes_not_run, memory_of, why_unmeasured
from benchmark.report.disturbances import Places, name_places
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import shown_range
from benchmark.report.reasons import group_reasons

# By how much two measurements of the same thing may differ: stages and timed calls, the counter and samples of power.
STAGES_AGREE_WITHIN, POWER_AGREES_WITHIN = 0.03, 0.05
STANDARD_ERRORS = 2  # of a ratio, which its calls' own variation explains
_SOURCES = {"counter": "by NVML's counter", "power samples": "from samples of its power, since it has no counter"}


def list_cost_notes(models: Sequence[ModelResult]) -> list[str]:
    """Return how energy was measured, what does not add up, and what could not be measured or read, with the reason."""
    return [
        *_card_peaks(models), *_energy(models), *_unlike(models), *_sums(models), *_gaps(models), *_unread(models),
        *_without(models),
    ]  # fmt: skip


def list_passes_not_run(models: Sequence[ModelResult], passes: Sequence[str], rounds: int) -> list[str]:
    """Return which of the passes that PASSES names did not run in any round, and which ROUNDS would run them.

    They are not run again for a round that is complete: it was interrupted in them, or timed with other PASSES. A
    column that lacks rounds is left out, since the same command times them, with these passes.

    passes, rounds: which and how many were asked for.
    """
    asked = [name for name in PASSES if name in passes]
    whose: dict[tuple[str, ...], list[str]] = {}
    for model in models:
        if sum(made.complete for made in model.rounds) >= rounds:
            whose.setdefault(tuple(find_passes_not_run(model, asked)), []).append(model.name)
    lacking = [
        f"{', '.join(names)}{'' if len(columns) == len(models) else f' for {_and(columns)}'}"
        for names, columns in whose.items() if names
    ]  # fmt: skip
    return [f"Not measured: {'; '.join(lacking)} (not run yet; ROUNDS={rounds + 1} measures them)"] if lacking else []


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _without(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for each reason why passes have no figure: which of them, for which columns."""
    grouped = group_reasons({model.name: why_unmeasured(model) for model in models})
    return [
        f"Not measured{f' for {_and(columns)}' if columns else ''}: {', '.join(rows)} ({text})"
        for text, rows, columns in grouped
    ]


def _card_peaks(models: Sequence[ModelResult]) -> list[str]:
    """Return for each column that is on several GPUs how much of its peak memory is on which of them."""
    lines = []
    for model in models:
        memory = memory_of(model)
        if memory is not None and memory.card_peaks_bytes:
            peaks = ", ".join(f"{count / 1e9:.1f} GB on {card}" for card, count in memory.card_peaks_bytes.items())
            lines.append(f"{model.name}: peak memory of a call: {peaks}; the table has the sum of each card's peak")
    return lines


def _energy(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for each way in which energy was measured: in this run, usually one for all columns."""
    measured = {model.name: energy for model in models if (energy := energy_of(model)) is not None}
    lines = []
    for source, words in _SOURCES.items():
        found = {
            name: of_source for name, cost in measured.items()
            if (of_source := [energy for energy in cost.rounds if energy.source == source])
        }  # fmt: skip
        if not found:
            continue
        all_rounds = [energy for energies in found.values() for energy in energies]
        whose = "" if len(found) == len(models) else f" ({', '.join(found)})"
        span = shown_range([energy.seconds for energy in all_rounds], 1)
        line = f"Energy{whose}: of the whole card, {words}, over {span} s of calls back to back in a round"
        idle_w = [energy.idle_power_w for energy in all_rounds if energy.idle_power_w is not None]
        lines.append(line + (f"; idle {shown_range(idle_w, 0)} W" if idle_w else ""))
    return lines


def _unlike(models: Sequence[ModelResult]) -> list[str]:
    """Return where the counter of energy and samples of the power do not agree."""
    ratios = {model.name: cost.power_ratio for model in models if (cost := energy_of(model)) is not None}
    off = [
        f"{ratio:.2f} ({name})" for name, ratio in ratios.items()
        if ratio is not None and abs(ratio - 1) > POWER_AGREES_WITHIN
    ]  # fmt: skip
    return [f"WARNING: energy over mean power times seconds is {', '.join(off)}, not 1"] if off else []


def _sums(models: Sequence[ModelResult]) -> list[str]:
    """Return in which rounds the stages of a call do not add up to what calls took that were not watched.

    A few calls of a loop that waits for its host differ by more than the bound: that alone is no fault of the stages.
    """
    off = [
        (stages.ratio, f"({model.name}, round {made.number + 1})") for model in models
        for made in model.undisturbed_rounds
        if (stages := made.findings.stages) is not None and abs(stages.ratio - 1) > _bound(stages, made.latencies_s)
    ]  # fmt: skip
    if not off:
        return []
    (ratio, where), *others = off
    first = f"{ratio:.3f} of the latency of unwatched calls {where}"
    shown = ", ".join([first, *(f"{ratio:.3f} {where}" for ratio, where in others)])
    low, high = 1 - STAGES_AGREE_WITHIN, 1 + STAGES_AGREE_WITHIN
    return [f"Stages: their sum is {shown}, not within {low:.2f} to {high:.2f}: read their shares, not their seconds"]


def _bound(stages: Stages, latencies_s: Sequence[float]) -> float:
    """Return how far from 1 the sum of these stages may be over the latency, after timed calls of these seconds."""
    variation = call_variation(latencies_s)
    return max(STAGES_AGREE_WITHIN, 0 if variation is None else STANDARD_ERRORS * stages.ratio_error(variation))


def _gaps(models: Sequence[ModelResult]) -> list[str]:
    """Return why a pass found nothing in some rounds of a column while it found something in others."""
    places: dict[str, Places] = {}
    for model in models:
        for name in PASSES:
            if all(getattr(made.findings, name) is None for made in model.undisturbed_rounds):
                continue  # a column without any is named with its reason elsewhere
            for made in model.undisturbed_rounds:
                if name in made.findings.unmeasured:
                    what = f"no {name}: {made.findings.unmeasured[name]}"
                    places.setdefault(what, {}).setdefault(model.name, []).append(made.number)
    return [f"{name_places(where, models)}: {what}" for what, where in places.items()]


def _unread(models: Sequence[ModelResult]) -> list[str]:
    """Return in which rounds the state of the card could not be read, and why."""
    places: dict[str, Places] = {}
    for model in models:
        for made in model.rounds:
            for reason in dict.fromkeys(state.unread for state in made.states if state.unread):
                places.setdefault(reason, {}).setdefault(model.name, []).append(made.number)
    return [f"{name_places(where, models)}: state of the card not read: {reason}" for reason, where in places.items()]
