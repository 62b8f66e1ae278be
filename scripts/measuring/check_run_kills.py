"""Kills runs, their servers and their workers at random moments (`kill -9`), and holds what each run ends with.

    python -m scripts.measuring.check_run_kills --repeats 50

A run of two embedded models prepares references, times three rounds, makes images in bulk, scores and reports: once
undisturbed, and then again and again, each time in a folder of its own and killed at a random moment. The phases and
what is killed take turns. A worker or a server that is killed costs its columns: the run says so and exits with 1. The
same command then goes on to the end. Images and references must be the same to the byte as in the undisturbed run,
scores within 1e-6, every round must be complete, nothing half written and no process may be left. Exit status: 0, 1
where anything differs.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from benchmark.run import servers
from benchmark.run.column_folder import journals_in
from files.writing import PREFIX
from models import pixart, sdxl
from scripts.measuring.forked_servers import fork_servers
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.killing import (
    RUN_MODULES,
    SECONDS_BETWEEN_LOOKS,
    begin,
    check_ended,
    finish,
    servers_of,
    started_with,
    still_there,
    workers_of,
)

# BULK_BATCH_SIZE is fixed: what `auto` chooses depends on the moment, and images of two batch sizes may differ by 1.
SETTINGS = {
    "WEIGHTS": "tiny", "MODELS": "sdxl,pixart", "SDXL_STEPS": "2", "PIXART_STEPS": "2", "NUM_SAMPLES": "14",
    "NUM_REFERENCES": "60", "METRICS": "kid,psnr,fidelity", "WARMUP": "0", "ROUNDS": "3", "TIMED_SAMPLES": "5",
    "BATCH_SIZE": "2", "BULK_BATCH_SIZE": "4",
}  # fmt: skip
COLUMNS = ("SDXL", "PixArt")  # their folders
PRELOAD = (*RUN_MODULES, *servers.PRELOADED, *sdxl.FAMILY.imports, *pixart.FAMILY.imports)
PHASES = ("preparing", "timing", "making in bulk", "evaluating", "reporting")
Target = Literal["run", "server", "worker"]
TURNS: tuple[tuple[str, Target], ...] = (
    ("timing", "worker"), ("making in bulk", "run"), ("timing", "run"), ("evaluating", "run"), ("timing", "server"),
    ("making in bulk", "worker"), ("preparing", "run"), ("timing", "worker"), ("making in bulk", "server"),
    ("timing", "run"), ("reporting", "run"),
)  # fmt: skip
KILLED = "killed by SIGKILL"
SAME = 1e-6
SECONDS_TO_END = 10.0  # what a killed run, server or worker leaves has to end within


@dataclass(frozen=True)
class Kill:
    """What was killed in which phase. differences: empty where it ended as the undisturbed run.

    seconds_to_end: from the end of the run, killed or by itself, until all of its processes had ended.
    """

    phase: str
    target: Target
    seconds_to_end: float
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Moments:
    """When things were there in a run that was not killed: by phase, the seconds since its begin of each look."""

    seen: Mapping[tuple[str, Target], Sequence[float]]

    def draw(self, phase: str, target: Target, random: random.Random) -> float:
        return random.choice(self.seen.get((phase, target), (0.0,))) + random.uniform(0, SECONDS_BETWEEN_LOOKS)


def check_kills(
    folder: Path, kills: int, seed: int = 0, device: str = "cpu", *, forks_servers: bool = False
) -> Iterator[Kill]:
    """Run once undisturbed and `kills` times killed, all under `folder`, and yield how each killed one ended.

    Phases and targets take turns; within its phase the moment is random. forks_servers: takes a fraction of the time.

    Raises:
        RuntimeError: a run fails without being killed.
    """
    whole = folder / "whole"
    settings = SETTINGS | {"DEVICE": device}
    # With a GPU nothing is imported before a fork, since importing diffusers counts CUDA devices.
    preload = PRELOAD if device == "cpu" else ()
    run = partial(_run, forks_servers=forks_servers)
    seen = _watch(run, whole, settings, preload)
    moments = random.Random(seed)
    done = 0
    for number in itertools.count():
        place, (phase, target) = folder / f"killed-{number}", TURNS[done % len(TURNS)]
        killed = _kill(run, place, settings, preload, phase, target, seen.draw(phase, target, moments))
        if killed is None:
            continue  # it ended by itself, or the target had done its work
        finish(run, place, settings, preload=preload)
        left = started_with("OUTPUT_DIR", str(place))
        found = [*killed.differences, *differences(whole, place), *(f"process {one} is left" for one in left)]
        yield Kill(killed.phase, killed.target, killed.seconds_to_end, tuple(found))
        done += 1
        if done == kills:
            return


def _kill(
    run: Callable[..., None], place: Path, settings: Mapping[str, str], preload: Sequence[str], phase: str,
    target: Target, seconds: float,
) -> Kill | None:  # fmt: skip
    """Start a run, kill its target `seconds` after the phase began, and return how it all ended.

    None: nothing was killed, or a server that had no more to do.
    """
    process = begin(partial(run, is_killed=target != "run"), place, settings, preload=preload)
    while PHASES.index(phase_of(place)) < PHASES.index(phase) and process.exitcode is None:
        process.join(SECONDS_BETWEEN_LOOKS)
    process.join(seconds)
    while process.exitcode is None and not (found := _targets(process.pid, target)):
        process.join(SECONDS_BETWEEN_LOOKS)
    if process.exitcode is not None:
        check_ended(process)
        return None
    was, family = phase_of(place), [*_targets(process.pid, "server"), *_targets(process.pid, "worker")]
    with suppress(ProcessLookupError):
        os.kill(found[0], signal.SIGKILL)
    process.join()
    began = time.monotonic()
    if target != "run" and process.exitcode == 0:
        return None
    log = log_of(place).read_text() if log_of(place).is_file() else ""
    faults = []
    if target != "run" and (process.exitcode != 1 or KILLED not in log):
        faults.append(f"its run ended with status {process.exitcode} and does not say that it was {KILLED}")
    while left := [*still_there(family), *started_with("OUTPUT_DIR", str(place))]:
        if time.monotonic() - began > SECONDS_TO_END:
            faults.append(f"{len(left)} processes are left after {SECONDS_TO_END:g} s")
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return Kill(was, target, time.monotonic() - began, tuple(faults))


def _targets(run: int, target: Target) -> list[int]:
    """Return the processes of a run that may be killed: the run itself, its servers, or their workers."""
    if target == "run":
        return [run]
    return servers_of(run) if target == "server" else workers_of(run)


def _watch(run: Callable[..., None], output: Path, settings: Mapping[str, str], preload: Sequence[str]) -> Moments:
    """Run once, look again and again, and return when what was there, by phase."""
    process = begin(run, output, settings, preload=preload)
    began: dict[str, float] = {}
    seen: dict[tuple[str, Target], list[float]] = {}
    while process.exitcode is None:
        phase, now = phase_of(output), time.monotonic()
        began.setdefault(phase, now)
        targets: tuple[Target, ...] = ("run", "server", "worker")
        for target in targets:
            if _targets(process.pid, target):
                seen.setdefault((phase, target), []).append(now - began[phase])
        process.join(SECONDS_BETWEEN_LOOKS)
    check_ended(process)
    return Moments(seen)


def _run(output: Path, settings: Mapping[str, str], *, is_killed: bool = False, forks_servers: bool = False) -> None:
    """Run the program; its text goes to a log beside its folder. is_killed: status 1 is no surprise."""
    import run_inference

    if forks_servers:
        fork_servers()
    os.environ.update(settings, OUTPUT_DIR=str(output))
    with Path(os.devnull).open("w") as nowhere, log_of(output).open("a") as log:
        os.dup2(log.fileno(), 2)  # what workers print
        with redirect_stdout(nowhere), redirect_stderr(log):
            status = run_inference.main([])
    if status != 0:
        if not is_killed:
            print(log_of(output).read_text()[-2000:], file=sys.__stdout__)
        raise SystemExit(status)


def log_of(output: Path) -> Path:
    """Return where a run into this folder writes what it tells."""
    return output.parent / f"{output.name}.log"


def phase_of(output: Path, settings: Mapping[str, str] = SETTINGS) -> str:
    """Return what a run of these settings is doing, or was when it was killed, as its files tell."""
    if (output / "results.csv").is_file():
        return "reporting"
    manifest = output / "Robots" / "input" / "manifest.jsonl"
    journals = [path for column in COLUMNS for path in journals_in(output / column)]
    lines = [line for path in journals for line in path.read_bytes().split(b"\n")]
    samples, timed, rounds = (int(settings[name]) for name in ("NUM_SAMPLES", "TIMED_SAMPLES", "ROUNDS"))
    models = len(settings["MODELS"].split(","))
    calls = -(-timed // int(settings["BATCH_SIZE"])) * models
    bulk = -(-(samples - timed) // int(settings["BULK_BATCH_SIZE"])) * models
    if _count(lines, "batch") >= calls + bulk:
        return "evaluating"
    if _count(lines, "timed") >= calls * rounds:
        return "making in bulk"
    if lines or (manifest.is_file() and manifest.read_bytes().count(b"\n") > int(settings["NUM_REFERENCES"])):
        return "timing"
    return "preparing"


def _count(lines: Sequence[bytes], kind: str) -> int:
    return sum(f'"kind": "{kind}"'.encode() in line for line in lines)


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
    """Return what a run found of each column beside its times: images, whole rounds and scores."""
    found: dict[str, float] = {}
    for model in json.loads((output / "results.json").read_text(encoding="utf-8"))["models"]:
        whole = sum(each["complete"] and each["equal"] == each["compared"] for each in model["rounds"])
        values = {"images": model["images"], "whole rounds": whole}
        values |= {score["key"]: score["value"] for score in model["scores"]}
        found |= {f"{model['name']}: {name}": value for name, value in values.items()}
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=50, repeated="runs that are killed", device="cpu")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [%(default)s]")
    parser.add_argument(
        "--forked-servers",
        action="store_true",
        help="fork servers from the run: a fraction of the time, on a CPU alone",
    )
    options = parser.parse_args(given)
    repeats = min(options.repeats, 2) if options.tiny else options.repeats
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    about = describe_run(__file__, options.device)
    kills: list[Kill] = []
    with tempfile.TemporaryDirectory() as folder:
        checked = check_kills(
            Path(folder), repeats, options.seed, options.device, forks_servers=options.forked_servers
        )  # fmt: skip
        for number, kill in enumerate(checked, start=1):
            kills.append(kill)
            told = "; ".join(kill.differences[:3]) or "as the undisturbed one"
            print(f"{number}: {kill.target} killed while {kill.phase}: {told}", flush=True)
            found: dict[str, Any] = {"seed": options.seed, "kills": [asdict(one) for one in kills]}
            write_report(options.output, about, found)
    counts = Counter(f"{kill.target} while {kill.phase}" for kill in kills)
    faulty = sum(bool(kill.differences) for kill in kills)
    slowest = max((kill.seconds_to_end for kill in kills if kill.target == "run"), default=0.0)
    shown = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{repeats - faulty} of {repeats} ended as the undisturbed run ({shown})")
    print(f"every process of a killed run had ended {slowest:.2f} s later at most")
    return 1 if faulty else 0


if __name__ == "__main__":
    end_script(__file__, main)
