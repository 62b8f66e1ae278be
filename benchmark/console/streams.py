"""stdout and stderr that may be closed, full or broken: neither costs a run its results or its exit status.

Imports nothing that takes time: programs guard their streams before they import the rest.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from benchmark.console.plain_text import visible

# What tqdm writes on its own to go to another line: returns, newlines, moves upwards.
_CURSOR_MOVES = re.compile(r"(?:[\r\n]|\x1b\[A)+")


class Guarded(io.TextIOBase):
    """A text stream that never fails: what it cannot take is lost, and `failure` says why, "" while nothing is.

    Characters that its encoding lacks are shown as backslash escapes. stream: None stands for a closed one.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.failure = ""

    def write(self, text: str) -> int:
        with self._noting_failure():
            if self.stream is None:
                raise OSError("it is closed")
            try:
                self.stream.write(text)
            except UnicodeEncodeError:
                self.stream.write(text.encode(self.encoding, "backslashreplace").decode(self.encoding))
        return len(text)

    def flush(self) -> None:
        with self._noting_failure():
            if self.stream is not None:
                self.stream.flush()

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: the file object is closed
            reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
            self.failure = self.failure or reason

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return self.stream is not None and not self.stream.closed and self.stream.isatty()

    def fileno(self) -> int:
        return super().fileno() if self.stream is None else self.stream.fileno()

    def close(self) -> None:
        """Leave the stream open: whoever opened it closes it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase declares a variable
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> object:
        return getattr(self.stream, "buffer", None)


class GuardedMessages(Guarded):
    """A stream of messages for people: nothing in the text acts on the terminal.

    Control characters are shown as backslash escapes, but for newline, tab, a carriage return at the start, and the
    moves of the cursor that progress bars make.
    """

    def write(self, text: str) -> int:
        super().write(_shown(text))
        return len(text)


def _shown(text: str) -> str:
    if text.isprintable() or _CURSOR_MOVES.fullmatch(text):
        return text
    start = "\r" if text.startswith("\r") else ""
    return start + visible(text[len(start) :], keep="\n\t")


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Guard sys.stdout and sys.stderr during the block, which is a whole program called `name`.

    Descriptors 0 to 2 that are closed get the null device, so that no file of the program is taken for one of them.
    What stdout cannot take is told at the end in one line on stderr; what stderr cannot take is lost. Neither changes
    the exit status.
    """
    occupy_descriptors()
    former = sys.stdout, sys.stderr
    if isinstance(former[0], Guarded):  # a program that another one runs
        yield
        return
    # Python has None for a stream whose descriptor was closed; libraries may ask stderr for its descriptor.
    errors = former[1] if former[1] is not None else open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    output, messages = Guarded(former[0]), GuardedMessages(errors)
    sys.stdout, sys.stderr = output, messages
    try:
        yield
    finally:
        output.flush()
        if output.failure:
            print(f"{name}: what it printed cannot be written to stdout ({output.failure})", file=messages)
        messages.flush()
        sys.stdout, sys.stderr = former
        for stream in (output, messages):
            if stream.failure:
                _silence(stream)


def occupy_descriptors() -> None:
    """Open the null device as each of the descriptors 0, 1 and 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def print_whole(text: str) -> str:
    """Print text on stdout, all of it; return why that is not possible, "" where it was done."""
    stream = sys.stdout if isinstance(sys.stdout, Guarded) else Guarded(sys.stdout)
    print(text, file=stream, flush=True)
    failure, stream.failure = stream.failure, ""
    if failure:
        _silence(stream)
    return failure


def _silence(stream: Guarded) -> None:
    """Lead a stream to the null device: Python flushes it at the exit, and would change the status where it cannot."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
    stream.flush()
    stream.failure = ""
