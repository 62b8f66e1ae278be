"""Holds the verdicts on speed against what is known: equal columns have no winner, a planted slowdown is found.

    python -m scripts.measuring.check_verdicts --models var-d16 --weights random --device cuda --mode compiled --runs 8
    python -m scripts.measuring.check_verdicts --models pixart --weights tiny --columns A,P --slowdown 0.2

The same model is timed as two or more columns, by the program's own rounds: fork servers, the order of the columns
reversed from round to round, nothing shuffled. Two columns that are the same are an A/A comparison, in which any winner
is false. A column whose name begins with P waits inside its `generate()`; the first column must win against it. Each
comparison is decided by itself. With --seconds the script stops when another run might not fit; the file of figures is
written after each run. Exit status: 0, 1 where there are more false winners, or fewer slowdowns found, than there may
be.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmark.console.interruption import Stop
from benchmark.console.progress import Progress
from benchmark.data.run_data import Data, open_sources, prepare_data
from benchmark.measure.clock import Clock
from benchmark.measure.machine import Machine, choose_machine
from benchmark.report.model_result import ModelResult
from benchmark.report.verdicts import decide
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.jobs import Job, open_jobs
from benchmark.run.rounds import generate
from benchmark.run.summary import summarize
from benchmark.settings.fields import ASSETS, Settings, settings_class
from models.base import ImageGenerator
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.planted import load_slowed

PLANTED = "P"
COPY = "COPY"  # in a copy's key, beside the options of its model
# The rule names a winner among two equal columns in 4 % of first looks, and ROUNDS are chosen for a power of 97 %.
FALSE_RATE, POWER = 0.04, 0.97
# How seldom a rule that keeps to these rates would miss the bars.
RARE_FALSE, RARE_MISSED = 0.01, 0.05


@dataclass(frozen=True)
class Copy(Column):
    """One of several columns of the same model: with a title, a key and a fingerprint of its own."""

    copy: str = ""

    @property
    def resolved(self) -> dict[str, str]:
        return super().resolved | {COPY: self.copy}


@dataclass(frozen=True)
class Comparison:
    """What was decided of two columns of one run. planted: the second one was slowed down.

    ratio, interval: as the verdict says. round_means_s: the mean latency of each round, of both columns.
    seconds: of the whole run. load_average: of the machine's last minute, at its end.
    """

    model: str
    run: int
    columns: tuple[str, str]
    planted: bool
    outcome: str
    winner: str
    ratio: float | None
    interval: tuple[float, float] | None
    rule: str
    round_means_s: tuple[tuple[float, ...], tuple[float, ...]]
    seconds: float
    load_average: float

    @property
    def is_found(self) -> bool:
        """The first column won."""
        return self.outcome == "WIN" and self.winner.split()[-1] == self.columns[0]

    def __str__(self) -> str:
        kind = "planted" if self.planted else "A/A"
        interval = "no interval" if self.interval is None else f"{self.interval[0]:.4f}..{self.interval[1]:.4f}"
        ratio = "no ratio" if self.ratio is None else f"{self.ratio:.4f}"
        return (
            f"{self.model} run {self.run}, {' and '.join(self.columns)} ({kind}): {ratio}, {interval}: "
            f"{self.outcome}{self.winner and f', {self.winner}'} ({self.seconds:.1f} s, load {self.load_average:.1f})"
        )


def copies_of(column: Column, names: Sequence[str]) -> list[Copy]:
    """Return the column once for each name, each with a folder of its own."""
    fields = {field.name: getattr(column, field.name) for field in dataclasses.fields(Column)}
    return [
        Copy(**fields | {
            "title": f"{column.title} {name}", "name": f"{column.name} {name}", "copy": name,
            "key": dataclasses.replace(column.key, options={**column.key.options, COPY: name}),
        })
        for name in names
    ]  # fmt: skip


def pairs_of(names: Sequence[str]) -> list[tuple[str, str]]:
    """Return which columns are compared: the plain ones two by two, and the first with each planted one."""
    plain = [name for name in names if not name.startswith(PLANTED)]
    planted = [name for name in names if name.startswith(PLANTED)]
    return [*zip(plain[::2], plain[1::2], strict=False), *((plain[0], name) for name in planted)]


def time_columns(
    columns: Sequence[Copy], data: Data, machine: Machine, slowdown: float, progress: Progress
) -> dict[str, ModelResult]:
    """Time the columns in rounds, as a run does, and return their results by the columns' names.

    Raises:
        RuntimeError: a column could not be timed.
    """
    failures: dict[str, str] = {}
    jobs = open_jobs(columns, machine, data.prompts.identity, data.prompts.label_names, failures=failures)
    slowed = [_slowed(job, machine.device, slowdown) for job in jobs]
    generate(slowed, data.prompts, machine.device, progress, Stop(), failures)
    found = {copy.copy: summarize(job.journal.read(), copy) for job, copy in zip(slowed, columns, strict=True)}
    if failures or None in found.values():
        raise RuntimeError(f"not all columns were timed: {failures or found}")
    return {name: result for name, result in found.items() if result is not None}


def _slowed(job: Job, device: str, slowdown: float) -> Job:
    assert isinstance(job.column, Copy)
    if not job.column.copy.startswith(PLANTED):
        return job
    load: Callable[[], ImageGenerator] = partial(load_slowed, job.load, device, slowdown)
    return dataclasses.replace(job, load=load)


def compare(
    model: str, run: int, pair: tuple[str, str], results: Mapping[str, ModelResult], rounds: int, seconds: float
) -> Comparison:
    """Decide between two columns of a run, as if it had no others."""
    both = [results[name] for name in pair]
    (speed,) = [verdict for verdict in decide(both, rounds) if verdict.question == "speed"]
    means = [tuple(each.mean_latency_s for each in result.rounds) for result in both]
    return Comparison(
        model, run, pair, pair[1].startswith(PLANTED), speed.outcome, speed.winner, speed.ratio, speed.interval,
        speed.rule, (means[0], means[1]), seconds, os.getloadavg()[0],
    )  # fmt: skip


def check_verdicts(options: argparse.Namespace, folder: Path) -> Iterator[Comparison]:
    """Yield what each run decides of each pair; a run begins where it may yet fit."""
    clock, names = Clock("cpu"), options.columns.split(",")
    began = clock.now()
    progress = Progress(io.StringIO())
    longest = 0.0
    data: Data | None = None
    machine = choose_machine(options.device, "auto")
    for run in range(1, options.runs + 1):
        for model in options.models.split(","):
            start = clock.now()
            if options.seconds is not None and start - began + longest > options.seconds:
                return
            settings = settings_of(options, model, folder / f"{model}-{run}")
            data = data or _prompts(settings, folder / "data")
            (column,) = plan_columns(settings, choose_models(settings, data.prompts.name, print), machine)
            results = time_columns(copies_of(column, names), data, machine, options.slowdown, progress)
            seconds = clock.now() - start
            longest = max(longest, seconds)
            for pair in pairs_of(names):
                yield compare(model, run, pair, results, options.rounds, seconds)


def settings_of(options: argparse.Namespace, model: str, output: Path) -> Settings:
    """Return the settings of one run of one model: as many images as are timed, and no score."""
    given: dict[str, Any] = {
        "MODELS": model, "MODE": options.mode, "WEIGHTS": options.weights, "DATASET": "robots", "OFFLINE": True,
        "NUM_SAMPLES": options.timed, "TIMED_SAMPLES": options.timed, "ROUNDS": options.rounds,
        "WARMUP": options.warmup, "DEVICE": options.device, "OUTPUT_DIR": output,
    }  # fmt: skip
    named = [text.partition("=") for text in options.set]
    settings = settings_class()(**given | {name: value for name, _, value in named})
    settings.refuse_sweep("check_verdicts")
    return settings


def _prompts(settings: Settings, output: Path) -> Data:
    sources = open_sources(settings.dataset, "", assets=ASSETS, seed=settings.seed)
    return prepare_data(sources, output, settings.num_samples, 0, announce=lambda _: None)


def most_false(runs: int) -> int:
    """Return how many of so many A/A comparisons may name a winner: 3 of 20, 2 of 8, 1 of 4."""
    return next(most for most in range(runs + 1) if _more_than(most, runs, FALSE_RATE) < RARE_FALSE)


def least_found(runs: int) -> int:
    """Return how many of so many slowdowns must be found: 9 of 10, 7 of 8."""
    return runs - next(most for most in range(runs + 1) if _more_than(most, runs, 1 - POWER) < RARE_MISSED)


def _more_than(most: int, runs: int, rate: float) -> float:
    """Return the binomial distribution's probability of more than `most`."""
    return 1 - sum(math.comb(runs, count) * rate**count * (1 - rate) ** (runs - count) for count in range(most + 1))


