"""One process at a time in a folder, and a line that says who it is."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from files.reading import is_there, read_head
from files.writing import write_text

LOCK_NAME, HOLDER_END = ".t2i-lock", "-holder"
HOLDER_BEGINS = b"process "
SECONDS_BETWEEN_TRIES = 0.2
MOST_CHARACTERS = 300


@contextmanager
def locked(
    folder: Path,
    doing: str,
    *,
    announce: Callable[[str], None] | None = None,
    remedy: str = "another OUTPUT_DIR",
    name: str = LOCK_NAME,
    between_tries: Callable[[], None] = lambda: None,
) -> Iterator[None]:
    """Keep an existing folder for this process during the block; the death of the process lets go of it.

    doing: what this process does there, for others to read: "generates images". announce: wait for the holder, and
    tell who it is; None: do not wait. remedy: what the user can choose instead of waiting. name: the lock's file, where
    it is not the whole folder that is kept. between_tries: called while waiting; what it raises ends the wait.

    Raises:
        OSError: another process holds the folder (and `announce` is None); the line names it. Or a file of somebody
            else has the lock's name.
    """
    from filelock import FileLock, Timeout

    holder = folder / (name + HOLDER_END)
    if strangers := foreign_locks(folder, name):
        raise OSError(f"{folder / strangers[0]} is not this program's, and locking would replace it: move it away")
    lock = FileLock(folder / name, timeout=0, thread_local=False)
    is_told = False
    while not lock.is_locked:
        try:
            lock.acquire(timeout=SECONDS_BETWEEN_TRIES if is_told else 0, poll_interval=SECONDS_BETWEEN_TRIES / 4)
        except Timeout:
            who = read_holder(folder, name)
            if announce is None:
                raise OSError(f"{folder} is in use: {who}; wait for it, or choose {remedy}") from None
            if not is_told:
                announce(f"waiting for {folder}: {who}")
            is_told = True
            between_tries()
    try:
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        with suppress(OSError):  # on a full disk the lock still holds; only its reader is told less
            host = f"process {os.getpid()} on {socket.gethostname()}"
            write_text(holder, f"{host} {doing} since {now}\n", sync=False)
        yield
    finally:
        with suppress(OSError):
            holder.unlink(missing_ok=True)
        lock.release()


def foreign_locks(folder: Path, name: str = LOCK_NAME) -> list[str]:
    """Return which of the two names that a lock takes in `folder` are taken by files that are not ours."""
    lock, holder = folder / name, folder / (name + HOLDER_END)
    strangers = [name] if is_there(lock) and not is_lock(lock) else []
    with suppress(FileNotFoundError):  # its process may let go at this moment
        if is_there(holder) and (holder.is_symlink() or read_head(holder, len(HOLDER_BEGINS)) != HOLDER_BEGINS):
            strangers.append(holder.name)
    return strangers


def is_lock(path: Path) -> bool:
    """Return whether a file can be a lock of ours, which is always empty: locking empties any other."""
    return not path.is_symlink() and path.is_file() and path.stat().st_size == 0


def read_holder(folder: Path, name: str = LOCK_NAME) -> str:
    """Return who holds the folder's lock, as one phrase."""
    try:
        text = (folder / (name + HOLDER_END)).read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return text[:MOST_CHARACTERS].strip() or "another process"
