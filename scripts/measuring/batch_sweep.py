"""Latency, throughput, memory and energy over batch sizes, as a table and a plot.

    python scripts/measuring/batch_sweep.py --models var-d16,pixart --weights random --device cuda
    python scripts/measuring/batch_sweep.py --models sdxl,var --weights tiny --batch-sizes 1,2,4,8

Each batch size has a process of its own, which loads, warms up and times calls as a round of a run does, and then runs
the passes for memory and energy. A column ends with the first batch size that fails, for example since memory runs out.
Other settings are taken from the environment, as for run_inference.py (IMAGE_SIZE, PIXART_STEPS, ...). The plot is
written beside the figures, with the suffix .png.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.measure.findings import Energy, Memory, PassName
from benchmark.measure.machine import Machine
from benchmark.report.numbers import NO_VALUE
from benchmark.run import servers
from benchmark.run.columns import Column
from benchmark.run.journal import Journal
from benchmark.run.remote_progress import relay
from benchmark.run.slices import timed_slices
from benchmark.run.worker import Plan, RoundJob
from scripts.measuring.chosen_columns import SEED, add_column_flags, choose_columns, loader_of
from scripts.measuring.harness import describe_run, duration, end_script, open_parser, write_report
from scripts.measuring.measure_stages import robot_requests
from scripts.measuring.spreading import time_in_worker

PASSES: tuple[PassName, ...] = ("memory", "energy")
ROUND = 1  # round 0 would write images
HEADER = ("column", "batch size", "s/call", "s/image", "images/s", "tensors GB", "reserved GB", "J/image")
# What the panels of the plot show: title, field, and by what it is divided.
PANELS = (
    ("Seconds per call", "call_s", 1.0), ("Images per second", "images_per_s", 1.0),
    ("Peak memory of tensors, GB", "peak_tensor_bytes", 1e9), ("Energy, J/image", "joules_per_image", 1.0),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One column at one batch size. call_s: mean of the timed calls. reasons: by pass, why it found nothing."""

    column: str
    mode: str
    dtype: str
    batch_size: int
    calls: int
    call_s: float
    call_std_s: float | None
    images_per_s: float
    peak_tensor_bytes: int | None
    peak_reserved_bytes: int | None
    joules_per_image: float | None
    reasons: dict[str, str]


def sweep(column: Column, machine: Machine, sizes: Sequence[int], calls: int, seconds: float) -> Iterator[Point]:
    """Yield a column's figures at each batch size, ascending. seconds: no size begins that may end later.

    Raises:
        WorkerFailed, WorkerDied: this batch size cannot be measured.
    """
    load = loader_of(column, machine)
    preload, progress = servers.modules_for([column]), Progress()
    clock = Clock("cpu")
    began = last = clock.now()
    longest_s = 0.0
    with tempfile.TemporaryDirectory() as folder, servers.open_servers(1, preload) as [server]:
        for size in sorted(sizes):
            # Twice the images take up to twice the time.
            if clock.now() - began + 2 * longest_s > seconds:
                return
            journal = Journal(Path(folder) / str(size), {})
            requests = tuple(robot_requests(size * calls, SEED))
            plan = Plan(size, column.settings.warmup, machine.device, machine.dtype)
            slices = tuple(timed_slices(len(requests), size))
            job = RoundJob(load, requests, journal, plan, ROUND, slices, passes=PASSES)
            with ExitStack() as held:
                held.enter_context(journal.locked())
                on_message = held.enter_context(relay(progress, f"batch size {size}"))
                server.run(partial(time_in_worker, job), on_message, lambda: False)
            longest_s, last = clock.now() - last, clock.now()
            yield _point(column, machine, size, journal)


def _point(column: Column, machine: Machine, size: int, journal: Journal) -> Point:
    found = journal.read()
    taken_s = [call.seconds for call in found.timed]
    findings = {line.name: line.finding for line in found.measured}
    memory, energy = findings.get("memory"), findings.get("energy")
    mean_s = statistics.fmean(taken_s)
    return Point(
        column.title, column.mode, machine.dtype, size, len(taken_s), mean_s,
        statistics.stdev(taken_s) if len(taken_s) > 1 else None, size / mean_s,
        memory.peak_tensor_bytes if isinstance(memory, Memory) else None,
        memory.peak_reserved_bytes if isinstance(memory, Memory) else None,
        energy.joules_per_image if isinstance(energy, Energy) else None,
        {line.name: line.reason for line in found.measured if line.finding is None},
    )  # fmt: skip


