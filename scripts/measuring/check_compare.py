"""Holds `benchmark.compare` against what is known: equal runs pass its gate, planted faults fail it.

    python -m scripts.measuring.check_compare equal --runs 20
    python -m scripts.measuring.check_compare slowed --planted 0.05 --device cuda --models var-d16 --mode compiled \\
        --weights random --rounds 6 --runs 8 --seconds 560
    python -m scripts.measuring.check_compare spoiled --runs 10

Every pair of runs is written as two results.json, and `benchmark.compare OLD NEW` itself says the exit status.

equal: two runs of the same command with different seeds. The latencies are recorded ones (--recorded, of
check_verdicts): of two runs that followed each other, so that what changes from run to run is in them. The images are
made here, of the same prompts with other seeds for each run, by an embedded model.
slowed: the old run times the model, then the new run times it with a wait inside generate(); each is a run of its own.
With --seconds no pair begins that may not fit.
spoiled: the old run has real robots for images, the new one the same robots blurred, or as JPEG. Each score is gated by
itself: with the default margin, and with --worse KEY=0, which asks whether it is worse at all.

The file of figures is written after each pair. Exit status: 0, 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmark import compare
from benchmark.console.progress import Progress
from benchmark.data.run_data import Data, open_sources, prepare_data
from benchmark.measure.clock import Clock
from benchmark.measure.machine import Machine, choose_machine, installed_versions
from benchmark.report.comparison.exit_status import WORSE
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.results import RunResult, write_results
from benchmark.report.verdicts import decide
from benchmark.run.columns import choose_models, plan_columns
from benchmark.settings.fields import ASSETS
from metrics.base import Score
from scripts.measuring.check_verdicts import PLANTED, copies_of, settings_of, time_columns
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.spoiled_runs import SPOILED_BY, score_equal_runs, score_spoiled_runs

# Of 20 equal pairs at most 1 may fail; of 8 slowed ones at least 7, of 10 spoiled ones at least 9 must.
MOST_FALSE, LEAST_FOUND = 0.05, 0.875
SPOILED_METRICS = ("kid", "fd-effnet")


@dataclass(frozen=True)
class Pair:
    """What compare said of one pair of runs.

    what: "equal", "slowed", or how the images were spoiled. arguments: of compare, beside the two runs. tests: those of
    the gate. round_means_s: of both runs, where they have rounds. seconds: of making the pair.
    """

    what: str
    number: int
    arguments: str
    exit_status: int
    tests: list[dict[str, Any]]
    round_means_s: tuple[tuple[float, ...], ...]
    seconds: float

    def __str__(self) -> str:
        told = ", ".join(
            f"{test['label']} {test['change']:.4f} ({test['interval'][0]:.4f}..{test['interval'][1]:.4f}) "
            f"{test['result']}" for test in self.tests
        )  # fmt: skip
        return f"{self.what} {self.number} {self.arguments}: exit status {self.exit_status}; {told}"


def call_compare(old: RunResult, new: RunResult, folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Write both runs, compare them as a user does, and return the exit status with what was printed as JSON."""
    places = [folder / f"{name}.json" for name in ("old", "new")]
    for run, place in zip((old, new), places, strict=True):
        write_results(run, place)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        status = compare.main([*map(str, places), "--json", *arguments])
    return status, json.loads(output.getvalue())


def make_run(model: ModelResult, rounds: int, seed: int, device: str, weights: str, **changes: Any) -> RunResult:
    """Return a run of one column, with all that compare looks at."""
    run = RunResult(
        models=(model,), failures={}, dataset="Robots", dataset_note="", num_samples=model.images, rounds=rounds,
        device=device, dtype="float32", weights="tiny" if weights == "tiny" else "random",
        versions=installed_versions(), settings={"SEED": str(seed)}, started="", protocol="",
        prompts_identity="robots", reference_identity="robots", verdicts=decide([model], rounds),
    )  # fmt: skip
    return replace(run, **changes)


def make_model(name: str, means_s: Sequence[float], scores: Sequence[Score], images: int) -> ModelResult:
    """Return a column with a complete round of one timed call for each of the means."""
    rounds = tuple(
        Round(number, (f"{number:08x}",), (mean_s,), 1, True, 0, 0, 0.0, 0.0, 0.0, True)
        for number, mean_s in enumerate(means_s)
    )
    return ModelResult(name, "eager", 1, 64, 1, images, 1, rounds, None, (), "", scores=tuple(scores), model=name)


