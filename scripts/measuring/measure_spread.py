"""Measures how far apart processes are that time the same model: workers of one fork server, and of their own ones.

    python scripts/measuring/measure_spread.py --models sdxl,var,pixart,infinity --weights tiny
    python scripts/measuring/measure_spread.py --models var-d16 --weights random --device cuda --mode eager,compiled

Both ways take turns, and who is first changes, so that a drift of the machine reaches both alike. Each worker loads,
warms up and times the same requests, as in a round of a run. Other settings are taken from the environment, as for
run_inference.py (IMAGE_SIZE, PIXART_STEPS, ...). With --seconds no worker begins that may end later than that.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.measure.machine import Machine
from benchmark.run import servers
from benchmark.run.columns import Column
from benchmark.run.journal import Journal
from benchmark.run.remote_progress import relay
from benchmark.run.slices import timed_slices
from benchmark.run.worker import Plan, RoundJob
from models.base import Request
from scripts.measuring.chosen_columns import SEED, add_column_flags, choose_columns, loader_of
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.measure_stages import robot_requests
from scripts.measuring.spreading import WAYS, spread_of, time_in_worker

LEAST_PROCESSES, LEAST_CALLS = 2, 2  # of which a spread can be told


def measure_spread(
    column: Column, machine: Machine, processes: int, calls: int, begins: Callable[[], bool], folder: Path
) -> Iterator[dict[str, Any]]:
    """Yield a column's figures after each pair of workers, one of either way.

    begins: is asked before each pair whether it may begin.
    """
    load = loader_of(column, machine)
    requests: tuple[Request, ...] = tuple(robot_requests(calls, SEED))
    plan = Plan(1, column.settings.warmup, machine.device)
    journals = {way: Journal(folder / way, {}) for way in WAYS}
    preload = servers.modules_for([column])
    progress = Progress()
    with servers.open_servers(1, preload) as [common], ExitStack() as held:
        for journal in journals.values():
            held.enter_context(journal.locked())
        common.is_ready(lambda: False)
        # Round 0 would write images.
        for number in range(1, processes + 1):
            if number > LEAST_PROCESSES and not begins():
                return
            for way in WAYS if number % 2 else WAYS[::-1]:
                job = RoundJob(load, requests, journals[way], plan, number, tuple(timed_slices(calls, 1)))
                work = partial(time_in_worker, job)
                with ExitStack() as own, relay(progress, f"{way} {number} of {processes}") as on_message:
                    server = common if way == "one_server" else own.enter_context(servers.open_servers(1, preload))[0]
                    server.run(work, on_message, lambda: False)
            if number >= LEAST_PROCESSES:
                yield {way: spread_of(journal.read().timed).figures() for way, journal in journals.items()}


def describe_spread(found: dict[str, Any]) -> str:
    """Return one line: how far apart processes are, in percent of their mean."""
    ways = [
        f"{way.replace('_', ' ')} {own['between_processes']:.2%} ({own['expected_from_calls']:.2%} expected from the "
        f"calls, largest / smallest {own['largest_over_smallest']:.3f})"
        for way, own in ((way, found[way]) for way in WAYS)
    ]
    return f"{found['column']}, {found['mode']}, {found['one_server']['processes']} processes: {'; '.join(ways)}"


def main(given: Sequence[str] | None = None) -> int:
    """Measure the spread of each column; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=10, repeated="processes of either way", device="cpu")
    add_column_flags(parser)
    parser.add_argument("--calls", type=int, default=25, help="timed calls of each process [%(default)s]")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin none that may end later, a column")
    arguments = parser.parse_args(given)
    if arguments.tiny:
        arguments.models, arguments.weights, arguments.repeats, arguments.calls = "var", "tiny", 2, 3
    if arguments.repeats < LEAST_PROCESSES or arguments.calls < LEAST_CALLS:
        parser.error(f"--repeats and --calls: expected {LEAST_PROCESSES} or more, of which a spread can be told")
    about = describe_run(__file__, arguments.device)
    columns: list[dict[str, Any]] = []
    for place, (column, machine) in enumerate(choose_columns(arguments)):
        columns.append({"column": column.title, "mode": column.mode, "dtype": machine.dtype, "calls": arguments.calls})
        with tempfile.TemporaryDirectory() as folder:
            clock = Clock("cpu")
            began, last, longest = clock.now(), clock.now(), 0.0

            def begins() -> bool:
                return bool(clock.now() - began + longest <= arguments.seconds)  # noqa: B023 (it is called in this turn)

            for figures in measure_spread(column, machine, arguments.repeats, arguments.calls, begins, Path(folder)):
                longest, last = max(longest, clock.now() - last), clock.now()
                columns[place] |= {**figures, "load_average_of_1_minute": os.getloadavg()[0]}
                write_report(arguments.output, about, {"columns": columns})
                print(describe_spread(columns[place]), flush=True)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
