"""Measures one GPU against several of the same host: images in bulk, features, and whether latencies stay the same.

    python -m scripts.measuring.measure_scaling --parts bulk --images-per-second sdxl=3.8,pixart=5.8
    python -m scripts.measuring.measure_scaling --parts features,latency --gpus 4
    python -m scripts.measuring.measure_scaling --parts hours --run runs/one --features-per-second 1=430,2=850,4=1600
    python -m scripts.measuring.measure_scaling --tiny       # two processes on a CPU

Each part runs the programs alone, with the first GPU that is visible, and under torchrun with all of them:

- bulk: `run_inference.py`, one model at a time, compiled, random weights. The figures of the host are the report's own
  (`Throughput, N GPUs`) and those of the journals.
- features: the FID Inception with random weights over PNGs that are written first, by the metrics' own code, and
  decoding alone by the same processes.
- latency: VAR-d16 compiled in both ways, on the same card by UUID, and `benchmark.compare` of the two.
- hours: what a run in --run would take with --hours-images images on 1, 2 and 4 GPUs.

--part-seconds bounds each part: what runs then is asked to stop, and its figures are of what it has made.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.measure.accelerators import count_gpus
from benchmark.measure.clock import Clock
from benchmark.measure.nvml import list_cards
from benchmark.ranks.division import SECONDS_ALONE
from benchmark.report.results import read_results
from benchmark.run.journal_lines import MAIN_WRITER, Batch, State
from benchmark.run.recorded import recorded_lines
from scripts.measuring.harness import ROOT, describe_run, duration, end_script, open_parser, write_report
from scripts.measuring.run_records import (
    columns_of,
    extrapolate,
    rate_of,
    read_seconds,
    with_shares,
)

CLOCK = Clock("cpu")  # the programs are processes of their own
PROGRAM = str(ROOT / "run_inference.py")
SECONDS_TO_STOP = 45.0  # from asking a run to stop until it is killed
WARM_S = 10.0  # by which the ranks may differ until each has made its first image in bulk
BAR_OF_FEATURES = 3.5
LEAST_SHARE = 0.6  # of the rate of what alone is slower: where features reach less, that is not what limits them
HOURS_GPUS = (1, 2, 4)
PARTS = ("bulk", "features", "latency", "hours")


@dataclass(frozen=True)
class Ran:
    """A program that has ended. stopped: the time of its part was over before. told: of a failure, its last words."""

    wall_s: float
    status: int
    stopped: bool
    told: tuple[str, ...]


@dataclass
class Launcher:
    """Starts programs on one GPU or on all, and stops them when the time of the part is over."""

    gpus: int
    on_cpu: bool
    part_s: float
    end_s: float = math.inf

    def begin_part(self) -> None:
        self.end_s = CLOCK.now() + self.part_s

    def run(self, log: Path, program: Sequence[str], gpus: int, **settings: object) -> Ran:
        """Run a program, alone or as so many ranks, to its end or to that of the part."""
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        visible = environment.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(self.gpus)))
        environment.setdefault("OFFLINE", "1")
        if self.on_cpu:
            environment |= {"DEVICE": "cpu", "OMP_NUM_THREADS": "1"}
        else:  # torchrun would leave one thread to each rank, and none but the run on one GPU would have more
            environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.gpus)))
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[:gpus])
        command = [sys.executable, *program]
        if gpus > 1:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)]
            command = [sys.executable, *launcher, *program]
        log.parent.mkdir(parents=True, exist_ok=True)
        began, stopped = CLOCK.now(), False
        with log.open("w") as text:
            run = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=text, stderr=text, start_new_session=True
            )  # fmt: skip
            try:
                run.wait(max(1.0, self.end_s - CLOCK.now()))
            except subprocess.TimeoutExpired:
                stopped = True
                run.terminate()  # torchrun passes it on
                with suppress(subprocess.TimeoutExpired):
                    run.wait(SECONDS_TO_STOP)
            finally:
                if run.poll() is None:
                    with suppress(ProcessLookupError):
                        os.killpg(run.pid, signal.SIGKILL)
                    run.wait()
        wall_s = CLOCK.now() - began
        lines = log.read_text(errors="replace").splitlines() if run.returncode else []
        told = tuple([line for line in lines if re.match(r"(run_inference\.py|rank_features): ", line)] or lines[-5:])
        print(f"{log.stem}: {wall_s:.1f} s, status {run.returncode}{', stopped' if stopped else ''}", flush=True)
        return Ran(wall_s, run.returncode, stopped, told)


def measure_bulk(options: argparse.Namespace, launcher: Launcher, folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the figures of each model so far."""
    found: dict[str, Any] = {}
    for model, rate in options.images_per_second.items():
        settings = {
            "WEIGHTS": options.weights, "MODELS": model, "MODE": options.mode, "ROUNDS": 1, "PASSES": "none",
            "TIMED_SAMPLES": options.timed, "WARMUP": 1, "BULK_BATCH_SIZE": options.batch_size,
        }  # fmt: skip
        together = options.samples or math.ceil(
            rate * (launcher.gpus * (options.window + WARM_S) + 1.5 * SECONDS_ALONE)
        )
        images = {1: math.ceil(rate * options.alone_seconds), launcher.gpus: together}
        row: dict[str, Any] = {"estimate_images_per_s": rate}
        for gpus in (launcher.gpus,) if options.only_together else images:
            count = options.timed + images[gpus]
            place = folder / f"{model}-{gpus}"
            ran = launcher.run(
                place.with_suffix(".log"), [PROGRAM, "--output-dir", str(place)], gpus, NUM_SAMPLES=count, **settings
            )
            row[f"{gpus} ranks"] = {"asked_images": count, **asdict(ran), **bulk_figures(place)}
            found[model] = row | ratios(row, launcher.gpus)
            yield found


