"""What a worker says of its progress is what the parent shows."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable

import pytest

from benchmark.console.progress import Progress
from benchmark.run.remote_progress import Advanced, Opened, RemoteProgress, relay


class Pipe:
    """A channel whose messages are pickled on their way, as between processes."""

    def __init__(self, on_message: Callable[[object], None]) -> None:
        self._on_message = on_message

    def send(self, message: object) -> None:
        self._on_message(pickle.loads(pickle.dumps(message)))

    def stopped(self) -> bool:
        return False


def shown(work: Callable[[Progress], object], doing: str = "") -> str:
    """Return what the parent prints while a worker does its work."""
    said = io.StringIO()
    with relay(Progress(said), doing) as on_message:
        work(RemoteProgress(Pipe(on_message)))
    return said.getvalue()


def test_a_task_counts_in_the_parent_under_the_name_of_what_is_done() -> None:
    def work(progress: Progress) -> None:
        with progress.task("PixArt", 25) as task:
            task.advance(5, made=False)
            task.advance(20)

    assert shown(work, "round 2 of 4").startswith("PixArt, round 2 of 4: 25/25, ")
    assert shown(work).startswith("PixArt: 25/25, ")


def test_a_note_is_a_line_of_its_own() -> None:
    assert shown(lambda progress: progress.note("a line")) == "a line\n"


def test_counts_and_downloads_pass_too() -> None:
    def work(progress: Progress) -> None:
        with progress.counted("files", 3) as count:
            count(2)
            count(3)
        with progress.arriving("a model", 2_000_000) as arrived:
            arrived(1_500_000)

    lines = shown(work).splitlines()
    assert lines[0].startswith("files: 3/3")
    assert lines[1] == "downloading a model (2.0 MB)"
    assert lines[2].startswith("a model: 1.5 MB of 2.0 MB")


def test_two_tasks_at_once_are_told_apart() -> None:
    def work(progress: Progress) -> None:
        with progress.task("outer", 2) as outer, progress.task("inner", 3) as inner:
            inner.advance(3)
            outer.advance(2)

    lines = shown(work).splitlines()
    assert lines[0].startswith("inner: 3/3")
    assert lines[1].startswith("outer: 2/2")


def test_a_task_that_a_dead_worker_left_open_ends_with_it() -> None:
    said = io.StringIO()
    with relay(Progress(said)) as on_message:
        on_message(Opened(0, "PixArt", 25, "images"))
        on_message(Advanced(0, 3, True))
        assert said.getvalue() == ""
    assert said.getvalue().startswith("PixArt: 3/25")


def test_an_unknown_message_is_our_own_fault() -> None:
    with relay(Progress(io.StringIO())) as on_message, pytest.raises(AssertionError, match="a worker sent"):
        on_message("hello")
