"""What progress prints, in lines and on a terminal."""

from __future__ import annotations

import io

import pytest

from benchmark.console import progress as module
from benchmark.console.progress import Progress


class Terminal(io.StringIO):
    """What is a terminal to who writes to it."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def printed(monkeypatch: pytest.MonkeyPatch, total: int, steps: int, seconds_between: float = 10.0) -> list[str]:
    """Return the lines of a task that advances one by one."""
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LINES", seconds_between)
    said = io.StringIO()
    with Progress(said).task("VAR", total) as task:
        for _ in range(steps):
            task.advance(1)
    return said.getvalue().splitlines()


def test_a_short_task_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [line.partition(",")[0] for line in printed(monkeypatch, 3, 3)] == ["VAR: 3/3"]


def test_a_count_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = printed(monkeypatch, 3, 3, seconds_between=0.0)
    assert [line.partition(",")[0] for line in lines] == ["VAR: 1/3", "VAR: 2/3", "VAR: 3/3"]


def test_a_task_that_made_nothing_of_its_total_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 3, 0) == ["VAR: 0/3"]


def test_a_task_without_work_prints_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert printed(monkeypatch, 0, 0) == []


def test_a_terminal_shows_a_bar_where_there_is_work() -> None:
    with_work, without = Terminal(), Terminal()
    for said, total in ((with_work, 3), (without, 0)):
        with Progress(said).task("VAR", total) as task:
            task.advance(total)
    assert "VAR: 100%" in with_work.getvalue()
    assert without.getvalue() == ""
