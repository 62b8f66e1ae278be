"""Kills whole runs at random moments (`kill -9`) and holds what each ends with against an undisturbed one.

    python -m scripts.measuring.check_run_kills --repeats 50

A run of an embedded model prepares references, generates, scores and reports, once undisturbed. Then the same run is
killed at a random moment and started once more, again and again, each time in a folder of its own. Images and
references must be the same to the byte, scores within 1e-6, and nothing half written may be left. Exit status: 0, 1
where anything differs.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from files.writing import PREFIX
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.killing import SECONDS_BETWEEN_LOOKS, begin, check_ended, finish, kill_after

SETTINGS = {
    "WEIGHTS": "tiny", "MODELS": "pixart", "PIXART_STEPS": "2", "NUM_SAMPLES": "24", "NUM_REFERENCES": "300",
    "METRICS": "fid,kid,prdc,psnr,fidelity", "WARMUP": "1", "BATCH_SIZE": "2",
}  # fmt: skip
PRELOAD = [
    "diffusers",
    "transformers",
    "torchmetrics",
    "benchmark.run.phases",
    "benchmark.report.table",
    "run_inference",
]
PHASES = ("preparing", "generating", "evaluating", "reporting")
SAME = 1e-6


@dataclass(frozen=True)
class Kill:
    """A run that was killed in `phase`. differences: empty where it ended as the undisturbed one."""

    phase: str
    differences: tuple[str, ...]


def check_kills(folder: Path, kills: int, seed: int = 0, device: str = "cpu") -> Iterator[Kill]:
    """Run once undisturbed and `kills` times killed, all under `folder`, and yield how each killed one ended.

    The phases take turns; within its phase the moment is random.

    Raises:
        RuntimeError: a run fails without being killed.
    """
    whole, timed = folder / "whole", folder / "timed"
    settings = SETTINGS | {"DEVICE": device}
    # With a GPU nothing is imported before a fork, since importing diffusers counts CUDA devices.
    preload = PRELOAD if device == "cpu" else []
    finish(_run, whole, settings, preload=preload)
    seconds_of = _time_phases(timed, settings, preload)  # a second run, without what is imported once
    moments = random.Random(seed)
    done = 0
    for number in itertools.count():
        place, phase = folder / f"killed-{number}", PHASES[number % len(PHASES)]
        if not kill_after(
            moments.uniform(0, seconds_of[phase]), _run, place, settings, preload=preload,
            ready=lambda place=place, phase=phase: PHASES.index(phase_of(place)) >= PHASES.index(phase),  # type: ignore[misc]
        ):  # fmt: skip
            continue  # it ended by itself
        was = phase_of(place)
        finish(_run, place, settings, preload=preload)
        yield Kill(was, tuple(differences(whole, place)))
        done += 1
        if done == kills:
            return


def _time_phases(output: Path, settings: Mapping[str, str], preload: Sequence[str]) -> dict[str, float]:
    """Run once and return how many seconds each phase took."""
    process = begin(_run, output, settings, preload=preload)
    began = dict.fromkeys(PHASES, 0.0)
    while process.exitcode is None:
        phase = phase_of(output)
        began[phase] = began[phase] or time.monotonic()
        process.join(SECONDS_BETWEEN_LOOKS)
    check_ended(process)
    ends = [began[phase] for phase in PHASES[1:]] + [time.monotonic()]
    return {phase: max(0.0, end - began[phase]) for phase, end in zip(PHASES, ends, strict=True) if began[phase]} | {
        phase: 0.0 for phase in PHASES if not began[phase]
    }


def _run(output: Path, settings: Mapping[str, str]) -> None:
    import torch

    import run_inference

    torch.set_num_threads(1)
    os.environ.update(settings, OUTPUT_DIR=str(output))
    with Path(os.devnull).open("w") as nowhere, (output.parent / f"{output.name}.log").open("a") as log:
        sys.stdout, sys.stderr = nowhere, log
        status = run_inference.main([])
    if status != 0:
        print((output.parent / f"{output.name}.log").read_text()[-2000:], file=sys.__stderr__)
        raise SystemExit(status)


def phase_of(output: Path) -> str:
    """Return what a killed run was doing, as its files tell."""
    manifest, timings = output / "Robots" / "input" / "manifest.jsonl", output / "PixArt" / "timings.jsonl"
    if (output / "results.csv").is_file():
        return "reporting"
    batches = timings.read_bytes().count(b'"batch"') if timings.is_file() else 0
    if batches * int(SETTINGS["BATCH_SIZE"]) >= int(SETTINGS["NUM_SAMPLES"]):
        return "evaluating"
    if manifest.is_file() and manifest.read_bytes().count(b"\n") > int(SETTINGS["NUM_REFERENCES"]):
        return "generating"
    return "preparing"


def differences(whole: Path, other: Path) -> Iterator[str]:
    """Yield what differs between the output of two runs, and what is half written in the second."""
    expected = {path.relative_to(whole) for path in whole.rglob("*.png") if path.parent != whole}
    found = {path.relative_to(other) for path in other.rglob("*.png") if path.parent != other}
    yield from (f"{path} is in one of them alone" for path in sorted(expected ^ found))
    for path in sorted(expected & found):
        if (whole / path).read_bytes() != (other / path).read_bytes():
            yield f"{path} differs"
    yield from (f"{path.relative_to(other)} is half written" for path in other.rglob(f"{PREFIX}*"))
    scores, others = _scores(whole), _scores(other)
    for name in sorted(scores.keys() | others.keys()):
        if not abs(scores.get(name, float("nan")) - others.get(name, float("nan"))) <= SAME:
            yield f"{name} is {others.get(name)} instead of {scores.get(name)}"


def _scores(output: Path) -> dict[str, float]:
    model = json.loads((output / "results.json").read_text(encoding="utf-8"))["models"][0]
    return {"images": model["images"]} | {score["key"]: score["value"] for score in model["scores"]}


def main(given: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=50, repeated="runs that are killed", device="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [%(default)s]")
    options = parser.parse_args(given)
    repeats = min(options.repeats, 2) if options.tiny else options.repeats
    about, kills = describe_run(__file__, options.device), []
    with tempfile.TemporaryDirectory() as folder:
        for number, kill in enumerate(check_kills(Path(folder), repeats, options.seed, options.device), start=1):
            kills.append(kill)
            told = "; ".join(kill.differences[:3]) or "as the undisturbed one"
            print(f"{number}: killed while {kill.phase}: {told}", flush=True)
            write_report(options.output, about, {"seed": options.seed, "kills": [asdict(one) for one in kills]})
    phases = Counter(kill.phase for kill in kills)
    faulty = sum(bool(kill.differences) for kill in kills)
    shown = ", ".join(f"{count} while {phase}" for phase, count in phases.items())
    print(f"{repeats - faulty} of {repeats} ended as the undisturbed run ({shown})")
    return 1 if faulty else 0


if __name__ == "__main__":
    end_script(__file__, main)
