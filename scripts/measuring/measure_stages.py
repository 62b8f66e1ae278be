"""Times the stages of a call and each call of their networks, against the latency of the same call unwatched.

    WEIGHTS=random MODE=compiled python scripts/measuring/measure_stages.py
    WEIGHTS=random MODE=eager python scripts/measuring/measure_stages.py --seconds 28 --repeats 200
    python scripts/measuring/measure_stages.py --tiny

Models, modes, weights, sizes and batch size are set as for run_inference.py. Unwatched calls are timed before the
watched ones and after them, as in a run. With --seconds, watched and unwatched calls take turns one by one for so long:
a sum over a latency that is more exact than a run's where calls differ from each other by much. A call of VAR's and
Infinity's backbone is a scale.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from statistics import fmean, median, stdev
from typing import Any

from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.measure.findings import Stages, StageTime
from benchmark.measure.machine import choose_machine
from benchmark.measure.stages import Timeline, WatchedCall, summarize_stages, time_stages
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS, Settings
from benchmark.settings.runtime import runtime_of
from models.base import ImageGenerator, Mode, Request
from scripts.measuring.harness import describe_run, duration, end_script, open_parser, write_report

WARMUPS, TIMED = 3, 3
LEAST_TURNS = 3  # of which a standard error can be told


def robot_requests(count: int, seed: int) -> list[Request]:
    """Return as many requests for robots, each with its class."""
    rows = islice(Robots(ASSETS, seed).examples(), count)
    return [Request(index, row.caption, seed + index, row.label) for index, row in enumerate(rows)]


@dataclass(frozen=True)
class Turns:
    """Seconds of watched calls, as the sum of their stages, and of as many that were not watched, in pairs."""

    stages: Stages
    sums_s: tuple[float, ...]
    unwatched_s: tuple[float, ...]

    @property
    def ratio_error(self) -> float:
        """Standard error of the ratio of both means: pairs are neighbours, so that what drifts cancels."""
        ratio = fmean(self.sums_s) / fmean(self.unwatched_s)
        rests_s = [watched - ratio * plain for watched, plain in zip(self.sums_s, self.unwatched_s, strict=True)]
        return stdev(rests_s) / math.sqrt(len(rests_s)) / fmean(self.unwatched_s)

    @property
    def ratio_of_medians(self) -> float:
        """The same ratio, of medians: a few calls that the host delays do not move it."""
        return median(self.sums_s) / median(self.unwatched_s)


def take_turns(
    generator: ImageGenerator, prepared: Sequence[Request], clock: Clock, timed_s: float, seconds: float, most: int,
    mode: Mode,
) -> Turns:  # fmt: skip
    """Watch every other call for `seconds`, or until `most` are watched; pairs begin with either kind in turn."""
    timeline = Timeline(clock)
    watched: list[WatchedCall] = []
    unwatched_s: list[float] = []

    def watch() -> None:
        with generator.watched(timeline):
            # A program that is one graph is captured anew whenever it begins to be watched.
            for _ in range(1 if mode == "eager" else 2):
                timeline.start()
                generator.generate(prepared)
                timeline.stop()
                generator.check()
        watched.append(timeline.read())

    def leave_alone() -> None:
        unwatched_s.append(clock.time(lambda: generator.generate(prepared))[1])
        generator.check()

    end = clock.now() + seconds
    while len(watched) < most and (clock.now() < end or len(watched) < LEAST_TURNS):
        for call in (watch, leave_alone) if len(watched) % 2 == 0 else (leave_alone, watch):
            call()
    stages = summarize_stages(generator.stages(), watched, unwatched_s, timed_s, len(prepared))
    return Turns(stages, tuple(sum(call.stage_seconds.values()) for call in watched), tuple(unwatched_s))


def measure_column(column: Column, settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """Load a column's model, and return its stages and their sum over the latency."""
    machine = choose_machine(settings.device, settings.dtype)
    clock = Clock(machine.device)
    clock.release_memory()
    labels = Robots(ASSETS, settings.seed).label_names
    generator = column.model.family.load(column.model.options, runtime_of(settings, column.mode, machine, labels))
    prepared = generator.prepare(robot_requests(settings.batch_size, settings.seed))
    for _ in range(WARMUPS):
        generator.generate(prepared)
    timed_s = fmean(clock.time(lambda: generator.generate(prepared))[1] for _ in range(TIMED))
    about = {"column": column.title, "dtype": machine.dtype}
    if arguments.seconds is None:
        found = time_stages(generator, prepared, clock, timed_s, most_calls=arguments.repeats)
        return about | asdict(found) | {"ratio": found.ratio}
    turns = take_turns(generator, prepared, clock, timed_s, arguments.seconds, arguments.repeats, column.mode)
    return about | asdict(turns.stages) | {
        "ratio": turns.stages.ratio, "ratio_error": turns.ratio_error, "ratio_of_medians": turns.ratio_of_medians,
        "sums_s": turns.sums_s, "unwatched_s": turns.unwatched_s,
    }  # fmt: skip


def main() -> int:
    """Measure every column that the settings name; return the exit status."""
    repeated = "watched calls at most, and as many that are not watched"
    parser = open_parser(__file__, __doc__, repeats=25, repeated=repeated)
    parser.add_argument(
        "--seconds", type=duration, help="let watched and unwatched calls take turns one by one, for so long"
    )
    arguments = parser.parse_args()
    given = ["--weights", "tiny", "--warmup", "0"] if arguments.tiny else []
    settings = parse_command([*given, "--dataset", "robots"], os.environ).settings
    about = describe_run(__file__, settings.device)
    figures: dict[str, Any] = {"columns": []}
    for column in plan_columns(settings, choose_models(settings, "Robots", print)):
        found = measure_column(column, column.settings, arguments)
        figures["columns"].append(found)
        print(describe(column.title, found), flush=True)
        write_report(arguments.output, about, figures)
    return 0


def describe(title: str, found: dict[str, Any]) -> str:
    """Return a column's figures as text, those of each call of a stage's networks on a line of their own."""
    stages = [StageTime(**stage) for stage in found["stages"]]
    parts = [f"{stage.name} {stage.seconds * 1e3:.2f} ms" for stage in stages]
    ratio = f"{found['ratio']:.3f}"
    if "ratio_error" in found:
        ratio += (
            f" +- {found['ratio_error']:.3f}, of medians {found['ratio_of_medians']:.3f} "
            f"({found['watched_calls']} calls each)"
        )
    lines = [f"{title}: {found['unwatched_seconds'] * 1e3:.2f} ms; {', '.join(parts)}; sum / latency {ratio}"]
    for stage in stages:
        if stage.calls > 1:
            each = " ".join(f"{seconds * 1e3:.2f}" for seconds in stage.call_seconds) or "not the same in each call"
            lines.append(f"  {stage.name}, {stage.calls} calls, ms: {each}")
    return "\n".join(lines)


if __name__ == "__main__":
    end_script(__file__, main)
