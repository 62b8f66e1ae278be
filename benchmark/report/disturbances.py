"""What spoils a comparison: what else ran on the machine and what held its clocks down, by column and round."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from benchmark.measure.findings import MachineState
from benchmark.measure.machine_state import SPOILING_LIMITS
from benchmark.report.model_result import ModelResult, Round

# On a CPU the models themselves use every core. Beside a GPU they use one or two of them, but compete for all caches.
MOST_OTHER_CORES_ON_CPU, MOST_OTHER_CORES_BESIDE_GPU = 0.1, 0.5
LEAST_POWER_LIMIT = 0.99
# What must be the same in all rounds, and how a state tells it.
_CONSTANTS: dict[str, Callable[[MachineState], str]] = {
    "cards": lambda state: state.card_uuid,
    "drivers": lambda state: state.driver,
    "CPU governors": lambda state: state.cpu_governor,
}
# By the name of a column, the numbers of some of its rounds.
Places = dict[str, list[int]]


def list_disturbances(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for each kind of disturbance: in which rounds of which columns, and what it was."""
    places: dict[str, Places] = {}
    for model in models:
        for made in model.rounds:
            for what in _in_round(model, made):
                places.setdefault(what, {}).setdefault(model.name, []).append(made.number)
    lines = [f"{name_places(where, models)}: WARNING: {what}" for what, where in places.items()]
    return [*lines, *_load(models), *_differences(models)]


def name_places(places: Mapping[str, Sequence[int]], models: Sequence[ModelResult]) -> str:
    """Return "SDXL, rounds 1, 3; VAR-d16, PixArt, all rounds": columns with their rounds, counted from 1."""
    whole = {model.name: [made.number for made in model.rounds] for model in models}
    names_of: dict[str, list[str]] = {}
    for name, numbers in places.items():
        shown = ", ".join(str(number + 1) for number in numbers)
        rounds = f"round{'s' * (len(numbers) > 1)} {shown}"
        if len(numbers) > 1 and list(numbers) == whole[name]:
            rounds = "all rounds"
        names_of.setdefault(rounds, []).append(name)
    return "; ".join(f"{', '.join(names)}, {rounds}" for rounds, names in names_of.items())


def is_heavy_load(state: MachineState) -> bool:
    """Return whether other work kept more of the CPU busy than leaves a comparison as it is."""
    return state.other_cpu_cores is not None and state.other_cpu_cores > _most_other_cores(state)


def _in_round(model: ModelResult, made: Round) -> Iterator[str]:
    """Yield what spoiled this round, each once."""
    if made.other_processes:
        left_out = made not in model.undisturbed_rounds
        fate = "left out" if left_out else "left out of verdicts, but the column's figures rest on such rounds alone"
        yield f"another process on the card, {', '.join(made.other_processes)}; {fate}"
    energy = made.findings.energy
    limits = [limit for state in made.states for limit in state.clock_limits]
    limits += energy.clock_limits if energy is not None else ()
    for words in dict.fromkeys(SPOILING_LIMITS.values()):
        if names := [limit for limit in dict.fromkeys(limits) if SPOILING_LIMITS.get(limit) == words]:
            yield f"the clocks were held down: {words} ({', '.join(names)})"
    for state in made.states:
        limit_w, default_w = state.power_limit_w, state.default_power_limit_w
        if limit_w is not None and default_w is not None and limit_w < LEAST_POWER_LIMIT * default_w:
            yield f"the power limit is {limit_w:.0f} W, and the card's default is {default_w:.0f} W"
            break


def _load(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for all rounds in which other work kept too much of the CPU busy, with the worst of them.

    It is not only that of other processes: time that a host's other guests took from this machine counts too.
    """
    places: Places = {}
    heavy = []
    for model in models:
        for made in model.rounds:
            if found := [state for state in made.states if is_heavy_load(state)]:
                places.setdefault(model.name, []).append(made.number)
                heavy += found
    if not heavy:
        return []
    worst = max(heavy, key=lambda state: state.other_cpu_cores or 0.0)
    what = f"other work kept up to {worst.other_cpu_cores:.1f} of {worst.cpu_cores} CPU cores busy"
    return [f"{name_places(places, models)}: WARNING: {what}; more than {_most_other_cores(worst):.1f} may disturb"]


def _most_other_cores(state: MachineState) -> float:
    share = MOST_OTHER_CORES_BESIDE_GPU if has_card(state) else MOST_OTHER_CORES_ON_CPU
    return share * state.cpu_cores


def has_card(state: MachineState) -> bool:
    return bool(state.card_uuid or state.unread)


def _differences(models: Sequence[ModelResult]) -> list[str]:
    """Return a line for each of card, driver and governor that is not the same in all rounds."""
    lines = []
    for what, tell in _CONSTANTS.items():
        places: dict[str, Places] = {}
        for model in models:
            for made in model.rounds:
                for value in dict.fromkeys(tell(state) for state in made.states):
                    if value:
                        places.setdefault(value, {}).setdefault(model.name, []).append(made.number)
        if len(places) > 1:
            each = "; ".join(f"{value} ({name_places(where, models)})" for value, where in places.items())
            lines.append(f"WARNING: rounds with different {what}: {each}")
    return lines