def bulk_figures(output: Path) -> dict[str, Any]:
    """Return what a run of one model tells of its bulk; as much as there is where it was stopped."""
    columns = columns_of(output)
    if not columns:
        return {}
    bulk = [line for line in recorded_lines(columns[0]) if isinstance(line, Batch) and line.purpose == "bulk"]
    by_rank: dict[str, list[Batch]] = {}
    for call in bulk:
        by_rank.setdefault(call.writer, []).append(call)
    others_end_s = max((call.ended_at_s for call in bulk if call.writer != MAIN_WRITER), default=0.0)
    alone = [call for call in by_rank.get(MAIN_WRITER, []) if call.ended_at_s - call.seconds >= others_end_s]
    window_s, images = together_within(list(by_rank.values()))
    found: dict[str, Any] = {
        "images": sum(call.size for call in bulk), "images_of_ranks": {name: sum(call.size for call in calls)
                                                                       for name, calls in sorted(by_rank.items())},
        "alone_images_per_s": rate_of(alone), "alone_calls": len(alone), "window_s": window_s,
        "together_images_per_s": images / window_s if window_s else None,
    }  # fmt: skip
    with suppress(OSError, ValueError):
        model = read_results(output / "results.json").models[0]
        found["bulk_batch_sizes"] = model.bulk.batch_sizes if model.bulk else ()
        if model.host_throughput is not None:
            found["report"] = asdict(model.host_throughput) | {"ratio": model.host_throughput.ratio}
    return found


def together_within(ranks: Sequence[Sequence[Batch]]) -> tuple[float, float]:
    """Return the seconds in which all ranks made images, and how many: from the last first end to the first last one.

    A call that an edge cuts counts in part.
    """
    open_s = max(min(call.ended_at_s for call in calls) for calls in ranks)
    closed_s = min(max(call.ended_at_s for call in calls) for calls in ranks)
    images = 0.0
    for calls in ranks:
        for call in calls:
            inside_s = min(call.ended_at_s, closed_s) - max(call.ended_at_s - call.seconds, open_s)
            images += call.size * max(0.0, inside_s) / call.seconds
    return max(0.0, closed_s - open_s), images