def row_of(point: Point) -> tuple[str, ...]:
    """Return a row of the table, as `HEADER` names its cells."""

    def cell(value: float | None, unit: float = 1.0, digits: int = 4) -> str:
        return NO_VALUE if value is None else f"{value / unit:.{digits}g}"

    return (
        point.column, str(point.batch_size), cell(point.call_s), cell(point.call_s / point.batch_size),
        cell(point.images_per_s), cell(point.peak_tensor_bytes, 1e9, 3), cell(point.peak_reserved_bytes, 1e9, 3),
        cell(point.joules_per_image, digits=3),
    )  # fmt: skip


def reasons_of(points: Sequence[Point]) -> list[str]:
    """Return a line for each reason why passes found nothing: by pass, then in the order of the columns."""
    columns: dict[tuple[str, str], dict[str, None]] = {}
    for name in PASSES:
        for point in points:
            if name in point.reasons:
                columns.setdefault((name, point.reasons[name]), {})[point.column] = None
    return [f"no {name} ({', '.join(names)}): {reason}" for (name, reason), names in columns.items()]


def write_plot(points: Sequence[Point], about: dict[str, Any], path: Path) -> None:
    """Draw a panel for each figure that was measured, with a line for each column."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    panels = [panel for panel in PANELS if any(getattr(point, panel[1]) is not None for point in points)]
    figure, axes = pyplot.subplots(1, len(panels), figsize=(4.2 * len(panels), 3.8), squeeze=False)
    sizes = sorted({point.batch_size for point in points})
    for axis, (title, field, unit) in zip(axes[0], panels, strict=True):
        for column in dict.fromkeys(point.column for point in points):
            of_column = [each for each in points if each.column == column and getattr(each, field) is not None]
            values = [getattr(each, field) / unit for each in of_column]
            axis.plot([each.batch_size for each in of_column], values, marker="o", label=column)
        axis.set_xscale("log", base=2)
        axis.set_xticks(sizes, [str(size) for size in sizes])
        axis.set_ylim(bottom=0)
        axis.set_title(title)
        axis.set_xlabel("batch size")
        axis.grid(alpha=0.3)
    axes[0][0].legend()
    figure.suptitle(f"{about['device']}, {points[0].dtype}, {about['date']}", fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(part) for part in text.split(",") if part.strip().isdecimal())
    if len(sizes) != len(text.split(",")) or not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected numbers from 1 on, with commas")
    return tuple(sorted(set(sizes)))


def main(given: Sequence[str] | None = None) -> int:
    """Measure every column at every batch size; return the exit status: 1 where a column has no figure at all."""
    parser = open_parser(__file__, __doc__, device="auto")
    add_column_flags(parser)
    parser.add_argument("--batch-sizes", type=_sizes, default=(1, 2, 4, 8, 16, 32), help="[1,2,4,8,16,32]")
    parser.add_argument("--calls", type=int, default=10, help="timed calls at each batch size [%(default)s]")
    parser.add_argument(
        "--seconds", type=duration, default=math.inf,
        help="for each column, start no batch size that may end later than this [no limit]",
    )  # fmt: skip
    arguments = parser.parse_args(given)
    if arguments.tiny:
        arguments.models, arguments.weights, arguments.batch_sizes, arguments.calls = "var", "tiny", (1, 2), 2
        arguments.device = "cpu"
    if arguments.calls < 1:
        parser.error(f"--calls {arguments.calls}: expected 1 or more")
    plot = arguments.output.with_suffix(".png")
    if plot == arguments.output:
        parser.error(f"--output {plot}: the plot goes there; name the file of the figures, for example .json")
    about = describe_run(__file__, arguments.device)
    points: list[Point] = []
    failed: dict[str, str] = {}
    print(" | ".join(HEADER))
    for column, machine in choose_columns(arguments):
        before = len(points)
        try:
            for point in sweep(column, machine, arguments.batch_sizes, arguments.calls, arguments.seconds):
                points.append(point)
                print(" | ".join(row_of(point)), flush=True)
                write_report(arguments.output, about, {"points": list(map(asdict, points)), "failed": failed})
        except (servers.WorkerFailed, servers.WorkerDied) as error:
            failed[column.title] = str(error)
            larger = "larger " if len(points) > before else ""
            print(f"{column.title}: no {larger}batch size: {error}", flush=True)
        else:
            if len(points) == before:
                failed[column.title] = "no time for any batch size"
                print(f"{column.title}: {failed[column.title]}", flush=True)
    for line in reasons_of(points):
        print(line)
    write_report(arguments.output, about, {"points": list(map(asdict, points)), "failed": failed})
    if not points:
        return 1
    write_plot(points, about, plot)
    print(f"plot: {plot}")
    return 0 if {point.column for point in points} >= set(failed) else 1


if __name__ == "__main__":
    end_script(__file__, main)
