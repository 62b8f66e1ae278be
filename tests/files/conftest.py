"""A place in which nothing may run and nothing may be asked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from hostile_files import MARK


class Terminal:
    """A terminal at which someone would answer yes to everything; being read is the fault."""

    def __init__(self) -> None:
        self.read_lines = 0

    def readline(self, *_: object) -> str:
        self.read_lines += 1
        return "yes\n"

    read = readline

    def isatty(self) -> bool:
        return True


@pytest.fixture
def nothing_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the test in a folder of its own, and see to it that no code wrote the mark and that stdin was not read."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the terminal was asked"))
    yield tmp_path
    assert not list(tmp_path.rglob(MARK))
    assert terminal.read_lines == 0
