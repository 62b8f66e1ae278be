"""Fork servers and their workers, as the parent sees them: each piece of work runs in a process of its own.

A server is a fresh interpreter that imports what takes long, once, and forks a worker for each piece of work: its
memory layout and its hash seed are new. `benchmark.run.worker_server` is what runs there. Imports no torch.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.reduction import send_handle
from typing import Protocol, Self

from benchmark.console.plain_text import one_line
from benchmark.measure.accelerators import count_gpus
from benchmark.ranks.launch import VARIABLES
from benchmark.run.columns import Column
from models.base import Mode

# What every worker needs. What loading a model imports besides is its family's to say (`ModelFamily.imports`).
PRELOADED = ("PIL.PngImagePlugin", "numpy", "torch", "benchmark.run.rounds")
PRELOADED_OF_MODES: dict[Mode, tuple[str, ...]] = {"eager": (), "compiled": ("torch._inductor.compile_fx",)}
SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 3.0
# `-m` would look for the module on a path that is not the parent's.
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from benchmark.run.worker_server import main; main()"
)


class Channel(Protocol):
    """What work has of its parent."""

    def send(self, message: object) -> None:
        """Send what can be pickled. Messages arrive in their order."""

    def stopped(self) -> bool:
        """Return whether the parent has asked to stop."""


class WorkerFailed(Exception):
    """Work raised an error. `line`: "TypeName: text"; the worker has printed the traceback of an unexpected one."""

    def __init__(self, line: str) -> None:
        super().__init__(line)
        self.line = line


class WorkerDied(Exception):
    """A worker or its server ended before the work was done; the text is one line that says how."""


def modules_for(columns: Iterable[Column]) -> tuple[str, ...]:
    """Return the modules that a server of workers for these columns imports."""
    modules = dict.fromkeys(PRELOADED)
    for column in columns:
        modules |= dict.fromkeys((*column.model.family.imports, *PRELOADED_OF_MODES[column.mode]))
    return tuple(modules)


def server_environment() -> dict[str, str]:
    """Return the environment of a server that is started now: this process's, and how torch counts CUDA devices.

    diffusers counts them when it is imported. Torch would ask CUDA, and forked processes could not use it after that;
    so it asks the driver's library, and nothing where there is no driver. A launcher's variables are left out: a worker
    is a process of its own, and no library in it is to wait for the other ranks.
    """
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    environment |= {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
    return environment | {"CUDA_VISIBLE_DEVICES": ""} if count_gpus() == 0 else environment


@contextmanager
def open_server(preload: Sequence[str] = PRELOADED) -> Iterator[WorkerServer]:
    """Start a server, which then imports `preload`. It ends with the block, and so does a worker that still runs.

    It gets the environment and `sys.path` of this moment. What it and its workers print goes to stderr.
    """
    with WorkerServer(preload) as server:
        yield server


@contextmanager
def open_servers(count: int, preload: Sequence[str] = PRELOADED) -> Iterator[tuple[WorkerServer, ...]]:
    """Start several servers at once. One that is ready and waits takes no time of the cores."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(open_server(preload)) for _ in range(count))


