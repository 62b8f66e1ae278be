"""What runs in a fork server, and in the workers that it forks; `benchmark.run.servers` is the parent's side.

Imports nothing that takes time. A server has one thread when it forks, and has neither touched CUDA nor computed
anything with torch, whose threads a forked process would wait for.

No process stays when another is killed. A server ends with its parent, and ends the worker and the processes that the
worker has started (all of its process group). Where the server is killed, the system kills the worker, and torch's
compile workers see that within a second.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle
from types import FrameType
from typing import Any, NoReturn

from benchmark.console.interruption import SIGNALS, Handler
from benchmark.console.plain_text import one_line
from benchmark.console.streams import guarded

SECONDS_BETWEEN_LOOKS = 0.1  # where the system has no descriptors of processes
_PR_SET_PDEATHSIG = 1


def main() -> NoReturn:
    """Serve. Arguments: sys.path, the descriptor of the connection, the parent's process id, modules to import."""
    _Server(Connection(int(sys.argv[2])), parent=int(sys.argv[3])).serve(sys.argv[4:])


class _Server:
    def __init__(self, jobs: Connection, parent: int) -> None:
        self._jobs = jobs
        self._parent = parent
        self._worker = 0

    def serve(self, preload: list[str]) -> NoReturn:
        _handle_signals(self._look_for_parent)
        _ask_for_signal_at_death_of_parent(signal.SIGTERM)
        self._look_for_parent()
        for name in preload:
            # A worker imports what it needs again, and tells what is wrong with it as its work's error.
            with suppress(Exception):
                importlib.import_module(name)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # whoever reads them may be gone
                stream.flush()
        gc.collect()
        gc.freeze()  # or each worker's first collection would copy the pages of all that was imported
        self._jobs.send("spoiled" if _has_touched_cuda() else "ready")
        while True:
            try:
                self._jobs.recv()
                descriptor = recv_handle(self._jobs)
            except (EOFError, OSError):
                self._end()
            self._run_worker(descriptor)

    def _run_worker(self, descriptor: int) -> None:
        server = os.getpid()
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # the server's handler is not the worker's
        self._worker = os.fork()
        if not self._worker:
            try:
                self._jobs.close()
                _be_worker(Connection(descriptor), server)
            finally:
                os._exit(1)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        with suppress(OSError):  # the worker does the same: whoever comes first
            os.setpgid(self._worker, self._worker)
        os.close(descriptor)
        self._send(self._worker)
        status = self._wait_for_worker()
        self._end_group()
        self._worker = 0
        self._send(os.waitstatus_to_exitcode(status))

    def _wait_for_worker(self) -> int:
        with _descriptors_of(self._worker) as ends:
            while True:
                if self._jobs in wait([self._jobs, *ends], None if ends else SECONDS_BETWEEN_LOOKS):
                    self._end()  # the parent says nothing while a worker runs: it is gone
                process, status = os.waitpid(self._worker, os.WNOHANG)
                if process:
                    return status

    def _send(self, answer: int) -> None:
        try:
            self._jobs.send(answer)
        except OSError:
            self._end()

    def _look_for_parent(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        if os.getppid() != self._parent:
            self._end()

    def _end_group(self) -> None:
        with suppress(OSError):  # no process of it is left
            os.killpg(self._worker, signal.SIGKILL)

    def _end(self) -> NoReturn:
        if self._worker:
            self._end_group()
        os._exit(0)


class _ParentsEnd:
    """A worker's `Channel`."""

    def __init__(self, talk: Connection) -> None:
        self._talk = talk
        self._lock = threading.Lock()
        self._stopped = False

    def send(self, message: object) -> None:
        self.tell("message", message)

    def tell(self, kind: str, content: object) -> None:
        with self._lock:
            self._talk.send((kind, content))

    def stopped(self) -> bool:
        # The parent says nothing else, and its end can be read as well.
        self._stopped = self._stopped or self._talk.poll()
        return self._stopped


def _be_worker(talk: Connection, server: int) -> NoReturn:
    _handle_signals(lambda _number, _frame: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with suppress(OSError):
        os.setpgid(0, 0)
    _ask_for_signal_at_death_of_parent(signal.SIGKILL)
    if os.getppid() != server:
        os._exit(1)
    with guarded("worker"), redirect_stdout(sys.stderr):
        _do_work(talk)
    # No `sys.exit`: what the server's libraries want done at the exit is the server's, and threads need not end.
    os._exit(0)


def _do_work(talk: Connection) -> None:
    channel = _ParentsEnd(talk)
    try:
        packed = talk.recv_bytes()
        try:
            work = pickle.loads(packed)
        except (ImportError, AttributeError) as error:
            raise AssertionError(f"work must stand in a module that a worker can import: {error}") from error
        work(channel)
    except BaseException as error:  # whatever it is, it ended the work, and the parent decides
        if not isinstance(error, OSError | ValueError):
            traceback.print_exc()
        text = one_line(error) if isinstance(error, Exception) else one_line(str(error))
        outcome = "failed", f"{type(error).__name__}: {text}"
    else:
        outcome = "done", ""
    with suppress(OSError):  # the parent is gone
        channel.tell(*outcome)


def _handle_signals(handler: Handler) -> None:
    """Have the signals that stop a program handled here. Ignored ones would be so in processes that workers start."""
    for number in SIGNALS:
        signal.signal(number, handler)


def _ask_for_signal_at_death_of_parent(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)


def _has_touched_cuda() -> bool:
    """Return whether a forked process could not use CUDA. The fork also ends the threads of numpy's OpenBLAS."""
    probe = os.fork()
    if not probe:
        torch: Any = sys.modules.get("torch")
        os._exit(int(torch is not None and torch.cuda._is_in_bad_fork()))
    return os.waitpid(probe, 0)[1] != 0


@contextmanager
def _descriptors_of(process: int) -> Iterator[list[int]]:
    """Yield a descriptor that can be read once the process has ended; none where the system has no such thing."""
    try:
        descriptor = os.pidfd_open(process)
    except (AttributeError, OSError):  # not Linux, or an old one
        yield []
        return
    try:
        yield [descriptor]
    finally:
        os.close(descriptor)
