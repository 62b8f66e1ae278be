"""Damages the files of finished runs at random places and starts the same run again.

    python -m scripts.measuring.check_run_damage --repeats 20

Each try copies a finished run of two embedded models (two rounds, and images in bulk), damages one file of it, a
journal in a line of each kind by turns, and runs again. The second run must end with the images and scores of the
first, with every round complete, and with every whole line that was left; or refuse with a line that names what is
damaged. It must never show a traceback, and never change an image or a line of the column that was not damaged. Exit
status: 0, 1 where a try failed.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path

from files.locks import LOCK_NAME
from scripts.measuring.damaging import copy_tree, damage, damage_line, kinds_in
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.killing import RUN_MODULES, begin

SETTINGS = {
    "WEIGHTS": "tiny", "MODELS": "var,pixart", "PIXART_STEPS": "2", "NUM_SAMPLES": "8", "NUM_REFERENCES": "60",
    "METRICS": "fid,kid,psnr", "WARMUP": "1", "BATCH_SIZE": "2", "DEVICE": "cpu", "ROUNDS": "2",
    "TIMED_SAMPLES": "3", "BULK_BATCH_SIZE": "2",
}  # fmt: skip
COLUMNS = ("VAR-d16", "PixArt")
SAME = 1e-6


@dataclass(frozen=True)
class Try:
    """What was damaged, how the next run ended, and what was wrong with that."""

    damage: str
    status: int
    faults: tuple[str, ...]


def check_damage(folder: Path, tries: int, seed: int = 0) -> Iterator[Try]:
    """Make one run under `folder`, damage copies of it, run each again, and yield how that ended."""
    whole = folder / "whole"
    status, told = _run_again(whole)
    if status != 0:
        raise RuntimeError(f"the run that nothing disturbed ended with status {status}: {told}")
    moments = random.Random(seed)
    for number in range(tries):
        copy = copy_tree(whole, folder / f"damaged-{number}")
        file, kind = moments.choice(targets(copy))
        what = damage_line(file, kind, moments) if kind else damage(file, moments)
        left = _lines(copy)
        status, told = _run_again(copy)
        faults = _faults(whole, copy, file, left & _lines(whole), status, told)
        yield Try(f"{file.relative_to(copy).parent}: {what}", status, tuple(faults))


def targets(output: Path) -> list[tuple[Path, str]]:
    """Return the files of a run that another run reads, each kind about as often as the others.

    A journal stands there for each kind of line that it holds, with the kind; any other file with "".
    """
    kinds = ("*/fingerprint.json", "*/output/*.png", "*/input/manifest.jsonl", "*/input/*/*.png", "*/input/*/*.txt",
             "cache/*/*", "results.json")  # fmt: skip
    found = [[(path, "") for path in sorted(output.glob(kind))] for kind in kinds]
    lines = [(path, kind) for path in sorted(output.glob("*/timings*.jsonl")) for kind in kinds_in(path)]
    found += [[line for line in lines if line[1] == kind] for kind in sorted({kind for _, kind in lines})]
    most = max(len(files) for files in found)
    return [files[place % len(files)] for files in found if files for place in range(most)]


def _run_again(output: Path) -> tuple[int, str]:
    """Run into `output`; return the exit status and what stderr told."""
    process = begin(_run, output, preload=RUN_MODULES)
    process.join()
    return process.exitcode, (output.parent / f"{output.name}.log").read_text(encoding="utf-8")


def _run(output: Path) -> None:
    import torch

    import run_inference

    torch.set_num_threads(1)
    os.environ.update(SETTINGS, OUTPUT_DIR=str(output))
    with Path(os.devnull).open("w") as nowhere, (output.parent / f"{output.name}.log").open("w") as log:
        sys.stdout, sys.stderr = nowhere, log
        status = run_inference.main([])
    sys.exit(status)


def _faults(whole: Path, copy: Path, damaged: Path, left: Set[bytes], status: int, told: str) -> Iterator[str]:
    """Yield what is wrong with a run after `damaged` was damaged. left: the lines that this left of the journals."""
    if "Traceback" in told:
        yield f"a traceback: {told[-300:]}"
    if status not in (0, 1, 2):
        yield f"exit status {status}"
    if status != 0 and str(copy) not in told and damaged.name not in told:
        yield f"a refusal that names nothing: {told[-300:]}"
    for column in COLUMNS:
        if column not in damaged.parts and _contents(whole / column) != _contents(copy / column):
            yield f"{column} changed, which was not damaged"
    if status == 0:
        for column in COLUMNS:
            if _images(whole / column) != _images(copy / column):
                yield f"{column} has other images"
        if lost := left - _lines(copy):
            yield f"{len(lost)} whole lines are gone"
        expected, found = _scores(whole), _scores(copy)
        if expected.keys() != found.keys() or any(abs(expected[name] - found[name]) > SAME for name in expected):
            yield f"other scores: {found} instead of {expected}"


def _contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


def _images(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "output").glob("*.png")}


def _lines(output: Path) -> set[bytes]:
    """Return the lines of the journals of a run's columns."""
    return {line for path in output.glob("*/timings*.jsonl") for line in path.read_bytes().split(b"\n") if line}


def _scores(output: Path) -> dict[str, float]:
    """Return what a run found of each column beside its times: scores, whole rounds and the batch size of bulk."""
    found: dict[str, float] = {}
    for model in json.loads((output / "results.json").read_text(encoding="utf-8"))["models"]:
        values = {score["key"]: score["value"] for score in model["scores"]}
        values["whole rounds"] = sum(each["complete"] and each["equal"] == each["compared"] for each in model["rounds"])
        values["batch size of bulk"] = max(model["bulk"]["batch_sizes"])
        found |= {f"{model['name']} {name}": value for name, value in values.items()}
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Damage and run again as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=20, repeated="files that are damaged, each in a copy of the run")
    parser.add_argument("--seed", type=int, default=0, help="of what is damaged and how [%(default)s]")
    options = parser.parse_args(given)
    repeats = min(options.repeats, 2) if options.tiny else options.repeats
    about, tries = describe_run(__file__), []
    with tempfile.TemporaryDirectory() as folder:
        for found in check_damage(Path(folder), repeats, options.seed):
            tries.append(found)
            print(f"{found.damage}: exit {found.status}; {'; '.join(found.faults) or 'as promised'}", flush=True)
            write_report(options.output, about, {"seed": options.seed, "tries": [asdict(one) for one in tries]})
    faulty = sum(bool(found.faults) for found in tries)
    print(f"{repeats - faulty} of {repeats} as promised")
    return 1 if faulty else 0


if __name__ == "__main__":
    end_script(__file__, main)
