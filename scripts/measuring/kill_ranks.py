"""Kills ranks of launched runs, their workers and their launcher at random moments (`kill -9`).

    python -m scripts.measuring.kill_ranks --runs 20
    python -m scripts.measuring.kill_ranks --runs 3 --forked --seed 4     # a fraction of the time

One process makes the images of two embedded models, undisturbed. Then, again and again, each time in a folder of its
own: `torchrun` starts two or three ranks, one process of theirs is killed at a random moment, and the same command with
another number of ranks goes on to the end. A rank or a launcher that dies must end the run within seconds, with one
line of the program that names rank, host and reason. A worker of rank 0 costs its column; what that of another rank
cannot make rank 0 makes. No process may be left. In the end images must be the undisturbed run's to the byte, scores
within 1e-6, every round complete, and every image made once.

Exit status: 0, 1 where anything differs.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import re
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import run_inference
from benchmark.run.column_folder import IMAGES_NAME, image_name
from benchmark.run.journal_lines import Batch
from benchmark.run.recorded import recorded_lines
from files.reading import has_digest
from scripts.measuring import check_run_kills
from scripts.measuring.check_run_kills import KILLED, PHASES, PRELOAD, differences, log_of, phase_of
from scripts.measuring.forked_servers import fork_servers
from scripts.measuring.harness import ROOT, describe_run, end_script, open_parser, write_report
from scripts.measuring.killing import (
    SECONDS_BETWEEN_LOOKS,
    begin,
    children_of,
    descendants_of,
    started_with,
    still_there,
    workers_of,
)
from scripts.measuring.run_records import columns_of

PROGRAM = "run_inference.py"
# A rank's libraries compute with one thread, whatever the number of ranks: images are then the same to the byte.
SETTINGS = check_run_kills.SETTINGS | {
    "DEVICE": "cpu", "OMP_NUM_THREADS": "1", "NUM_SAMPLES": "40", "TIMED_SAMPLES": "4", "ROUNDS": "2", "PASSES": "none",
}  # fmt: skip
NUMBERS = (1, 2, 3)  # of ranks
# What rank 0 says, if it is there, where a rank ended before they knew of one another: torchrun alone can tell which.
STOPPED_LINE = f"{PROGRAM}: {run_inference.STOPPED}"
Target = Literal["rank", "worker", "launcher"]
TURNS: tuple[tuple[str, Target], ...] = (
    ("making in bulk", "rank"), ("timing", "rank"), ("making in bulk", "worker"), ("making in bulk", "rank"),
    ("evaluating", "rank"), ("making in bulk", "launcher"), ("preparing", "rank"), ("timing", "rank"),
    ("making in bulk", "rank"), ("timing", "launcher"),
)  # fmt: skip
SECONDS_TO_END = 20.0  # all processes of a run have ended so long after the kill


@dataclass(frozen=True)
class RankKill:
    """What was killed in which phase: `rank` of `ranks`, its worker, or the launcher (-1), and how it ended.

    then_ranks: how many went on. seconds_to_end: from the kill until all processes had ended. told: the program's line.
    differences: empty where all is as it must be.
    """

    phase: str
    target: Target
    rank: int
    ranks: int
    then_ranks: int
    seconds_to_end: float
    told: str
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Launches:
    """How runs are started: with which settings, and forked or not."""

    settings: Mapping[str, str]
    forked: bool

    def begin(self, output: Path, ranks: int) -> Any:
        """Return a process that is the launcher of so many ranks, or for one rank the program itself."""
        work = partial(_become_launcher, output, ranks, self.settings, self.forked)
        return begin(work, preload=PRELOAD, starts_processes=True)

    def watch(self, output: Path) -> Mapping[str, float]:
        """Run one process undisturbed, and return the seconds of its phases."""
        run = self.begin(output, 1)
        began: dict[str, float] = {}
        while run.exitcode is None:
            began.setdefault(phase_of(output, self.settings), time.monotonic())
            run.join(SECONDS_BETWEEN_LOOKS)
        if run.exitcode != 0:
            raise RuntimeError(f"the undisturbed run ended with {run.exitcode}: {_tail(output)}")
        moments = [*began.values(), time.monotonic()]
        return {phase: later - moment for phase, moment, later in zip(began, moments, moments[1:], strict=False)}


def check_rank_kills(
    folder: Path, kills: int, seed: int = 0, settings: Mapping[str, str] = SETTINGS, *, forked: bool = False
) -> Iterator[RankKill]:
    """Run once undisturbed and `kills` times killed, all under `folder`, and yield how each killed one ended.

    Phases and targets take turns; the numbers of ranks, the rank and the moment within its phase are random. forked:
    ranks and servers are forked from what has imported the libraries.

    Raises:
        RuntimeError: a run fails without being killed.
    """
    whole, done = folder / "whole", 0
    launches = Launches(settings, forked)
    lengths = launches.watch(whole)
    for number in itertools.count():
        place, (phase, target) = folder / f"killed-{number}", TURNS[done % len(TURNS)]
        draw = random.Random(f"{seed}/{done}")  # the same ranks when it is tried again
        ranks = draw.choice(NUMBERS[1:])
        then_ranks = draw.choice([each for each in NUMBERS if each != ranks])
        rank = -1 if target == "launcher" else draw.randrange(ranks)
        moment = random.Random(f"{seed}/moment {number}").uniform(0, lengths.get(phase, 0.0))
        killed = _kill(launches, place, phase, target, rank, ranks, moment)
        if killed is None:
            continue  # it ended by itself
        faults = [*killed.faults, *_repeated(killed.made)]
        run = launches.begin(place, then_ranks)
        run.join()
        if run.exitcode != 0:
            raise RuntimeError(f"{then_ranks} ranks that were not killed ended with {run.exitcode}: {_tail(place)}")
        new = [batch for batch in whole_batches(place) if batch not in killed.known]
        faults += [*_repeated([*killed.made, *new]), *differences(whole, place)]
        faults += [f"process {each} is left" for each in started_with("OUTPUT_DIR", str(place))]
        yield RankKill(killed.phase, target, rank, ranks, then_ranks, killed.seconds_to_end, killed.told, tuple(faults))
        done += 1
        if done == kills:
            return


@dataclass(frozen=True)
class _Killed:
    """A run after the kill. known: the batches that it recorded. made: those of them whose images were all there."""

    phase: str
    seconds_to_end: float
    told: str
    known: frozenset[Batch]
    made: tuple[Batch, ...]
    faults: tuple[str, ...]


def _kill(
    launches: Launches, place: Path, phase: str, target: Target, rank: int, ranks: int, seconds: float
) -> _Killed | None:
    """Launch a run, kill its target `seconds` after the phase began, and return how it ended.

    None: it ended by itself before.
    """
    run = launches.begin(place, ranks)
    while PHASES.index(phase_of(place, launches.settings)) < PHASES.index(phase) and run.exitcode is None:
        run.join(SECONDS_BETWEEN_LOOKS)
    run.join(seconds)
    while run.exitcode is None and not (found := _targets(run.pid, target, rank, ranks)):
        run.join(SECONDS_BETWEEN_LOOKS)
    if run.exitcode is not None:
        return None
    have_met = place.exists()  # what ranks do once they know of one another
    was, family = phase_of(place, launches.settings), {run.pid, *descendants_of(run.pid)}
    with contextlib.suppress(ProcessLookupError):
        os.kill(found[0], signal.SIGKILL)
    seconds_to_end, left = _wait_for_end(run, place, family, patient=target == "worker")
    does_without = target == "worker" and rank > 0  # rank 0 makes what the others could not
    if run.exitcode == 0 and not does_without:
        return None  # what was killed had done its work
    lines = program_lines(log_of(place))
    faults = [f"{left} processes are left after {SECONDS_TO_END:g} s"] if left else []
    if target == "worker":
        if not does_without and KILLED not in log_of(place).read_text():
            faults.append(f"the run does not say that its worker was {KILLED}")
        if lines:
            faults.append(f"a worker's death is no end of the run: {'; '.join(lines)}")
    elif not (place / "results.json").is_file():  # else rank 0 had ended
        is_unknown = not have_met and lines in ([STOPPED_LINE], [])
        faults += [] if is_unknown else _faults_of(lines, rank)
    known, made = frozenset(recorded_batches(place)), tuple(whole_batches(place))
    return _Killed(was, seconds_to_end, "; ".join(lines), known, made, tuple(faults))


def _targets(launcher: int, target: Target, rank: int, ranks: int) -> list[int]:
    """Return the processes that may be killed; none where not all ranks have started, or there is no worker now."""
    started = children_of(launcher)  # in the order of their ranks
    if len(started) < ranks:
        return []
    if target == "launcher":
        return [launcher]
    return [started[rank]] if target == "rank" else workers_of(started[rank])


def _wait_for_end(run: Any, place: Path, family: set[int], *, patient: bool) -> tuple[float, int]:
    """Return the seconds until all processes of a run had ended, and how many have not in the time they may take.

    patient: a worker costs its column alone, so the launcher may take as long as it needs.
    """
    began = time.monotonic()
    while True:
        if patient and run.exitcode is None:
            run.join(SECONDS_BETWEEN_LOOKS)
            began = time.monotonic()
        family |= {each for process in still_there(family) for each in descendants_of(process)}
        left = {*still_there(family), *started_with("OUTPUT_DIR", str(place))}
        seconds = time.monotonic() - began
        if not left or seconds > SECONDS_TO_END:
            for each in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            run.join()
            return seconds, len(left)
        run.join(SECONDS_BETWEEN_LOOKS)


def program_lines(log: Path) -> list[str]:
    """Return the lines of a log that the program itself says about its end."""
    return [line for line in log.read_text(errors="replace").splitlines() if line.startswith(f"{PROGRAM}: ")]


def _faults_of(lines: Sequence[str], rank: int) -> Iterator[str]:
    """Yield what is wrong with what the program told. rank: what was killed, -1 for the launcher."""
    if len(lines) != 1:
        yield f"{len(lines)} lines tell the end instead of one: {'; '.join(lines)}"
        return
    told = re.match(rf"{re.escape(PROGRAM)}: rank (\d+) on (\S+): .*\w", lines[0])
    if told is None:
        yield f"no rank, host and reason: {lines[0]}"
    elif told[2] != socket.gethostname() or (rank >= 0 and int(told[1]) != rank):
        yield f"rank {rank} was killed on {socket.gethostname()}: {lines[0]}"


def recorded_batches(output: Path, *, whole: bool = False) -> Iterator[Batch]:
    """Yield the batches that the journals of the columns below a folder name, in no certain order.

    whole: only those whose images are all there as they were written.
    """
    for column in columns_of(output):
        for batch in recorded_lines(column):
            if not isinstance(batch, Batch) or batch.round:
                continue
            if not whole or _is_whole(column / IMAGES_NAME, batch):
                yield batch


def whole_batches(output: Path) -> Iterator[Batch]:
    """Yield the recorded batches whose images are all there as they were written."""
    return recorded_batches(output, whole=True)


def _is_whole(images: Path, batch: Batch) -> bool:
    return all(
        has_digest(images / image_name(index), digest)
        for index, digest in zip(batch.indices, batch.digests, strict=True)
    )


def _repeated(batches: Collection[Batch]) -> Iterator[str]:
    """Yield which images were made twice. The model is not in a line, but in what each of its images is."""
    images = (image for batch in batches for image in zip(batch.indices, batch.digests, strict=True))
    made = Counter(images)
    yield from (f"image {index} was made {count} times" for (index, _), count in made.items() if count > 1)


def _become_launcher(output: Path, ranks: int, settings: Mapping[str, str], forked: bool) -> None:
    os.environ.update(settings, OUTPUT_DIR=str(output))
    with Path(os.devnull).open("w") as nowhere, log_of(output).open("a") as log:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(log.fileno(), 2)  # of launcher, ranks and workers
    if forked:
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
        raise SystemExit(_be_rank() if ranks == 1 else _fork_ranks(ranks))
    command = [sys.executable, str(ROOT / PROGRAM)]
    if ranks > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
        command = [sys.executable, *launcher, str(ROOT / PROGRAM)]
    os.execv(sys.executable, command)


def _fork_ranks(ranks: int) -> int:
    """Be torchrun's agent for ranks that are forked from this process instead of started anew."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=ranks, run_id=str(os.getpid()), rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", max_restarts=0, start_method="fork",
    )  # fmt: skip
    try:
        elastic_launch(config, _leave_as_rank)()
    except ChildFailedError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _leave_as_rank() -> None:
    from torch import multiprocessing

    os.setsid()
    multiprocessing._prctl_pr_set_pdeathsig(0)  # type: ignore[attr-defined]  # torchrun's ranks outlive it, too
    if status := _be_rank():
        raise SystemExit(status)