class WorkerServer:
    """A process that forks workers, one at a time; a context that ends it. `preloaded`: the modules that it imports."""

    def __init__(self, preload: Sequence[str]) -> None:
        self.preloaded = tuple(preload)
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> None:
        self._ready = False
        self._jobs, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-c", _PROGRAM, json.dumps(list(map(os.fspath, sys.path))), str(theirs.fileno()),
                    str(os.getpid()), *self.preloaded,
                ],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=2, env=server_environment(),
                start_new_session=True,  # the terminal's signals are for the parent, which decides
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    def is_ready(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until the modules are imported; return False where it was stopped before.

        A server that has died before is started again. So is one whose modules have touched CUDA, with fewer of them.

        Raises:
            WorkerDied: it ended meanwhile.
        """
        if self._process.poll() is not None:
            self.close()
            self._start()
        while not self._ready:
            if stopped():
                return False
            if wait([self._jobs], SECONDS_BETWEEN_LOOKS):
                self._ready = self._answer() == "ready"
                if not self._ready:
                    assert self.preloaded, "a server that has imported nothing cannot have touched CUDA"
                    self.close()
                    self.preloaded = ("torch",) if self.preloaded != ("torch",) else ()
                    self._start()
        return True

    def run(
        self, work: Callable[[Channel], None], on_message: Callable[[object], None], stopped: Callable[[], bool]
    ) -> None:
        """Run `work` in a new worker, and return when it is done. Where it was stopped before that, nothing is run.

        work: is pickled, by reference, so it stands in a module. on_message: is called with what the work sends.
        stopped: is asked ten times in a second; once it is true, `Channel.stopped` is. Where anything else is raised,
        by these two or by a signal, the server and the worker end.

        Raises:
            WorkerFailed: the work raised an error.
            WorkerDied: the worker or the server ended before the work was done.
        """
        try:
            packed = pickle.dumps(work)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WorkerFailed(
                "AssertionError: what a worker runs, the `load` of a ModelFamily too, must be a function or class of "
                f"a module, not a lambda ({one_line(error)})"
            ) from error
        try:
            if self.is_ready(stopped) and not stopped():
                self._run(packed, on_message, stopped)
        except (WorkerFailed, WorkerDied):
            raise
        except BaseException:
            self.close()
            raise

    def _run(self, packed: bytes, on_message: Callable[[object], None], stopped: Callable[[], bool]) -> None:
        talk, theirs = Pipe()
        with talk:
            with theirs, suppress(OSError):  # the server has died, which the answer shows
                self._jobs.send("work")
                send_handle(self._jobs, theirs.fileno(), self.pid)
            worker = self._answer()
            assert isinstance(worker, int)
            conversation = _Conversation(talk, on_message)
            try:
                conversation.send_bytes(packed)
                told = ended = False
                while not ended:
                    ready = wait([self._jobs, *conversation.open], SECONDS_BETWEEN_LOOKS)
                    if talk in ready:
                        conversation.take()
                    else:
                        ended = self._jobs in ready
                    if not told and stopped():
                        told = True
                        conversation.send_bytes(b"")
                status = self._answer()
                assert isinstance(status, int)
            except WorkerDied:
                with suppress(OSError):  # the system has done that already, where it can
                    os.killpg(worker, signal.SIGKILL)
                conversation.take_rest(SECONDS_TO_END)
                raise
            conversation.take_rest()
        conversation.check(status)

    def _answer(self) -> object:
        try:
            return self._jobs.recv()
        except (EOFError, OSError):
            self.close()
            raise WorkerDied(f"its server {_end(self._process.wait())}") from None

    def close(self) -> None:
        """End the server, and its worker at once where it has one. It may be closed twice."""
        self._jobs.close()
        if not self._ready:  # it would see that only after its imports
            self._process.kill()
        try:
            self._process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class _Conversation:
    """What is said between the parent and one worker."""

    def __init__(self, talk: Connection, on_message: Callable[[object], None]) -> None:
        self.open = [talk]
        self._on_message = on_message
        self._outcome: tuple[str, str] | None = None

    def send_bytes(self, content: bytes) -> None:
        with suppress(OSError):  # the worker has died, and the server says how
            for talk in self.open:
                talk.send_bytes(content)

    def take(self) -> None:
        """Take a message, of which there is one, or the end."""
        try:
            kind, content = self.open[0].recv()
        except (EOFError, OSError):  # a worker that was killed may leave half a message
            self.open.clear()
            return
        if kind == "message":
            self._on_message(content)
        else:
            self._outcome = kind, content

    def take_rest(self, seconds: float = 0.0) -> None:
        """Take the messages up to the end, or until none has come for so long."""
        while self.open and self.open[0].poll(seconds):
            self.take()

    def check(self, status: int) -> None:
        """Raise an error where the work was not done. status: how the worker ended, as subprocess has it."""
        if self._outcome is None:
            raise WorkerDied(f"its process {_end(status)}")
        kind, line = self._outcome
        if kind == "failed":
            raise WorkerFailed(line)


def _end(status: int) -> str:
    """Return how a process ended. status: its exit status, or the signal that killed it below zero."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    reason = " (the system does that where memory runs out)" if name == "SIGKILL" else ""
    return f"was killed by {name}{reason}"
