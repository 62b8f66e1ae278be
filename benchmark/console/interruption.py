"""SIGINT (Ctrl-C), SIGTERM and SIGHUP end a program alike: in one line, with a status that says which, no traceback.

Imports nothing that takes time: programs install the handling before they import the rest.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from benchmark.console.streams import guarded

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_HANGUP = getattr(signal, "SIGHUP", None)
# The shell and the system both tell of a terminal that closes.
_SECONDS_OF_ONE_HANGUP = 1.0
STOPPING = "Stopping after this batch or pass; Ctrl-C again stops at once."
Handler = Callable[[int, FrameType | None], None]


class Stopped(KeyboardInterrupt):
    """A signal ends the program; `status` is the exit status that says which: 130, 143, 129."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


def status_of(stop: KeyboardInterrupt) -> int:
    """Return the exit status that says which signal stopped the program."""
    return stop.status if isinstance(stop, Stopped) else 128 + signal.SIGINT


def exit_status_of(program: Callable[[], int], name: str, message: str, wait_s: float = 0.0) -> int:
    """Return the exit status of `program`, which signals may stop and whose streams may fail.

    The three signals raise `Stopped` in the program. Where that arrives here, "name: message" is the one line on
    stderr, and the status is 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP. A program that catches KeyboardInterrupt
    itself returns `status_of` it. Where `message` is empty, another process has the line. A signal that comes
    where what it raises would be lost (while modules are imported, in a callback of a library) ends the program after
    `wait_s` seconds, in which a thread may find out why it came. The streams are guarded as
    `benchmark.console.streams.guarded` says. A script ends with

        if __name__ == "__main__":
            leave(exit_status_of(main, "prepare_inputs", "stopped; the same command goes on from here"))
    """
    line = f"{name}: {message}" if message else ""
    raising, has_begun = _Raising(line, wait_s), False
    try:
        with guarded(name), raising.ending_where_ignored(), _handling(raising):
            has_begun = True
            try:
                return program()
            except KeyboardInterrupt as stop:
                if line:
                    print(line, file=sys.stderr)
                return status_of(stop)
    except KeyboardInterrupt as stop:  # before the program, while the line was printed, or after it
        if not has_begun:
            _tell(line)
        return status_of(stop)


def leave(status: int) -> NoReturn:
    """End the process with `status`. A signal from here on ends it at once, without a traceback."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    downloads = sys.modules.get("files.downloads")
    if downloads is not None and downloads.has_left_downloads():  # Python would wait for the library's threads
        _end_at_once(status)
    sys.exit(status)


class Stop:
    """Says whether a signal has asked to stop. `status` is the exit status for it, 0 where none has."""

    def __init__(self, number: int = 0, is_quiet: bool = False) -> None:
        self._number, self._is_quiet = number, is_quiet
        self._since = time.monotonic()

    def __call__(self) -> bool:
        return self._number != 0

    @property
    def status(self) -> int:
        return 128 + self._number if self._number else 0

    def raise_stopped(self) -> None:
        """Raise `Stopped` where a signal has asked to stop: for work that has nothing to show yet."""
        if self._number:
            raise Stopped(self._number)

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Note the first signal, and raise `Stopped` at the next."""
        now = time.monotonic()
        if self._number:
            if number == self._number == _HANGUP and now - self._since < _SECONDS_OF_ONE_HANGUP:
                return
            raise Stopped(number)
        self._number, self._since = number, now
        if not self._is_quiet:
            _tell(STOPPING)


@contextmanager
def stop_on_interrupt(is_quiet: bool = False) -> Iterator[Stop]:
    """Yield what says whether a signal has asked to stop; a second signal raises `Stopped` at once.

    is_quiet: the line that says so is left to another one.

    The handlers before are put back at the end.

    Raises:
        Stopped: a signal came before the block, and a library has caught what was raised.
    """
    former = signal.getsignal(signal.SIGINT)
    if isinstance(former, _Raising) and former.seen:
        raise Stopped(former.seen)
    stop = Stop(is_quiet=is_quiet)
    with _handling(stop.handle):
        yield stop


class _Raising:
    """A handler that raises `Stopped`, and remembers it, since some libraries catch all that is raised in them.

    While modules are imported it ends the process instead, with the line: what is raised in a callback of the import
    system is shown as "Exception ignored", and lost.
    """

    def __init__(self, line: str, wait_s: float = 0.0) -> None:
        self._line, self._wait_s = line, wait_s
        self.seen = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        self.seen = self.seen or number
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                self._end(number)
            frame = frame.f_back
        raise Stopped(number)

    @contextmanager
    def ending_where_ignored(self) -> Iterator[None]:
        """End the process where a signal of this block was raised in what can raise nothing: a finalizer, a callback.

        Python would show "Exception ignored" and a traceback, and go on.
        """
        former = sys.unraisablehook

        def end_or_show(ignored: sys.UnraisableHookArgs) -> None:
            if isinstance(ignored.exc_value, Stopped):
                self._end(ignored.exc_value.status - 128)
            former(ignored)

        sys.unraisablehook = end_or_show
        try:
            yield
        finally:
            sys.unraisablehook = former

    def _end(self, number: int) -> NoReturn:
        for other in SIGNALS:
            signal.signal(other, signal.SIG_IGN)  # what it would raise would be lost, too
        time.sleep(self._wait_s)
        _tell(self._line)
        _end_at_once(128 + number)


@contextmanager
def _handling(handler: Handler) -> Iterator[None]:
    """Have the signals handled during the block, where this is the main thread; SIGHUP stays ignored under nohup."""
    former = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, handler_before in former.items():
            if number == _HANGUP and handler_before is signal.SIG_IGN:
                continue
            with suppress(ValueError):  # not the main thread, the only one that may
                signal.signal(number, handler)
        yield
    finally:
        for number, handler_before in former.items():
            with suppress(ValueError):
                signal.signal(number, signal.SIG_DFL if handler_before is None else handler_before)


def _end_at_once(status: int) -> NoReturn:
    """End the process with what was printed, wherever it is, and wait for no thread."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, RuntimeError):  # the last: a signal came while it was printed to
            stream.flush()
    os._exit(status)


def _tell(line: str) -> None:
    """Write a line to stderr's descriptor: a handler may not use sys.stderr, which it may have interrupted."""
    if line:
        with suppress(OSError):
            os.write(2, f"{line}\n".encode())
