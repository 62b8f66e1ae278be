"""Processes that are killed at random moments: what the checks of kill safety share.

A process is forked from a server that has imported the libraries, so that its time is the program's own.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

SECONDS_BETWEEN_LOOKS = 0.002
# What a whole run imports, whichever models it has.
RUN_MODULES = (
    *("diffusers", "transformers", "skimage.metrics"),
    *("benchmark.run.phases", "benchmark.report.table", "run_inference"),
)


def begin(work: Callable[..., None], *arguments: Any, preload: Sequence[str], starts_processes: bool = False) -> Any:
    """Start `work(*arguments)` in a process of its own and return it. `preload`: what the server imports, once.

    starts_processes: it may start others by multiprocessing, and is waited for where this process ends before it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    process = context.Process(target=work, args=arguments, daemon=not starts_processes)
    process.start()
    return process


def finish(work: Callable[..., None], *arguments: Any, preload: Sequence[str]) -> float:
    """Run `work(*arguments)` to its end; return the seconds. Raises RuntimeError where it fails."""
    began = time.monotonic()
    process = begin(work, *arguments, preload=preload)
    process.join()
    check_ended(process)
    return time.monotonic() - began


def check_ended(process: Any) -> None:
    """Raise RuntimeError where a process that was not killed failed."""
    if process.exitcode != 0:
        raise RuntimeError(f"a process that was not killed ended with status {process.exitcode}")


def kill_after(
    seconds: float, work: Callable[..., None], *arguments: Any, preload: Sequence[str],
    ready: Callable[[], bool] = lambda: True,
) -> bool:  # fmt: skip
    """Start `work(*arguments)`, wait until `ready()`, and kill it (SIGKILL) `seconds` later.

    Return whether it was killed: False where it had ended by itself.

    Raises:
        RuntimeError: it failed before.
    """
    process = begin(work, *arguments, preload=preload)
    while not ready() and process.exitcode is None:
        process.join(SECONDS_BETWEEN_LOOKS)
    process.join(seconds)
    if process.exitcode is not None:
        check_ended(process)
        return False
    process.kill()
    process.join()
    return True


def children_of(process: int) -> list[int]:
    """Return the ids of the children of a process, those that have ended and are not waited for among them."""
    children: list[int] = []
    with suppress(OSError):  # it has ended meanwhile
        for thread in Path(f"/proc/{process}/task").iterdir():
            children += map(int, (thread / "children").read_text().split())
    return children


def descendants_of(process: int) -> list[int]:
    """Return the ids of all that a process has started, and of all that these have."""
    children = children_of(process)
    return [*children, *(each for child in children for each in descendants_of(child))]


def servers_of(run: int) -> list[int]:
    """Return the servers of a run of the benchmark: each has a session of its own."""
    return [child for child in children_of(run) if _leads(child, os.getsid)]


def workers_of(run: int) -> list[int]:
    """Return the workers of a run's servers: each has a group of its own."""
    return [child for server in servers_of(run) for child in children_of(server) if _leads(child, os.getpgid)]


def _leads(process: int, group_of: Callable[[int], int]) -> bool:
    try:
        return group_of(process) == process
    except ProcessLookupError:
        return False


def command_of(process: int) -> bytes:
    """Return the command line of a process, its words ended by NUL; empty where it has ended."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""


def started_with(variable: str, value: str) -> list[int]:
    """Return the processes of this machine that were started with a variable of this value, as far as readable."""
    wanted, found = f"{variable}={value}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and int(folder.name) != os.getpid():
            with suppress(OSError):  # it has ended meanwhile, or is another user's
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def still_there(processes: Iterable[int]) -> list[int]:
    """Return which of the processes have not ended. One that has ended and is not waited for counts as ended."""
    return [process for process in processes if command_of(process)]
