"""What an image costs in energy and memory, in report.html: a table of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.report.costs import EnergyCost, energy_of, memory_of, throughput_per_joule
from benchmark.report.html.elements import grid
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import NO_VALUE, shown_digits, shown_number, shown_percent, shown_range

_SINCE = {"call": "one call", "first call": "all calls from the first one on"}


def tabulate_energy(models: Sequence[ModelResult]) -> list[str]:
    """Return a table of the columns whose energy was measured; nothing where there is no such column."""
    measured = {model.name: (model, cost) for model in models if (cost := energy_of(model)) is not None}
    if not measured:
        return []

    def row(label: str, cell: Callable[[EnergyCost], str]) -> tuple[str, list[str]]:
        return label, [cell(cost) for _, cost in measured.values()]

    rows = [
        row("Energy (J/image)", lambda cost: shown_digits(cost.joules_per_image)),
        row("Spread between rounds", lambda cost: shown_percent(cost.spread)),
        row("Images per kWh", lambda cost: shown_digits(cost.images_per_kwh)),
        row("Throughput per watt (images/s/W)", lambda cost: shown_digits(1 / cost.joules_per_image)),
        ("Throughput per joule (images/s per J/image)", [
            shown_digits(throughput_per_joule(model)) for model, _ in measured.values()
        ]),
        row("Mean power (W)", lambda cost: shown_number(cost.mean_power_w, 0)),
        row("Idle power (W)", lambda cost: shown_number(cost.idle_power_w, 0)),
        row("Energy / (mean power x seconds)", lambda cost: shown_number(cost.power_ratio, 3)),
        row("Seconds in each round", lambda cost: shown_range([found.seconds for found in cost.rounds], 1)),
        row("Images in each round", lambda cost: shown_range([found.images for found in cost.rounds], 0)),
        row("Rounds", lambda cost: str(len(cost.rounds))),
    ]  # fmt: skip
    intro = (
        "Energy of the whole card over calls back to back, its idle power included: the mean over the rounds that "
        "measured it. Throughput per watt is images per joule. Throughput per joule is images per second over joules "
        "per image: it rewards speed as well."
    )
    return ["<h2>Energy</h2>", f"<p><small>{intro}</small></p>", grid("Metric", list(measured), rows)]


def tabulate_memory(models: Sequence[ModelResult]) -> list[str]:
    """Return a table of the columns whose memory was measured; nothing where there is no such column."""
    measured = {model.name: memory for model in models if (memory := memory_of(model)) is not None}
    if not measured:
        return []
    found = list(measured.values())
    rows = [
        ("Peak of tensors (GB)", [_gb(memory.peak_tensor_bytes) for memory in found]),
        ("Peak of the allocator's reservation (GB)", [_gb(memory.peak_reserved_bytes) for memory in found]),
        ("Peak of tensors is of", [_SINCE[memory.since] for memory in found]),
        ("Expandable segments", ["yes" if memory.expandable_segments else "no" for memory in found]),
    ]
    intro = (
        "Device memory that a call needs, the weights included, of the round that needed the most; nothing that "
        "earlier columns left is in it. Of a compiled model, the first call counts too: what a replayed CUDA graph "
        "uses does not count as held by tensors. The reservation is that of a call."
    )
    return ["<h2>Memory</h2>", f"<p><small>{intro}</small></p>", grid("Metric", list(measured), rows)]


def _gb(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:.2f}" if size_bytes else NO_VALUE
