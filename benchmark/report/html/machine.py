"""The state of the machine at both ends of every round, in report.html: a table that can be opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmark.measure.findings import MachineState
from benchmark.report.html.elements import grid, text
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import shown_number

# A column of the table, and what a state shows in it: "" where it is not known.
_SHOWN: dict[str, Callable[[MachineState], str]] = {
    "SM clock (MHz)": lambda state: _shown(state.sm_clock_mhz),
    "Memory clock (MHz)": lambda state: _shown(state.memory_clock_mhz),
    "Clocks held down by": lambda state: ", ".join(state.clock_limits),
    "°C": lambda state: _shown(state.temperature_c),
    "Power limit (W)": lambda state: _power_limit(state),
    "Memory in use (GB)": lambda state: _shown(state.used_memory_bytes and state.used_memory_bytes / 1e9, 1),
    "Other processes on the card": lambda state: ", ".join(state.other_processes),
    "Load": lambda state: _shown(state.load_average, 1),
    "Cores kept busy by other work": lambda state: _shown(state.other_cpu_cores, 1),
    "CPU cores": lambda state: _shown(state.cpu_cores or None),
    "CPU governor": lambda state: state.cpu_governor,
    "Driver": lambda state: state.driver,
    "Card": lambda state: state.card_uuid,
    "Not read": lambda state: state.unread,
}


def tabulate_states(models: Sequence[ModelResult]) -> list[str]:
    """Return a table with a row for each state, in order of time; what is the same in all of them stands above it."""
    states = [
        (state, ", ".join(filter(None, [f"Round {made.number + 1}", model.name, end])))
        for model in models for made in model.rounds for state, end in zip(made.states, _ends(made.states), strict=True)
    ]  # fmt: skip
    if not states:
        return []
    states.sort(key=lambda pair: pair[0].unix_s)
    first_s = states[0][0].unix_s
    found = {name: [tell(state) for state, _ in states] for name, tell in _SHOWN.items()}
    same = [f"{name}: {cells[0]}" for name, cells in found.items() if cells[0] and len(set(cells)) == 1]
    columns = {name: cells for name, cells in found.items() if len(set(cells)) > 1}
    rows = [
        (where, [f"{state.unix_s - first_s:.0f}", *(cells[at] for cells in columns.values())])
        for at, (state, where) in enumerate(states)
    ]
    always = f"<p><small>In all of them: {text('; '.join(same))}</small></p>" if same else ""
    table = always + grid("Round", ["Seconds since the first", *columns], rows, "states")
    return [f"<details><summary>State of the machine at both ends of every round</summary>{table}</details>"]


def _ends(states: Sequence[MachineState]) -> list[str]:
    """Return which end of its process each state of a round is, or "" where it is not certain.

    A process that was killed has a start alone. Only an end can know what other work did in the meantime.
    """
    if len(states) % 2 == 0:
        return ["start", "end"] * (len(states) // 2)
    return [
        "start" if not place else "end" if state.other_cpu_cores is not None else ""
        for place, state in enumerate(states)
    ]


def _shown(number: float | None, decimals: int = 0) -> str:
    return "" if number is None else shown_number(number, decimals)


def _power_limit(state: MachineState) -> str:
    if state.power_limit_w is None:
        return ""
    default_w = state.default_power_limit_w
    is_default = default_w is None or round(default_w) == round(state.power_limit_w)
    return f"{state.power_limit_w:.0f}" + ("" if is_default else f" of {default_w:.0f}")