def ratios(row: Mapping[str, Any], gpus: int) -> dict[str, Any]:
    """Return what several ranks make over what one makes, and the ratio of wall times for the same images."""
    alone, together = row.get("1 ranks", {}), row.get(f"{gpus} ranks", {})
    rate, rate_of_all = alone.get("alone_images_per_s"), together.get("together_images_per_s")
    rate_after = together.get("alone_images_per_s")
    found: dict[str, Any] = {}
    if rate_of_all is not None and rate_after is not None:
        found["ratio_in_the_same_run"] = rate_of_all / rate_after
    if rate_of_all is not None and rate is not None:
        wall_s = alone["wall_s"] + (together["asked_images"] - alone["asked_images"]) / rate
        found |= {"ratio": rate_of_all / rate, "wall_of_one_for_the_same_images_s": wall_s}
        found["ratio_of_wall_times"] = wall_s / together["wall_s"]
    return found


def measure_features(options: argparse.Namespace, launcher: Launcher, folder: Path) -> dict[str, Any]:
    """Return features/s of one process and of all, decoding alone beside it, and what the limit is."""
    from scripts.measuring.measure_features import random_inception, write_images

    weights = folder / "inception.pth"
    random_inception(weights)
    _, write_s = CLOCK.time(lambda: write_images(folder / "images", options.images, options.side))
    warm = launcher.gpus * options.feature_batch if options.feature_batch else launcher.gpus * 256
    write_images(folder / "warm", min(warm, options.images), options.side)
    size = sum(path.stat().st_size for path in (folder / "images").iterdir()) / options.images
    found: dict[str, Any] = {"images": options.images, "side_px": options.side, "bytes": size, "write_s": write_s}
    for gpus in (1, launcher.gpus):
        output = folder / f"features-{gpus}.json"
        program = [
            "-m", "scripts.measuring.rank_features", str(folder / "images"), "--warm", str(folder / "warm"),
            "--weights", str(weights), "--cache", str(folder / f"cache-{gpus}"), "--output", str(output),
            "--extractor", options.extractor, "--dtype", options.feature_dtype,
            "--batch-size", str(options.feature_batch), "--device", "cpu" if launcher.on_cpu else "auto",
        ]  # fmt: skip
        ran = launcher.run(folder / f"features-{gpus}.log", program, gpus)
        told = json.loads(output.read_text()) if output.is_file() else {}
        found[f"{gpus} ranks"] = asdict(ran) | told
    one, all_ = found["1 ranks"], found[f"{launcher.gpus} ranks"]
    if "features_s" in one and "features_s" in all_:
        found["ratio"] = all_["features_per_s"] / one["features_per_s"]
        found["ratio_of_decoding"] = all_["decode_per_s"] / one["decode_per_s"]
        found["same_features"] = math.isclose(one["sum"], all_["sum"], rel_tol=1e-6)
        found["share_of_decoding"] = {"1": one["decode_s"] / one["features_s"],
                                      str(launcher.gpus): all_["decode_s"] / all_["features_s"]}  # fmt: skip
        met = found["ratio"] >= BAR_OF_FEATURES * launcher.gpus / 4
        found["limit"] = "none" if met else limit_of(all_, launcher.gpus)
    return found


def limit_of(told: Mapping[str, Any], gpus: int) -> str:
    """Return what alone is slower, decoding by all processes or their networks; features near its rate wait for it.

    told: by `rank_features`.
    """
    alone = {"decoding": told["decode_per_s"], "the network": told["extract_per_s"] * gpus}
    slower = min(alone, key=lambda name: alone[name])
    return slower if told["features_per_s"] > LEAST_SHARE * alone[slower] else "something else"


