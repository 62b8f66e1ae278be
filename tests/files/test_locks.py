"""One process at a time in a folder."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import pytest

from files.locks import HOLDER_END, LOCK_NAME, locked, read_holder


def _hold(folder: str, held: object) -> None:
    with locked(Path(folder), "holds the folder"):
        held.set()  # type: ignore[attr-defined]
        time.sleep(60)


def test_a_second_process_is_refused_with_the_first_ones_number(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    held = context.Event()
    holder = context.Process(target=_hold, args=(str(tmp_path), held))
    holder.start()
    assert held.wait(20)
    with pytest.raises(
        OSError, match=rf"in use: process {holder.pid} on .* holds the folder since .*another OUTPUT_DIR"
    ):
        locked(tmp_path, "wants it").__enter__()
    holder.kill()
    holder.join()
    with locked(tmp_path, "has it"):
        assert f"process {os.getpid()} " in read_holder(tmp_path), "a killed process lets go"
    assert not (tmp_path / (LOCK_NAME + HOLDER_END)).exists()


def test_a_wait_tells_once_who_is_waited_for_and_ends_where_it_is_given_up(tmp_path: Path) -> None:
    told: list[str] = []
    tries = 0

    def give_up() -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise KeyboardInterrupt

    waiting = locked(tmp_path, "waits", announce=told.append, between_tries=give_up)
    with locked(tmp_path, "holds the folder"), pytest.raises(KeyboardInterrupt):
        waiting.__enter__()
    assert len(told) == 1
    assert f"process {os.getpid()} " in told[0]


def test_a_disk_without_room_for_the_holders_line_does_not_unlock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("files.locks.write_text", full)
    with locked(tmp_path, "holds the folder"), pytest.raises(OSError, match="in use: another process"):
        locked(tmp_path, "wants it").__enter__()


def test_a_file_of_somebody_else_at_the_locks_name_is_not_emptied(tmp_path: Path) -> None:
    path = tmp_path / LOCK_NAME
    path.write_text("mine")
    with pytest.raises(OSError, match="is not this program's"):
        locked(tmp_path, "wants it").__enter__()
    assert path.read_text() == "mine"
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is not this program's"):
        locked(tmp_path, "wants it").__enter__()
