"""Times the stages of a call and each call of their networks, against the latency of the same call unwatched.

    WEIGHTS=random MODE=eager,compiled python scripts/measuring/measure_stages.py
    python scripts/measuring/measure_stages.py --tiny

Models, modes, weights, sizes and batch size are set as for run_inference.py. Unwatched calls are timed before the
watched ones and after them. A call of VAR's and Infinity's backbone is a scale.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from itertools import islice
from statistics import fmean
from typing import Any

from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.measure.findings import Stages, StageTime
from benchmark.measure.machine import choose_machine
from benchmark.measure.stages import time_stages
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS, Settings
from benchmark.settings.runtime import runtime_of
from models.base import ImageGenerator, Request
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

WARMUPS, TIMED = 3, 3


def robot_requests(count: int, seed: int) -> list[Request]:
    """Return as many requests for robots, each with its class."""
    rows = islice(Robots(ASSETS, seed).examples(), count)
    return [Request(index, row.caption, seed + index, row.label) for index, row in enumerate(rows)]


def measure_stages(generator: ImageGenerator, requests: list[Request], clock: Clock, most_calls: int) -> Stages:
    """Return the stages of a few watched calls, between as many that are not watched."""
    prepared = generator.prepare(requests)
    for _ in range(WARMUPS):
        generator.generate(prepared)
    timed_s = [clock.time(lambda: generator.generate(prepared))[1] for _ in range(TIMED)]
    return time_stages(generator, prepared, clock, fmean(timed_s), most_calls=most_calls)


def measure_column(column: Column, settings: Settings, repeats: int) -> dict[str, Any]:
    """Load a column's model, and return its stages and their sum over the latency."""
    machine = choose_machine(settings.device, settings.dtype)
    clock = Clock(machine.device)
    clock.release_memory()
    labels = Robots(ASSETS, settings.seed).label_names
    generator = column.model.family.load(column.model.options, runtime_of(settings, column.mode, machine, labels))
    found = measure_stages(generator, robot_requests(settings.batch_size, settings.seed), clock, repeats)
    return {"column": column.title, "dtype": machine.dtype, **asdict(found), "ratio": found.ratio}


def main() -> int:
    """Measure every column that the settings name; return the exit status."""
    repeated = "watched calls at most, and as many that are not watched"
    parser = open_parser(__file__, __doc__, repeats=25, repeated=repeated)
    arguments = parser.parse_args()
    given = ["--weights", "tiny", "--warmup", "0"] if arguments.tiny else []
    settings = parse_command([*given, "--dataset", "robots"], os.environ).settings
    about = describe_run(__file__, settings.device)
    figures: dict[str, Any] = {"columns": []}
    for column in plan_columns(settings, choose_models(settings, "Robots", print)):
        found = measure_column(column, column.settings, arguments.repeats)
        figures["columns"].append(found)
        print(describe(column.title, found), flush=True)
        write_report(arguments.output, about, figures)
    return 0


def describe(title: str, found: dict[str, Any]) -> str:
    """Return a column's figures as text, those of each call of a stage's networks on a line of their own."""
    stages = [StageTime(**stage) for stage in found["stages"]]
    parts = [f"{stage.name} {stage.seconds * 1e3:.2f} ms" for stage in stages]
    lines = [
        f"{title}: {found['unwatched_seconds'] * 1e3:.2f} ms; {', '.join(parts)}; sum / latency {found['ratio']:.3f}"
    ]
    for stage in stages:
        if stage.calls > 1:
            each = " ".join(f"{seconds * 1e3:.2f}" for seconds in stage.call_seconds) or "not the same in each call"
            lines.append(f"  {stage.name}, {stage.calls} calls, ms: {each}")
    return "\n".join(lines)


if __name__ == "__main__":
    end_script(__file__, main)
