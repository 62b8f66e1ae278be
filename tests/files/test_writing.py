"""Files appear whole or not at all, and errors name them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from files.writing import PREFIX, append_line, naming, partial_path, remove_leftovers, write_atomically, write_text


def test_a_file_is_replaced_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text(path, "one\r\nünï\n")
    write_text(path, "two")
    assert path.read_bytes() == b"two"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_after_an_error_the_former_file_stands_and_the_partial_one_is_gone(
    tmp_path: Path, error: BaseException
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "before")

    def write() -> None:
        with write_atomically(path) as partial:
            partial.write_text("half")
            raise error

    with pytest.raises(type(error)):
        write()
    assert path.read_text() == "before"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


def test_a_partial_file_says_host_and_process(tmp_path: Path) -> None:
    name = partial_path(tmp_path / "a.png").name
    assert name.startswith(f"{PREFIX}-")
    assert name.endswith(f"-{os.getpid()}-a.png")


def test_a_full_disk_names_the_file_and_not_the_partial_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*results\.json'"), naming(tmp_path / "results.json"):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=r"/dev/full"):
        append_line(Path("/dev/full"), "line")
    with pytest.raises(OSError, match=r"'/proc/file\.txt'"):
        write_text(Path("/proc/file.txt"), "x")


def test_leftovers_are_those_of_dead_processes_of_this_host(tmp_path: Path) -> None:
    mine = partial_path(tmp_path / "a")
    names = {
        "dead": mine.name.replace(f"-{os.getpid()}-", "-99999999-"),
        "living": mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"),
        "mine": mine.name,
        "theirs": f"{PREFIX}-x-notes.txt",
    }
    for name in names.values():
        (tmp_path / name).write_text("half")
    assert remove_leftovers(tmp_path) == 1
    assert {path.name for path in tmp_path.iterdir()} == set(names.values()) - {names["dead"]}
    assert remove_leftovers(tmp_path, own=True) == 1
    assert not mine.exists()
    assert remove_leftovers(tmp_path / "nowhere") == 0


def test_a_process_that_has_ended_and_is_not_waited_for_writes_nothing_any_more(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # its id stays taken
    mine = partial_path(tmp_path / "a")
    (tmp_path / mine.name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")).write_text("half")
    assert remove_leftovers(tmp_path) == 1
    assert ended.wait() == 0
