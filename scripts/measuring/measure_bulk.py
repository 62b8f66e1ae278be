"""Measures bulk: images/s at every batch size and at the one that `auto` finds, hours for 10,000 images, and whether
the images are those of batch size 1.

    python scripts/measuring/measure_bulk.py --models var-d16,pixart --weights random --seconds 60
    python scripts/measuring/measure_bulk.py --models sdxl,var,pixart,infinity --weights tiny --compare 64

Other settings are taken from the environment, as for run_inference.py (IMAGE_SIZE, PIXART_STEPS, ...). --seconds
bounds what a column's speed takes: a quarter at batch size 1, a half in bulk, a quarter at fixed sizes. Loading, the
search for a batch size and the calls in flight come on top; what is cut off is left out of the figures. --compare makes
images at batch size 1 and in bulk, in float32 and in bfloat16, and scores both: for --weights tiny.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.console.progress import Progress
from benchmark.data.preparation import prepare_reference
from benchmark.data.sources import open_dataset
from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.measure.machine import Machine, choose_machine
from benchmark.measure.out_of_memory import is_out_of_memory
from benchmark.run.bulk import BulkJob, make_bulk
from benchmark.run.column_folder import IMAGES_NAME
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.journal import Journal
from benchmark.run.worker import Plan, RoundJob, time_round
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import ASSETS
from benchmark.settings.runtime import runtime_of
from files.images import read_rgb
from metrics import METRICS
from metrics.base import Comparison, ImageSet, Scoring
from models.base import ImageGenerator, Request
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.measure_stages import robot_requests

RUN_IMAGES, RUN_ROUNDS, TIMED = 10_000, 4, 25  # of the command in README
CALLS = 3  # timed ones of each fixed size, where the time allows it
DTYPES = ("float32", "bfloat16")
SEED = 42


@dataclass(frozen=True)
class Speed:
    """What a column's seconds were.

    load_s, warm_s: of one process. alone_image_s: an image at batch size 1. search_s: until bulk's batch size was
    known. loop_s: wall time of the `images` of bulk, their files included.
    """

    load_s: float
    warm_s: float
    alone_image_s: float
    search_s: float
    images: int
    loop_s: float

    def hours(self) -> dict[str, float]:
        """Return the hours of 10,000 images: all at batch size 1 in one process, and by rounds and bulk."""
        before_s = self.load_s + self.warm_s + RUN_IMAGES * self.alone_image_s
        rounds_s = RUN_ROUNDS * (self.load_s + self.warm_s + TIMED * self.alone_image_s)
        bulk_s = self.load_s + self.search_s + (RUN_IMAGES - TIMED) * self.loop_s / self.images
        return {"before": before_s / 3600, "after": (rounds_s + bulk_s) / 3600}


class Subject:
    """A column's model, loaded once and used by all measurements."""

    def __init__(self, column: Column, machine: Machine, count: int) -> None:
        self.column, self.machine, self.clock = column, machine, Clock(machine.device)
        self.requests: tuple[Request, ...] = tuple(robot_requests(count, SEED))
        family, options = column.model.family, column.model.options
        runtime = runtime_of(column.settings, column.mode, machine, Robots(ASSETS, SEED).label_names)
        self.clock.release_memory()
        self.generator, self.load_s = self.clock.time(lambda: family.load(options, runtime))
        eager = replace(runtime, mode="eager")
        self.load: Callable[[], ImageGenerator] = lambda: self.generator
        self.load_eager = self.load if eager == runtime else partial(family.load, options, eager)

    def bulk_job(self, folder: Path, start: int, asked: int | None) -> BulkJob:
        return BulkJob(
            load=self.load, load_eager=self.load_eager, requests=self.requests, journal=Journal(folder, {}),
            plan=Plan(1, 0, self.machine.device), asked=asked, sizes=(), covered=frozenset(), start=start,
            count=len(self.requests),
        )  # fmt: skip

    def stopping(self, seconds: float, folder: Path | None = None) -> Callable[[], bool]:
        """Return what says that so many seconds are over, and that there is an image in the folder of a journal."""
        end = self.clock.now() + seconds
        return lambda: self.clock.now() >= end and (folder is None or (folder / IMAGES_NAME).is_dir())


