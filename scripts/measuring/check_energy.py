"""Checks the energy per image: how far apart fresh processes are, and energy against mean power times time.

    python scripts/measuring/check_energy.py --models sdxl,var,pixart,infinity --weights random --device cuda \\
        --mode eager,compiled
    python scripts/measuring/check_energy.py --tiny

Each process loads the model, warms it up, and measures calls back to back. Other settings are taken from the
environment, as for run_inference.py (IMAGE_SIZE, PIXART_STEPS, ...). Exits with 1 if a bar is missed: compiled models
differ by at most 5 % between processes, and every process's energy is 0.95 to 1.05 of mean power times time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from benchmark.measure.machine import Machine
from benchmark.run import servers
from benchmark.run.columns import Column
from benchmark.run.worker import Plan
from scripts.measuring.chosen_columns import SEED, add_column_flags, choose_columns, loader_of
from scripts.measuring.energy_rounds import EnergyJob, EnergySpread, Measured, measure_in_worker, spread_of
from scripts.measuring.harness import describe_run, duration, end_script, open_parser, write_report
from scripts.measuring.measure_stages import robot_requests

MOST_RANGE = 0.05
LEAST_RATIO, MOST_RATIO = 0.95, 1.05


def measure_column(column: Column, machine: Machine, processes: int, seconds: float) -> Iterator[Measured]:
    """Yield what each of a column's processes found; each is forked from a server of its own, as in a run's rounds."""
    load = loader_of(column, machine)
    requests = tuple(robot_requests(column.settings.batch_size, SEED))
    plan = Plan(column.settings.batch_size, column.settings.warmup, machine.device, machine.dtype)
    for _ in range(processes):
        sent: list[object] = []
        with servers.open_servers(1, servers.modules_for([column])) as [server]:
            server.run(partial(measure_in_worker, EnergyJob(load, requests, plan, seconds)), sent.append, lambda: False)
        (found,) = sent
        assert isinstance(found, Measured)
        yield found


def describe_process(measured: Measured) -> str:
    """Return one line: what a process found, or why it found nothing."""
    energy = measured.energy
    if energy is None:
        return f"n/a ({measured.reason})"
    parts = [f"{energy.joules_per_image:.4g} J/image over {energy.seconds:.2f} s ({energy.source})"]
    if energy.mean_power_w is not None:
        parts.append(f"{energy.mean_power_w:.0f} W, energy / (power x time) {energy.power_ratio:.3f}")
    if energy.idle_power_w is not None:
        parts.append(f"idle {energy.idle_power_w:.0f} W")
    others = (*measured.start.other_processes, *measured.end.other_processes)
    parts += [f"held down by {', '.join(energy.clock_limits)}"] if energy.clock_limits else []
    parts += [f"beside {', '.join(dict.fromkeys(others))}"] if others else []
    return "; ".join(parts)


def judge(mode: str, spread: EnergySpread) -> dict[str, bool]:
    """Return which bars are met: of the spread, for compiled models alone, and of energy against power."""
    met = {"power_ratio": all(LEAST_RATIO <= ratio <= MOST_RATIO for ratio in spread.power_ratios)}
    return met | ({"range": spread.range <= MOST_RANGE} if mode == "compiled" else {})


def main(given: Sequence[str] | None = None) -> int:
    """Measure each column; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=5, repeated="processes of each column", device="auto")
    add_column_flags(parser, mode="eager,compiled", weights="random")
    parser.add_argument(
        "--seconds", type=duration, default=5.0, help="measure calls for so many seconds at least [%(default)s]"
    )
    arguments = parser.parse_args(given)
    if arguments.tiny:
        arguments.models, arguments.mode, arguments.weights, arguments.repeats = "var", "eager", "tiny", 2
        arguments.device = "cpu"
    about = describe_run(__file__, arguments.device)
    columns: list[dict[str, Any]] = []
    missed = False
    for column, machine in choose_columns(arguments):
        title = f"{column.title}, {column.mode}"
        figures: dict[str, Any] = {"column": column.title, "mode": column.mode, "dtype": machine.dtype}
        columns.append(figures | {"batch_size": column.settings.batch_size, "processes": []})
        found: list[Measured] = []
        for measured in measure_column(column, machine, arguments.repeats, arguments.seconds):
            found.append(measured)
            columns[-1]["processes"].append(measured.figures())
            print(f"{title}, process {len(found)}: {describe_process(measured)}", flush=True)
            write_report(arguments.output, about, {"columns": columns})
        if (spread := spread_of(found)) is not None:
            met = judge(column.mode, spread)
            missed = missed or not all(met.values())
            columns[-1] |= spread.figures() | {"met": met}
            told = "" if not met else "; " + ", ".join(f"{bar} {'met' if met[bar] else 'MISSED'}" for bar in met)
            print(f"{title}: {spread.mean_j:.4g} J/image, range {spread.range:.2%}{told}", flush=True)
            write_report(arguments.output, about, {"columns": columns})
    return int(missed)


if __name__ == "__main__":
    end_script(__file__, main)
