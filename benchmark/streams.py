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

from benchmark.plain_text import visible

# What tqdm writes on its own to go to another line: returns, newlines, moves upwards.
_CURSOR_MOVES = re.compile(r"(?:[\r\n]|\x1b\[A)+")


class GuardedText(io.TextIOBase):
    """A text stream for people: what cannot be written is dropped, and nothing in the text acts on the terminal.

    Control characters are shown as backslash escapes, but for newline, tab, a carriage return at the start, and the
    moves of the cursor that progress bars make.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        shown = _shown(text)
        with suppress(OSError, ValueError):  # closed, full, a broken pipe: who cannot listen is told nothing
            try:
                self.stream.write(shown)
            except UnicodeEncodeError:
                self.stream.write(shown.encode("ascii", "backslashreplace").decode("ascii"))
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self.stream.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return not self.stream.closed and self.stream.isatty()

    def fileno(self) -> int:
        return self.stream.fileno()

    def close(self) -> None:
        """Leave the stream open: whoever opened it closes it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]  # TextIOBase declares a variable
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def buffer(self) -> object:
        return self.stream.buffer


class _Closed(io.TextIOBase):
    """Stands for a stream that was closed before the start: what is written is lost, which the next flush tells."""

    def __init__(self) -> None:
        self._has_lost = False

    def write(self, text: str) -> int:
        self._has_lost = True
        return len(text)

    def flush(self) -> None:
        if self._has_lost:
            self._has_lost = False
            raise OSError("it is closed")


def _shown(text: str) -> str:
    if text.isprintable() or _CURSOR_MOVES.fullmatch(text):
        return text
    start = "\r" if text.startswith("\r") else ""
    return start + visible(text[len(start) :], keep="\n\t")


@contextmanager
def guarded(name: str) -> Iterator[None]:
    """Guard sys.stdout and sys.stderr during the block, which is a whole program called `name`.

    Descriptors 0 to 2 that are closed get the null device, so that no file of the program is taken for one of them.
    stderr becomes a `GuardedText`. stdout shows as escapes what its encoding lacks; what it cannot take at the end is
    told on stderr in one line, and changes no exit status.
    """
    occupy_descriptors()
    output, errors = sys.stdout, sys.stderr
    if not isinstance(errors, GuardedText):
        # sys.stderr is None where its descriptor was closed, which is the null device by now.
        if errors is None:
            sys.stderr = GuardedText(open(2, "w", encoding="utf-8", closefd=False))  # noqa: SIM115
        else:
            sys.stderr = GuardedText(errors)
    handling = getattr(output, "errors", None)
    if output is None:
        sys.stdout = _Closed()
    elif isinstance(output, io.TextIOWrapper):
        output.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        if reason := _flush_failure():
            print(f"{name}: what it printed cannot be written to stdout ({reason})", file=sys.stderr)
        if isinstance(sys.stderr, GuardedText):
            try:
                sys.stderr.stream.flush()
            except (OSError, ValueError):
                _silence(sys.stderr.stream)
        if isinstance(output, io.TextIOWrapper) and not output.closed:
            output.reconfigure(errors=handling)
        sys.stdout, sys.stderr = output, errors


def occupy_descriptors() -> None:
    """Open the null device as each of the descriptors 0, 1 and 2 that is closed."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it gets the lowest number that is free


def print_whole(text: str) -> str:
    """Print text on stdout, all of it; return why that is not possible, "" where it was done."""
    try:
        print(text)
    except (OSError, ValueError) as error:
        _silence(sys.stdout)
        return _reason(error)
    return _flush_failure()


def _flush_failure() -> str:
    """Flush stdout; return why that fails, "" where it does not. What it still holds is dropped then."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        _silence(sys.stdout)
        return _reason(error)
    return ""


def _silence(stream: TextIO) -> None:
    """Lead a stream to the null device: Python flushes it at the exit, and would change the status where it cannot."""
    with suppress(OSError, ValueError):
        descriptor = stream.fileno()
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, descriptor)
        os.close(null)
        stream.flush()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
