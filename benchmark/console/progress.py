"""Progress on stderr: a bar with images/s and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from tqdm import tqdm

from benchmark.console.plain_text import visible

SECONDS_BETWEEN_LINES = 10.0


class Task:
    """One count towards a total. Steps that were there before (`made=False`) do not count for the rate."""

    def __init__(self, name: str, total: int, stream: TextIO, unit: str) -> None:
        self._name, self._total, self._stream, self._unit = visible(name), total, stream, unit
        self._bar = tqdm(total=total, desc=self._name, unit=unit, file=stream) if stream.isatty() else None
        self._done = self._made = 0
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
        if self._bar is not None:
            self._bar.close()
        else:
            self._print_line()

    def _print_line(self) -> None:
        self._printed = time.monotonic()
        seconds = self._printed - self._start
        rate = self._made / seconds if seconds > 0 else 0.0
        left = f", {(self._total - self._done) / rate:.0f} s left" if rate and self._done < self._total else ""
        speed = f", {rate:.2f} {self._unit}/s" if self._made else ""
        print(f"{self._name}: {self._done}/{self._total}{speed}{left}", file=self._stream, flush=True)


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

    def note(self, message: str) -> None:
        """Print one line of its own, in which what cannot be seen is escaped."""
        line = visible(message)
        if self._stream.isatty():
            tqdm.write(line, file=self._stream)
        else:
            print(line, file=self._stream, flush=True)