def measure_speed(subject: Subject, sizes: Sequence[int], seconds: float, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the figures so far of a column's speed, more of them each time."""
    alone = _time_alone(subject, seconds / 4, folder / "alone")
    found: dict[str, Any] = {"load_s": subject.load_s, "alone": alone}
    yield found
    bulk = _time_bulk(subject, seconds / 2, folder / "bulk")
    found["bulk"], found["bulk_over_alone"] = bulk, bulk["images_per_s"] / alone["images_per_s"]
    speed = Speed(
        subject.load_s, alone["warm_s"], 1 / alone["images_per_s"], bulk["search_s"], bulk["images"], bulk["loop_s"]
    )
    found["hours_for_10000"] = speed.hours()
    yield found
    chosen = bulk["batch_size"]
    found["fixed"] = []
    for row in _time_sizes(subject, [1, *sorted(sizes, key=lambda size: abs(np.log2(size / chosen)))], seconds / 4):
        found["fixed"].append(row)
        rates = {each["batch_size"]: each["images_per_s"] for each in found["fixed"]}
        if chosen in rates:
            found["auto_over_1"], found["auto_over_best"] = (
                rates[chosen] / rates[1], rates[chosen] / max(rates.values())
            )  # fmt: skip
        yield found


def _time_alone(subject: Subject, seconds: float, folder: Path) -> dict[str, Any]:
    journal = Journal(folder, {})
    slices = tuple(range(index, index + 1) for index in range(len(subject.requests)))
    plan = Plan(1, subject.column.settings.warmup, subject.machine.device)
    job = RoundJob(subject.load, subject.requests, journal, plan, 0, slices)
    with journal.locked():
        time_round(job, Progress(), subject.stopping(seconds, folder))
    found = journal.read()
    timed_s = sum(call.seconds for call in found.timed)
    return {
        "images": len(found.timed), "images_per_s": len(found.timed) / timed_s, "warm_s": found.processes[0].warmup_s,
        "warmup_agreed": found.processes[0].warmup_agreed,
    }  # fmt: skip


def _time_bulk(subject: Subject, seconds: float, folder: Path) -> dict[str, Any]:
    job = subject.bulk_job(folder, min(TIMED, len(subject.requests) // 4), asked=None)
    with job.journal.locked():
        _, wall_s = subject.clock.time(lambda: make_bulk(job, Progress(), subject.stopping(seconds, folder)))
    found = job.journal.read()
    full = [batch for batch in found.batches if batch.size == batch.batch_size]
    loop_s = found.finished[0].loop_s
    return {
        "batch_size": found.bulk_sizes[-1].size,
        "trials": [trial for size in found.bulk_sizes for trial in size.trials],
        "search_s": wall_s - loop_s, "loop_s": loop_s, "images": sum(batch.size for batch in found.batches),
        "images_per_s": sum(batch.size for batch in full) / sum(batch.seconds for batch in full),
    }  # fmt: skip


def _time_sizes(subject: Subject, sizes: Sequence[int], seconds: float) -> Iterator[dict[str, Any]]:
    """Yield the images/s of each batch size until the time is over, or memory is."""
    generator, clock, stopped = subject.generator, subject.clock, subject.stopping(seconds)
    prepared = generator.prepare(subject.requests)
    too_large = float("inf")
    for size in dict.fromkeys(sizes):
        if stopped():
            return
        if size > len(prepared) or size >= too_large:
            continue
        asked = prepared[:size]
        try:
            generator.generate(asked)
            calls_s = [clock.time(lambda asked=asked: generator.generate(asked))[1]]  # type: ignore[misc]
            while len(calls_s) < CALLS and not stopped():
                calls_s.append(clock.time(lambda asked=asked: generator.generate(asked))[1])  # type: ignore[misc]
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            too_large, calls_s = size, []
        if not calls_s:
            clock.release_memory()
        rate = size / float(np.median(calls_s)) if calls_s else 0.0  # 0: memory ran out
        yield {"batch_size": size, "images_per_s": rate, "calls": len(calls_s)}


def compare_images(subject: Subject, batch_size: int, reference: ImageSet, folder: Path) -> dict[str, Any]:
    """Return how the images of bulk differ from those of batch size 1, and how both score."""
    paths: dict[int, tuple[Path, ...]] = {}
    for size in (1, batch_size):
        job = subject.bulk_job(folder / str(size), 0, asked=size)
        with job.journal.locked():
            make_bulk(job, Progress())
        paths[size] = tuple(job.journal.image_path(index) for index in range(len(subject.requests)))
    differences = [
        np.abs(np.asarray(read_rgb(one), np.int16) - np.asarray(read_rgb(other), np.int16))
        for one, other in zip(paths[1], paths[batch_size], strict=True)
    ]
    scoring = Scoring(subject.machine.device, ASSETS, folder / "cache")
    scores = {
        size: {
            score.short: score.value
            for metric in ("fid", "kid")
            for score in METRICS[metric](scoring).score(Comparison(ImageSet(f"batch {size}", files), reference))
        }
        for size, files in paths.items()
    }
    return {
        "batch_size": batch_size, "images": len(differences),
        "share_that_differs": float(np.mean([difference.any() for difference in differences])),
        "largest_of_255": max(int(difference.max()) for difference in differences),
        "mean_of_255": float(np.mean([difference.mean() for difference in differences])), "scores": scores,
    }  # fmt: skip


def measure_speeds(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield what is known of the speed of each column, again whenever there is more."""
    for place, (column, machine) in enumerate(_columns(arguments, arguments.mode, "auto")):
        subject = Subject(column, machine, arguments.images)
        for found in measure_speed(subject, arguments.sizes, arguments.seconds, folder / str(place)):
            yield {"column": column.title, "mode": column.mode, "dtype": machine.dtype, **found}


def measure_differences(arguments: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield how the images of each model differ, in float32 and in bfloat16."""
    dataset = open_dataset("robots", assets=ASSETS, seed=SEED)
    count = max(2 * arguments.compare, 16)
    reference = prepare_reference(dataset, folder / "reference", count).images(count)
    for dtype in DTYPES:
        for column, machine in _columns(arguments, "eager", dtype):
            subject = Subject(column, machine, arguments.compare)
            place = folder / dtype / column.key.family
            found = compare_images(subject, arguments.compare_size, reference, place)
            yield {"column": column.title, "dtype": dtype, **found}


def _columns(arguments: argparse.Namespace, mode: str, dtype: str) -> Iterator[tuple[Column, Machine]]:
    given = ["--models", arguments.models, "--mode", mode, "--weights", arguments.weights, "--dataset", "robots"]
    settings = parse_command([*given, "--device", arguments.device, "--dtype", dtype], os.environ).settings
    machine = choose_machine(settings.device, settings.dtype)
    for column in plan_columns(settings, choose_models(settings, "Robots", print)):
        yield column, machine


def describe_speed(found: dict[str, Any]) -> str:
    """Return a line on what was measured last."""
    title = f"{found['column']}, {found['mode']}, {found['dtype']}:"
    if found.get("fixed"):
        last = found["fixed"][-1]
        ratios = [f"{name} {found[name]:.2f}" for name in ("auto_over_1", "auto_over_best") if name in found]
        return f"{title} batch size {last['batch_size']}: {last['images_per_s']:.4g} images/s; {', '.join(ratios)}"
    if "bulk" not in found:
        return f"{title} {found['alone']['images_per_s']:.4g} images/s alone ({found['alone']['images']} images)"
    bulk, hours = found["bulk"], found["hours_for_10000"]
    return (
        f"{title} auto found {bulk['batch_size']} in {bulk['search_s']:.1f} s: {bulk['images_per_s']:.4g} images/s in "
        f"bulk, {found['bulk_over_alone']:.2f} times those alone; 10,000 images: {hours['before']:.3g} h before, "
        f"{hours['after']:.3g} h after"
    )


def describe_difference(found: dict[str, Any]) -> str:
    """Return a line on a comparison of images."""
    alone, bulk = found["scores"][1], found["scores"][found["batch_size"]]
    scores = ", ".join(f"{name} {alone[name]:.4g} alone and {bulk[name]:.4g} in bulk" for name in alone)
    return (
        f"{found['column']}, {found['dtype']}: {found['share_that_differs']:.0%} of {found['images']} images differ at "
        f"batch size {found['batch_size']}, by {found['largest_of_255']} of 255 at most and "
        f"{found['mean_of_255']:.3g} in the mean; {scores}"
    )


def main(given: Sequence[str] | None = None) -> int:
    """Measure every column that is asked for; return the exit status."""
    parser = open_parser(__file__, __doc__, device="auto")
    parser.add_argument("--models", default="sdxl,var,pixart,infinity", help="as MODELS [%(default)s]")
    parser.add_argument("--mode", default="eager", help="eager, compiled or both by a comma [%(default)s]")
    parser.add_argument("--weights", default="tiny", help="tiny, random or pretrained [%(default)s]")
    parser.add_argument("--sizes", type=_sizes, default="1,2,4,8,16,32,64", help="fixed batch sizes [%(default)s]")
    parser.add_argument("--seconds", type=float, default=60.0, help="for a column's speed; 0: none [%(default)s]")
    parser.add_argument("--images", type=int, default=400, help="most images of bulk and at size 1 [%(default)s]")
    parser.add_argument("--compare", type=int, default=0, help="images to compare and score, 0: none [%(default)s]")
    parser.add_argument("--compare-size", type=int, default=16, help="batch size of these [%(default)s]")
    arguments = parser.parse_args(given)
    if arguments.tiny:
        tiny = {"models": "var", "weights": "tiny", "sizes": [1, 2], "seconds": 2.0, "images": 12, "compare": 4}
        vars(arguments).update(tiny | {"compare_size": 2, "device": "cpu"})
    if min(arguments.images, arguments.compare or 4) < 4:
        parser.error("--images and --compare need 4 or more")
    about = describe_run(__file__, arguments.device)
    speeds: dict[tuple[str, str], dict[str, Any]] = {}
    differences: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for found in measure_speeds(arguments, Path(folder)) if arguments.seconds else ():
            speeds[found["column"], found["mode"]] = found
            print(describe_speed(found), flush=True)
            write_report(arguments.output, about, {"speeds": list(speeds.values()), "differences": differences})
        for found in measure_differences(arguments, Path(folder)) if arguments.compare else ():
            differences.append(found)
            print(describe_difference(found), flush=True)
            write_report(arguments.output, about, {"speeds": list(speeds.values()), "differences": differences})
    return 0


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",")]


if __name__ == "__main__":
    end_script(__file__, main)
