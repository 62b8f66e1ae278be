"""Times the stages of a call: text encoder, backbone and decoder, against the latency of the same call unwatched.

    WEIGHTS=random MODE=eager,compiled python scripts/measuring/measure_stages.py
    python scripts/measuring/measure_stages.py --tiny

Models, modes, weights, sizes and batch size are set as for run_inference.py. Watched and unwatched calls take turns.
"""

from __future__ import annotations

import os
import statistics
from itertools import islice
from typing import Any

from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from benchmark.measure.stages import time_stages
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS, Settings
from benchmark.settings.runtime import runtime_of
from models.base import ImageGenerator, Request
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

WARMUPS = 3


def robot_requests(count: int, seed: int) -> list[Request]:
    """Return as many requests for robots, each with its class."""
    rows = islice(Robots(ASSETS, seed).examples(), count)
    return [Request(index, row.caption, seed + index, row.label) for index, row in enumerate(rows)]


def measure_stages(generator: ImageGenerator, requests: list[Request], clock: Clock, repeats: int) -> dict[str, Any]:
    """Return the medians of a call's latency and of its stages, and the ratio of the stages' sum to the latency."""
    prepared = generator.prepare(requests)
    for _ in range(WARMUPS):
        generator.generate(prepared)
    latencies_s, passes = [], []
    for _ in range(repeats):
        latencies_s.append(clock.time(lambda: generator.generate(prepared))[1])
        passes.append(time_stages(generator, prepared, clock))
    latency_s = statistics.median(latencies_s)
    stages: list[dict[str, Any]] = [
        {
            "name": stage.name,
            "seconds": statistics.median(times[place].seconds for times in passes),
            "calls": stage.calls,
        }
        for place, stage in enumerate(passes[0])
    ]
    return {"latency_s": latency_s, "stages": stages, "sum_ratio": sum(s["seconds"] for s in stages) / latency_s}


def measure_column(column: Column, settings: Settings, repeats: int) -> dict[str, Any]:
    """Load a column's model, and return its stages."""
    machine = choose_machine(settings.device, settings.dtype)
    clock = Clock(machine.device)
    clock.release_memory()
    labels = Robots(ASSETS, settings.seed).label_names
    generator = column.model.family.load(column.model.options, runtime_of(settings, column.mode, machine, labels))
    found = measure_stages(generator, robot_requests(settings.batch_size, settings.seed), clock, repeats)
    return {"column": column.title, "dtype": machine.dtype, "batch_size": settings.batch_size, **found}


def main() -> int:
    """Measure every column that the settings name; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=10, repeated="timed calls, and as many watched ones")
    arguments = parser.parse_args()
    given = ["--weights", "tiny", "--warmup", "0"] if arguments.tiny else []
    settings = parse_command([*given, "--dataset", "robots"], os.environ).settings
    about = describe_run(__file__, settings.device)
    figures: dict[str, Any] = {"columns": []}
    for column in plan_columns(settings, choose_models(settings, "Robots", print)):
        found = measure_column(column, column.settings, arguments.repeats)
        figures["columns"].append(found)
        stages = ", ".join(f"{stage['name']} {stage['seconds'] * 1e3:.2f} ms" for stage in found["stages"])
        latency = f"{found['latency_s'] * 1e3:.2f} ms"
        print(f"{column.title}: {latency}; {stages}; sum / latency {found['sum_ratio']:.2f}", flush=True)
        write_report(arguments.output, about, figures)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
