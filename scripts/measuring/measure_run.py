"""Measures the run itself with the embedded models on this machine: demo, overhead, resume after kills, batch sizes.

    python scripts/measuring/measure_run.py                     # everything, some minutes
    python scripts/measuring/measure_run.py overhead batches    # only these

Prints one line for each figure with its bar, writes them as JSON with --output, and exits with 1 if a bar is missed.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.measure.clock import Clock
from files.images import read_rgb
from scripts.measuring.harness import ROOT, describe_run, end_script, open_parser, write_report

CLOCK = Clock("cpu")  # the runs are processes of their own
COLUMNS = ("SDXL", "VAR", "PixArt", "Infinity")
DEMO_SECONDS = 60  # four models, four rounds, on two cores
BATCH_SIZES = (1, 3, 8)


@dataclass(frozen=True)
class Sizes:
    """How many images each run makes of a model, and how many runs are killed."""

    kills: int
    samples: int = 16
    kill_samples: int = 24
    batch_samples: int = 8


@dataclass(frozen=True)
class Figure:
    """One measured figure with its bar; `met` says whether it is on the right side of it."""

    name: str
    value: float
    unit: str
    bar: float
    met: bool

    def __str__(self) -> str:
        return f"{self.name:<62} {self.value:>9.3f} {self.unit:<8} bar {self.bar:g}: {'met' if self.met else 'MISSED'}"


def start_run(folder: Path, **settings: object) -> subprocess.Popen[bytes]:
    """Start the benchmark with the embedded models, writing into `folder`; its output is thrown away."""
    variables = {"WEIGHTS": "tiny", "OUTPUT_DIR": str(folder)} | {name: str(value) for name, value in settings.items()}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "run_inference.py")],
        cwd=ROOT, env=os.environ | variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def finish_run(folder: Path, **settings: object) -> None:
    status = start_run(folder, **settings).wait()
    if status:
        raise RuntimeError(f"the benchmark exited with {status}; run it by hand with WEIGHTS=tiny to see why")


def journal_lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the journal's lines of one kind, of every model under `folder`, with the model's folder in each."""
    lines = [
        {"model": path.parent.name, **json.loads(line)}
        for path in sorted(folder.glob("*/timings.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [line for line in lines if line["kind"] == kind]


def images_of(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in sorted(folder.glob("*/output/*.png"))}


def measure_demo(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """What `make demo` does after its install: wall time, and the highest resident memory of any child."""
    _, seconds = CLOCK.time(lambda: finish_run(folder / "demo", NUM_SAMPLES=sizes.samples))
    peak_gb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    name = f"demo, {sizes.samples} images from each model, wall"
    yield Figure(name, seconds, "s", DEMO_SECONDS, seconds < DEMO_SECONDS)
    yield Figure("demo, peak resident memory of its largest process", peak_gb, "GB", 4, peak_gb < 4)


def measure_overhead(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """Wall time of the timed loops of all rounds over the sum of their timed seconds, batch size 1."""
    finish_run(folder / "overhead", NUM_SAMPLES=sizes.samples, METRICS="fidelity", NUM_REFERENCES=2)
    lines = [line for line in journal_lines(folder / "overhead", "finished") if line["purpose"] == "timed"]
    ratio = sum(line["loop_s"] for line in lines) / sum(line["timed_s"] for line in lines)
    yield Figure("rounds, wall of the timed loops / timed seconds, batch 1", ratio, "x", 1.05, ratio <= 1.05)


def measure_resume(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """Kill -9 at random moments, run again each time, and compare with an undisturbed run byte for byte.

    A kill costs the call in flight: one whose time is recorded and whose images are not is made again.
    """
    samples = sizes.kill_samples
    timed, rounds, timed_size, bulk_size = samples // 2, 2, 3, 4
    settings = {
        "NUM_SAMPLES": samples, "TIMED_SAMPLES": timed, "ROUNDS": rounds, "BATCH_SIZE": timed_size,
        "BULK_BATCH_SIZE": bulk_size, "WARMUP": 0, "METRICS": "fidelity", "NUM_REFERENCES": samples,
    }  # fmt: skip
    _, whole_s = CLOCK.time(lambda: finish_run(folder / "undisturbed", **settings))
    killed, moments = folder / "killed", random.Random(20)
    for _ in range(sizes.kills):
        run = start_run(killed, **settings)
        try:
            run.wait(timeout=moments.uniform(0.2, 1.0) * whole_s)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
    finish_run(killed, **settings)
    before, after = images_of(folder / "undisturbed"), images_of(killed)
    differing = sum(name not in after or after[name].read_bytes() != path.read_bytes() for name, path in before.items())
    of_a_round, in_bulk = -(-timed // timed_size), -(-(samples - timed) // bulk_size)
    calls = [(line["model"], *line["indices"]) for line in journal_lines(killed, "batch")]
    calls += [(line["model"], "round", line["round"], *line["indices"]) for line in journal_lines(killed, "timed")]
    expected = len(COLUMNS) * ((1 + rounds) * of_a_round + in_bulk)
    repeated = len(calls) - len(set(calls))
    name = f"{sizes.kills} kills: images that differ from an undisturbed run"
    yield Figure(name, differing, "images", 0, differing == 0)
    yield Figure("calls made again", repeated, "calls", sizes.kills, repeated <= sizes.kills)
    missing = expected - len(set(calls))
    yield Figure("calls missing", missing, "calls", 0, missing == 0)


def measure_batches(folder: Path, sizes: Sizes) -> Iterator[Figure]:
    """The largest difference of any pixel between batch sizes, same seeds, float32."""
    for size in BATCH_SIZES:
        finish_run(
            folder / f"batch{size}", NUM_SAMPLES=sizes.batch_samples, BATCH_SIZE=size, WARMUP=0, METRICS="fidelity",
            NUM_REFERENCES=sizes.batch_samples, DTYPE="float32", DEVICE="cpu",
        )  # fmt: skip
    first = images_of(folder / f"batch{BATCH_SIZES[0]}")
    for size in BATCH_SIZES[1:]:
        other = images_of(folder / f"batch{size}")
        assert other.keys() == first.keys()
        worst = max(largest_difference(first[name], other[name]) for name in first)
        yield Figure(f"images at batch {size} against batch 1, largest difference", worst, "/255", 1, worst <= 1)


def largest_difference(one: Path, other: Path) -> int:
    return int(np.abs(np.asarray(read_rgb(one), np.int16) - np.asarray(read_rgb(other), np.int16)).max())


MEASUREMENTS: dict[str, Callable[[Path, Sizes], Iterator[Figure]]] = {
    "demo": measure_demo,
    "overhead": measure_overhead,
    "batches": measure_batches,
    "resume": measure_resume,
}


def main(given: Sequence[str] | None = None) -> int:
    """Measure what was asked; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=20, repeated="runs that are killed")
    parser.add_argument(
        "measurements", nargs="*", metavar="NAME", help=f"any of {', '.join(MEASUREMENTS)}; default all"
    )
    arguments = parser.parse_args(given)
    for name in arguments.measurements:
        if name not in MEASUREMENTS:
            parser.error(f"no measurement {name!r}; there are {', '.join(MEASUREMENTS)}")
    sizes = Sizes(min(arguments.repeats, 1), 2, 2, 2) if arguments.tiny else Sizes(arguments.repeats)
    about, figures = describe_run(__file__), []
    with tempfile.TemporaryDirectory() as folder:
        for name in arguments.measurements or MEASUREMENTS:
            for figure in MEASUREMENTS[name](Path(folder), sizes):
                print(figure, flush=True)
                figures.append(figure)
                write_report(arguments.output, about, {"figures": [asdict(one) for one in figures]})
    return 0 if all(figure.met for figure in figures) else 1


if __name__ == "__main__":
    end_script(__file__, main)