def measure_latency(options: argparse.Namespace, launcher: Launcher, folder: Path) -> dict[str, Any]:
    """Return what `benchmark.compare` says of a run on one GPU and of one on all, and on which card each was timed."""
    settings = {
        "WEIGHTS": options.weights, "MODELS": "var-d16", "MODE": options.mode, "ROUNDS": options.rounds,
        "PASSES": "none", "NUM_SAMPLES": options.latency_samples, "TIMED_SAMPLES": min(25, options.latency_samples),
        "BULK_BATCH_SIZE": options.batch_size,
    }  # fmt: skip
    found: dict[str, Any] = {}
    for gpus in (1, launcher.gpus):
        place = folder / f"var-d16-{gpus}"
        ran = launcher.run(place.with_suffix(".log"), [PROGRAM, "--output-dir", str(place)], gpus, **settings)
        states = [
            line.machine for column in columns_of(place) for line in recorded_lines(column)
            if isinstance(line, State) and line.writer == MAIN_WRITER
        ]  # fmt: skip
        found[f"{gpus} ranks"] = asdict(ran) | {"cards": sorted({state.card_uuid for state in states})}
    compare = [sys.executable, "-m", "benchmark.compare", *(str(folder / f"var-d16-{n}") for n in (1, launcher.gpus))]
    told = subprocess.run(compare, cwd=ROOT, text=True, capture_output=True, check=False)
    print(told.stdout or told.stderr, flush=True)
    data = subprocess.run([*compare, "--json"], cwd=ROOT, text=True, capture_output=True, check=False)
    found["compare_status"], found["compare"] = told.returncode, told.stdout.splitlines()
    with suppress(ValueError):
        rows = [row for row in json.loads(data.stdout)["rows"] if row["figure"] == "latency"]
        found["latency"] = [{name: row[name] for name in ("column", "old", "new", "change", "interval", "outcome")}
                            for row in rows]  # fmt: skip
    cards = [found[f"{gpus} ranks"]["cards"] for gpus in (1, launcher.gpus)]
    found["same_card"] = cards[0] == cards[1] and len(cards[0]) == 1 and cards[0] != [""]
    return found


def measure_hours(options: argparse.Namespace) -> dict[str, Any]:
    """Return hours by phase for more images than the run in a folder has, by the number of GPUs."""
    seconds = read_seconds(options.run)
    found: dict[str, Any] = {"images": options.hours_images, "measured": asdict(seconds)}
    for gpus in HOURS_GPUS:
        phases = extrapolate(
            seconds, options.hours_images, gpus, efficiency=options.efficiency if gpus > 1 else 1.0,
            features_per_s=options.features_per_second.get(str(gpus)), decoded_per_s=options.decoded_per_second,
        )  # fmt: skip
        found[str(gpus)] = with_shares(phases)
        shown = ", ".join(f"{phase} {seconds / sum(phases.values()):.0%}" for phase, seconds in phases.items())
        print(f"{gpus} GPUs: {sum(phases.values()) / 3600:.3g} h ({shown})", flush=True)
    return found


def _card_name() -> str:
    """Return the name of the first GPU; a process of its own asks, since this one must not have a CUDA context."""
    asked = "from benchmark.measure.machine import choose_machine; print(choose_machine('cuda', 'auto').name)"
    return subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, text=True, capture_output=True, check=True
    ).stdout.strip()  # fmt: skip


