"""Workers without processes: most tests look at what is made, not at where."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmark.console.plain_text import one_line
from benchmark.run.servers import Channel, WorkerFailed


class InProcess:
    """Runs the work of a worker in this process."""

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def is_ready(self, _: Callable[[], bool]) -> bool:
        return True

    def run(
        self, work: Callable[[Channel], None], on_message: Callable[[object], None], stopped: Callable[[], bool]
    ) -> None:
        try:
            work(InProcessChannel(on_message, stopped))
        except Exception as error:
            if not isinstance(error, OSError | ValueError):
                traceback.print_exc()
            raise WorkerFailed(f"{type(error).__name__}: {one_line(error)}") from error


class InProcessChannel:
    """Passes messages on at once."""

    def __init__(self, on_message: Callable[[object], None], stopped: Callable[[], bool]) -> None:
        self.send, self.stopped = on_message, stopped


@contextmanager
def open_in_process(count: int, *_: object, **__: object) -> Iterator[list[InProcess]]:
    """Stand in for `benchmark.run.servers.open_servers`."""
    yield [InProcess() for _ in range(count)]
