"""Progress on stderr: a bar with images/s and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, cast

from tqdm import tqdm

from benchmark.console.plain_text import visible
from files.downloads import describe_bytes

SECONDS_BETWEEN_LINES = 10.0
BYTES = "B"


class _Nowhere(io.TextIOBase):
    def write(self, text: str) -> int:
        return len(text)


def silent_stream() -> TextIO:
    """Return a stream that shows nothing, for a process whose progress another one shows."""
    return cast(TextIO, _Nowhere())


class Task:
    """One count towards a total. Steps that were there before (`made=False`) do not count for the rate."""

    def __init__(self, name: str, total: int, stream: TextIO, unit: str) -> None:
        self._name, self._total, self._stream, self._unit = visible(name), total, stream, unit
        scale = unit == BYTES
        has_work = scale or total > 0  # the size of a download may not be known
        self._bar = (
            tqdm(total=total or None, desc=self._name, unit=unit, unit_scale=scale, file=stream)
            if has_work and stream.isatty()
            else None
        )
        self._done = self._made = 0
        self._told = -1 if has_work else 0  # the count of the last line
        self._start = self._printed = time.monotonic()

    def advance(self, steps: int, made: bool = True) -> None:
        """Count `steps` more."""
        self._done += steps
        if made:
            self._made += steps
        if self._bar is not None:
            if made:
                self._bar.update(steps)
            else:
                self._bar.initial += steps
                self._bar.n += steps
                self._bar.refresh()
        elif time.monotonic() - self._printed >= SECONDS_BETWEEN_LINES:
            self._print_line()

    def report(self, done: int, _total: int) -> None:
        """Count up to `done`: for work that tells how far it is."""
        self.advance(done - self._done)

    def close(self) -> None:
        """End the count; the last line says how far it came, unless the line before did."""
        if self._bar is not None:
            self._bar.close()
        elif self._done != self._told:
            self._print_line()

    def _print_line(self) -> None:
        self._printed, self._told = time.monotonic(), self._done
        seconds = self._printed - self._start
        rate = self._made / seconds if seconds > 0 else 0.0
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
        if self._unit == BYTES:
            total = f" of {describe_bytes(self._total)}" if self._total else ""
            count, speed = f"{describe_bytes(self._done)}{total}", f", {describe_bytes(int(rate))}/s"
        else:
            count, speed = f"{self._done}/{self._total}", f", {rate:.2f} {self._unit}/s"
        print(f"{self._name}: {count}{speed if self._made else ''}{left}", file=self._stream, flush=True)


class Progress:
    """Where progress goes: stderr, unless a test gives another stream."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stderr

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        """Yield a task that ends with the block."""
        task = Task(name, total, self._stream, unit)
        try:
            yield task
        finally:
            task.close()

    @contextmanager
    def counted(self, name: str, total: int) -> Iterator[Callable[[int], None]]:
        """Yield what is told of how many images are done, for who knows no tasks."""
        with self.task(name, total) as task:
            yield lambda done: task.report(done, total)

    @contextmanager
    def arriving(self, what: str, size: int) -> Iterator[Callable[[int], None]]:
        """Yield a function that takes how many bytes of a download have arrived. size: in all, 0: not known."""
        if not self._stream.isatty():
            self.note(f"downloading {what} ({describe_bytes(size or None)})")
        with self.task(what, size, BYTES) as task:
            yield lambda done: task.report(done, size)

    def note(self, message: str) -> None:
        """Print one line of its own, in which what cannot be seen is escaped."""
        line = visible(message)
        if self._stream.isatty():
            tqdm.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)