def _numbers(text: str) -> dict[str, float]:
    """Read "sdxl=3.8,pixart=5.8". Raises argparse.ArgumentTypeError where it is something else."""
    try:
        pairs = [pair.split("=") for pair in text.split(",") if pair]
        return {name: float(value) for name, value in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected NAME=NUMBER,NAME=NUMBER") from None


def _parts(text: str) -> tuple[str, ...]:
    """Read the names of parts. Raises argparse.ArgumentTypeError where one is unknown."""
    names = tuple(text.split(","))
    for name in names:
        if name not in PARTS:
            raise argparse.ArgumentTypeError(f"no part {name!r}; there are {', '.join(PARTS)}")
    return names


def build_parser() -> argparse.ArgumentParser:
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--parts", type=_parts, default="bulk,features,latency", help="of bulk,features,latency,hours")
    parser.add_argument("--gpus", type=int, default=0, help="ranks of the larger runs; 0: all GPUs [%(default)s]")
    parser.add_argument("--part-seconds", type=duration, default=280.0, help="most of each part [%(default)s]")
    parser.add_argument("--weights", default="random", help="as WEIGHTS [%(default)s]")
    parser.add_argument("--mode", default="compiled", help="as MODE [%(default)s]")
    parser.add_argument("--batch-size", default="1", help="as BULK_BATCH_SIZE [%(default)s]")
    parser.add_argument("--timed", type=int, default=2, help="bulk: images that are timed first [%(default)s]")
    parser.add_argument(
        "--images-per-second", type=_numbers, default="sdxl=4,pixart=6", help="bulk: models and about what one GPU "
        "makes, by which the numbers of images are chosen [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--samples", type=int, default=0, help="bulk: images of the larger runs instead [%(default)s]")
    parser.add_argument("--window", type=duration, default=80.0, help="bulk: seconds of all together [%(default)s]")
    parser.add_argument(
        "--only-together", action="store_true", help="bulk: no run of one GPU; the end of the larger run tells its rate"
    )  # fmt: skip
    parser.add_argument("--alone-seconds", type=duration, default=30.0, help="bulk: of one GPU [%(default)s]")
    parser.add_argument("--images", type=int, default=20_000, help="features [%(default)s]")
    parser.add_argument("--side", type=int, default=512, help="features: pixels [%(default)s]")
    parser.add_argument("--extractor", default="inception", help="features: or appearance, nearly decoding alone")
    parser.add_argument("--feature-dtype", default="float32", help="features: as FEATURE_DTYPE [%(default)s]")
    parser.add_argument("--feature-batch", type=int, default=0, help="features: images at once; 0: as a run does")
    parser.add_argument("--rounds", type=int, default=6, help="latency [%(default)s]")
    parser.add_argument("--latency-samples", type=int, default=225, help="latency: images, most of them in bulk")
    parser.add_argument("--run", type=Path, help="hours: OUTPUT_DIR of a run on one GPU")
    parser.add_argument("--hours-images", type=int, default=10_000, help="hours: for each model [%(default)s]")
    parser.add_argument("--efficiency", type=float, default=1.0, help="hours: N GPUs in bulk / N times one")
    parser.add_argument("--features-per-second", type=_numbers, default="", help="hours: 1=430,2=850,4=1600, by GPUs")
    parser.add_argument("--decoded-per-second", type=duration, help="hours: images that one process decodes")
    parser.add_argument("--folder", type=Path, help="keep images and logs here [a temporary folder]")
    return parser


def main(given: Sequence[str] | None = None) -> int:
    """Measure the parts; return the exit status."""
    parser = build_parser()
    options = parser.parse_args(given)
    there = count_gpus(os.environ)
    on_cpu = options.tiny or there == 0
    if there is None and not on_cpu and not options.gpus:
        parser.error("it cannot be told how many GPUs there are: give --gpus")
    if options.tiny:
        small = {
            "weights": "tiny", "mode": "eager", "gpus": 2, "samples": 24, "images": 16, "side": 64, "rounds": 3,
            "latency_samples": 4, "feature_batch": 4, "images_per_second": {"var-d16": 8.0}, "alone_seconds": 1.0,
        }  # fmt: skip
        vars(options).update(small)
    if "hours" in options.parts:
        if options.run is None:
            parser.error("--parts hours needs --run, the OUTPUT_DIR of a run on one GPU")
        if options.features_per_second and set(options.features_per_second) != set(map(str, HOURS_GPUS)):
            parser.error("--features-per-second needs the rates of 1, 2 and 4 GPUs: 1=430,2=850,4=1600")
    launcher = Launcher(options.gpus or there or 2, on_cpu, options.part_seconds)
    about, report = describe_run(__file__), dict[str, Any](gpus=launcher.gpus)
    if not on_cpu:
        about |= {"device": _card_name(), "cards": [card.uuid for card in list_cards()]}
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for part in options.parts:
            launcher.begin_part()
            place = folder / part
            place.mkdir(exist_ok=True)
            if part == "bulk":
                for report["bulk"] in measure_bulk(options, launcher, place):
                    write_report(options.output, about, report)
            elif part == "features":
                report["features"] = measure_features(options, launcher, place)
            elif part == "latency":
                report["latency"] = measure_latency(options, launcher, place)
            else:
                report["hours"] = measure_hours(options)
            if part != "hours":
                print(json.dumps(report[part], default=str), flush=True)
            write_report(options.output, about, report)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