def check(
    what: str, number: int, old: RunResult, new: RunResult, folder: Path, seconds: float, *arguments: str
) -> Pair:  # fmt: skip
    """Return what compare says of one pair."""
    status, told = call_compare(old, new, folder, *arguments)
    means_s = tuple(
        tuple(made.mean_latency_s for made in model.rounds) for run in (old, new) for model in run.models
    )  # fmt: skip
    return Pair(what, number, " ".join(arguments), status, told["gate"]["tests"], means_s, seconds)


def check_equal(options: argparse.Namespace, folder: Path) -> Iterator[Pair]:
    """Yield the pairs of equal runs: recorded rounds of two runs in a row, and images of other seeds."""
    pairs = recorded_pairs(json.loads(options.recorded.read_text()))[: options.runs]
    scores = score_equal_runs(2 * len(pairs), options.images, options.references, options.cache)
    clock = Clock("cpu")
    start = clock.now()
    for number, means_s in enumerate(pairs, 1):
        runs = [
            make_run(make_model("VAR-d16", means, next(scores), options.images), len(means), seed, "CPU", "tiny")
            for means, seed in zip(means_s, (2 * number, 2 * number + 1), strict=True)
        ]
        yield check("equal", number, runs[0], runs[1], folder, clock.now() - start)
        start = clock.now()


def recorded_pairs(record: dict[str, Any]) -> list[list[list[float]]]:
    """Return the round means of one column in two runs of which one followed the other.

    Runs 1 and 2, 3 and 4 and so on of columns A and B come first, then 2 and 3, 4 and 5 and so on. Of a file with
    several records, the one of the CPU counts.
    """
    if "comparisons" not in record:
        record = next(each for each in record.values() if each["about"]["device"].startswith("CPU"))
    runs = [each["round_means_s"] for each in record["comparisons"] if not each["planted"]]
    return [
        [runs[place][column], runs[place + 1][column]]
        for first in (0, 1)
        for column in (0, 1)
        for place in range(first, len(runs) - 1, 2)
    ]


def check_slowed(options: argparse.Namespace, folder: Path) -> Iterator[Pair]:
    """Yield the pairs of a run and a slowed run that follows it, as long as another pair may fit."""
    clock = Clock("cpu")
    began, longest = clock.now(), 0.0
    machine, data = choose_machine(options.device, "auto"), None
    timing = argparse.Namespace(**{**vars(options), "set": ["PASSES=none", *options.set]})
    for number in range(1, options.runs + 1):
        start = clock.now()
        if options.seconds is not None and start - began + longest > options.seconds:
            return
        runs = []
        for name in ("A", PLANTED):
            output = folder / f"{number}-{name}"
            settings = settings_of(timing, options.models, output)
            data = data or _prompts(settings.seed, options.timed, folder / "data")
            runs.append(_time(timing, machine, data, output, name))
        seconds = clock.now() - start
        longest = max(longest, seconds)
        yield check("slowed", number, runs[0], runs[1], folder, seconds, "--slower", options.slower)


def _prompts(seed: int, count: int, output: Path) -> Data:
    sources = open_sources("robots", "", assets=ASSETS, seed=seed)
    return prepare_data(sources, output, count, 0, announce=lambda _: None)


def _time(options: argparse.Namespace, machine: Machine, data: Data, output: Path, name: str) -> RunResult:
    """Return a run of its own that times one column; a planted one by the name of the plain one."""
    settings = settings_of(options, options.models, output)
    (column,) = plan_columns(settings, choose_models(settings, data.prompts.name, print), machine)
    progress = Progress(io.StringIO())
    found = time_columns(copies_of(column, [name]), data, machine, options.planted, progress)[name]
    model = replace(found, name=column.title, model=column.name, options=column.key.options)
    return make_run(
        model, options.rounds, settings.seed, machine.name, options.weights, dtype=machine.dtype,
        versions=machine.versions, no_quality="random weights",
    )  # fmt: skip