def _be_rank() -> int:
    fork_servers()
    return run_inference.main([])


def _tail(output: Path) -> str:
    return log_of(output).read_text(errors="replace")[-2000:]


def main(given: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--runs", type=int, default=20, help="that are killed [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [%(default)s]")
    parser.add_argument("--forked", action="store_true", help="fork ranks and servers: a fraction of the time")
    options = parser.parse_args(given)
    if options.runs < 1:
        parser.error(f"--runs {options.runs}: expected 1 or more")
    runs = min(options.runs, 2) if options.tiny else options.runs
    about, kills = describe_run(__file__), list[RankKill]()
    with tempfile.TemporaryDirectory() as folder:
        checked = check_rank_kills(Path(folder), runs, options.seed, forked=options.forked or options.tiny)
        for number, kill in enumerate(checked, start=1):
            kills.append(kill)
            name = kill.target if kill.rank < 0 else f"{kill.target} {kill.rank} of {kill.ranks}"
            told = "; ".join(kill.differences[:3]) or f"ended as the undisturbed one with {kill.then_ranks}"
            print(f"{number}: {name} killed while {kill.phase}, {kill.seconds_to_end:.1f} s: {told}", flush=True)
            write_report(options.output, about, {"seed": options.seed, "kills": [asdict(one) for one in kills]})
    counts = Counter(f"{kill.target} while {kill.phase}" for kill in kills)
    faulty = sum(bool(kill.differences) for kill in kills)
    shown = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"{runs - faulty} of {runs} ended as the undisturbed run ({shown})")
    slowest = max(kill.seconds_to_end for kill in kills)
    print(f"all processes had ended {slowest:.1f} s after the kill at most")
    return 1 if faulty else 0


if __name__ == "__main__":
    end_script(__file__, main)