def summarize_outcomes(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return for each model and kind of comparison how often there was a winner, the bar, and whether it is met."""
    found = []
    for model in dict.fromkeys(each.model for each in comparisons):
        own = [each for each in comparisons if each.model == model]
        equal, planted = ([each for each in own if each.planted is kind] for kind in (False, True))
        if equal:
            winners, bar = sum(each.outcome == "WIN" for each in equal), most_false(len(equal))
            what = {"what": "A/A", "runs": len(equal), "winners": winners, "at_most": bar, "met": winners <= bar}
            found.append({"model": model, **what, **_outcomes(equal)})
        if planted:
            right, bar = sum(each.is_found for each in planted), least_found(len(planted))
            what = {"what": "planted", "runs": len(planted), "found": right, "at_least": bar, "met": right >= bar}
            found.append({"model": model, **what, **_outcomes(planted)})
    return found


def _outcomes(comparisons: Sequence[Comparison]) -> dict[str, dict[str, int]]:
    outcomes = [each.outcome for each in comparisons]
    return {"outcomes": {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}}


def main(given: Sequence[str] | None = None) -> int:
    """Run as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, device="cpu")
    parser.add_argument("--models", default="var-d16", help="names as in MODELS, with commas [%(default)s]")
    parser.add_argument("--mode", default="eager", choices=("eager", "compiled"), help="[%(default)s]")
    parser.add_argument("--weights", default="tiny", choices=("tiny", "random"), help="[%(default)s]")
    parser.add_argument("--columns", default="A,B", help="with commas; P, P2, ... are slowed down [%(default)s]")
    parser.add_argument("--slowdown", type=float, default=0.03, help="of planted columns, as a share [%(default)s]")
    parser.add_argument("--runs", type=int, default=20, help="of each model [%(default)s]")
    parser.add_argument("--rounds", type=int, default=4, help="of each run [%(default)s]")
    parser.add_argument("--timed", type=int, default=25, help="calls of each round [%(default)s]")
    parser.add_argument("--warmup", type=int, default=3, help="least untimed calls of a worker [%(default)s]")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of a run, PIXART_STEPS=2"
    )
    parser.add_argument("--seconds", type=float, help="begin no run that may end later than so many seconds from now")
    options = parser.parse_args(given)
    if options.tiny:
        options.runs, options.timed, options.rounds = (
            min(options.runs, 1),
            min(options.timed, 3),
            min(options.rounds, 3),
        )
    if not pairs_of(options.columns.split(",")):
        parser.error(f"--columns {options.columns}: expected two columns to compare, A,B or A,P")
    about = describe_run(__file__, options.device)
    asked = {name: value for name, value in vars(options).items() if name not in ("output", "tiny")}
    comparisons: list[Comparison] = []
    summary: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for comparison in check_verdicts(options, Path(folder)):
            print(comparison, flush=True)
            comparisons.append(comparison)
            summary = summarize_outcomes(comparisons)
            told = [dataclasses.asdict(each) for each in comparisons]
            write_report(options.output, about, {"options": asked, "summary": summary, "comparisons": told})
    for line in summary:
        print(", ".join(f"{name} {value}" for name, value in line.items()))
    return 0 if options.tiny or all(line["met"] for line in summary) else 1


if __name__ == "__main__":
    end_script(__file__, main)
