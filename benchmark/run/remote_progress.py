"""Progress of a worker, shown by the parent: each call in the worker is a message, and the same call in the parent."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from benchmark.console.progress import Progress, Task

if TYPE_CHECKING:
    from benchmark.run.servers import Channel

EnteredT = TypeVar("EnteredT")


@dataclass(frozen=True)
class Opened:
    """A task began; the worker numbers its tasks."""

    task: int
    name: str
    total: int
    unit: str


@dataclass(frozen=True)
class Arriving:
    """A download began, which counts as a task. size: bytes in all, 0: not known."""

    task: int
    what: str
    size: int


@dataclass(frozen=True)
class Advanced:
    """A task is so many steps further. made: whether they count for the rate."""

    task: int
    steps: int
    made: bool


@dataclass(frozen=True)
class Closed:
    """A task ended."""

    task: int


@dataclass(frozen=True)
class Noted:
    """A line of its own."""

    line: str


class RemoteTask(Task):
    """A task that tells of its steps instead of showing them."""

    def __init__(self, channel: Channel, number: int) -> None:
        self._channel, self._number, self._done = channel, number, 0

    def advance(self, steps: int, made: bool = True) -> None:
        self._done += steps
        self._channel.send(Advanced(self._number, steps, made))

    def close(self) -> None:
        self._channel.send(Closed(self._number))


class RemoteProgress(Progress):
    """The progress of a worker, whose calls become messages."""

    def __init__(self, channel: Channel) -> None:
        self._channel, self._numbers = channel, itertools.count()

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        with self._opened(lambda number: Opened(number, name, total, unit)) as task:
            yield task

    @contextmanager
    def arriving(self, what: str, size: int) -> Iterator[Callable[[int], None]]:
        with self._opened(lambda number: Arriving(number, what, size)) as task:
            yield lambda done: task.report(done, size)

    def note(self, message: str) -> None:
        self._channel.send(Noted(message))

    @contextmanager
    def _opened(self, announce: Callable[[int], object]) -> Iterator[Task]:
        task = RemoteTask(self._channel, number := next(self._numbers))
        self._channel.send(announce(number))
        try:
            yield task
        finally:
            task.close()


@contextmanager
def relay(progress: Progress, doing: str = "") -> Iterator[Callable[[object], None]]:
    """Yield what takes a worker's messages and shows what they say; tasks that the worker left open end with the block.

    doing: what the worker does, "round 2 of 4": it follows the names of tasks.
    """
    shown = _Shown(progress, f", {doing}" if doing else "")
    try:
        yield shown.show
    finally:
        shown.close()


class _Shown:
    """A worker's tasks, as far as they are open."""

    def __init__(self, progress: Progress, doing: str) -> None:
        self._progress, self._doing = progress, doing
        self._open: dict[int, ExitStack] = {}
        self._advance: dict[int, Callable[[int, bool], None]] = {}

    def show(self, message: object) -> None:
        match message:
            case Opened(number, name, total, unit):
                self._advance[number] = self._enter(
                    number, self._progress.task(f"{name}{self._doing}", total, unit)
                ).advance
            case Arriving(number, what, size):
                self._advance[number] = _summing(self._enter(number, self._progress.arriving(what, size)))
            case Advanced(number, steps, made):
                self._advance[number](steps, made)
            case Closed(number):
                self._open.pop(number).close()
            case Noted(line):
                self._progress.note(line)
            case _:
                raise AssertionError(f"a worker sent {message!r}")

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()

    def _enter(self, number: int, block: AbstractContextManager[EnteredT]) -> EnteredT:
        self._open[number] = stack = ExitStack()
        return stack.enter_context(block)


def _summing(report: Callable[[int], None]) -> Callable[[int, bool], None]:
    """Return what counts steps and reports their sum."""
    done = 0

    def advance(steps: int, _made: bool) -> None:
        nonlocal done
        done += steps
        report(done)

    return advance