def check_spoiled(options: argparse.Namespace, folder: Path) -> Iterator[Pair]:
    """Yield, for other robots each time, what compare says of each score by itself."""
    clock = Clock("cpu")
    start = clock.now()
    found = score_spoiled_runs(options.runs, options.images, options.references, options.cache, SPOILED_METRICS)
    for number, scores in enumerate(found, 1):
        seconds = clock.now() - start
        for what in SPOILED_BY:
            for key in SPOILED_METRICS:
                old, new = (
                    make_run(make_model("Robots", [1.0], [each[key]], options.images), 1, 42, "CPU", "tiny")
                    for each in (scores["real"], scores[what])
                )
                for arguments in ((), ("--worse", f"{key}=0")):
                    yield check(f"{what}, {key}", number, old, new, folder, seconds, *arguments)
        start = clock.now()


def summarize(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return for each kind of pair how many failed the gate, the bar where there is one, and whether it is met."""
    found = []
    for what, arguments in dict.fromkeys((pair.what, pair.arguments) for pair in pairs):
        own = [pair for pair in pairs if (pair.what, pair.arguments) == (what, arguments)]
        failed = sum(pair.exit_status == WORSE for pair in own)
        line = {"what": what, "arguments": arguments, "pairs": len(own), "exit_status_1": failed}
        if what == "equal":
            line |= {"at_most": int(MOST_FALSE * len(own)), "met": failed <= int(MOST_FALSE * len(own))}
        elif what == "slowed" or arguments:
            least = round(LEAST_FOUND * len(own) + 0.25)  # 7 of 8, 9 of 10
            line |= {"at_least": least, "met": failed >= least}
        found.append(line)
    return found


CHECKS = {"equal": check_equal, "slowed": check_slowed, "spoiled": check_spoiled}


def main(given: Sequence[str] | None = None) -> int:
    """Compare as many pairs as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, device="cpu")
    parser.add_argument("what", choices=CHECKS, help="which pairs of runs")
    parser.add_argument("--runs", type=int, default=20, help="pairs of runs [%(default)s]")
    parser.add_argument("--images", type=int, default=512, help="equal, spoiled: images of a run [%(default)s]")
    parser.add_argument("--references", type=int, default=2000, help="equal, spoiled [%(default)s]")
    parser.add_argument("--cache", type=Path, default=Path("local_repo/cache"), help="[%(default)s]")
    parser.add_argument(
        "--recorded", type=Path, default=Path("docs/measurements/verdicts-h200.json"), help="equal [%(default)s]"
    )
    parser.add_argument("--planted", type=float, default=0.05, help="slowed: by which share [%(default)s]")
    parser.add_argument("--slower", default="3%", help="slowed: as of compare [3%%]")
    parser.add_argument("--models", default="var-d16", help="slowed: a name as in MODELS [%(default)s]")
    parser.add_argument("--mode", default="eager", choices=("eager", "compiled"), help="slowed [%(default)s]")
    parser.add_argument("--weights", default="tiny", choices=("tiny", "random"), help="slowed [%(default)s]")
    parser.add_argument("--rounds", type=int, default=6, help="slowed: of each run [%(default)s]")
    parser.add_argument("--timed", type=int, default=25, help="slowed: calls of each round [%(default)s]")
    parser.add_argument("--warmup", type=int, default=3, help="slowed: least untimed calls of a worker [%(default)s]")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="slowed: a setting of a run")
    parser.add_argument("--seconds", type=float, help="slowed: begin no pair that may end later than that from now")
    options = parser.parse_args(given)
    if options.tiny:
        options.runs, options.images, options.references = 1, min(options.images, 24), min(options.references, 64)
        options.rounds, options.timed = min(options.rounds, 3), min(options.timed, 2)
    about = describe_run(__file__, options.device)
    asked = {name: value for name, value in vars(options).items() if name not in ("output", "tiny")}
    pairs: list[Pair] = []
    with tempfile.TemporaryDirectory() as folder:
        for pair in CHECKS[options.what](options, Path(folder)):
            print(pair, flush=True)
            pairs.append(pair)
            figures = {"options": asked, "summary": summarize(pairs), "pairs": list(map(asdict, pairs))}
            write_report(options.output, about, figures)
    for line in summarize(pairs):
        print(", ".join(f"{name} {value}" for name, value in line.items()))
    return 0 if options.tiny or all(line.get("met", True) for line in summarize(pairs)) else 1


if __name__ == "__main__":
    end_script(__file__, main)
