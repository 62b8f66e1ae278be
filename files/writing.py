"""Files that appear whole or not at all: written aside, synced, renamed. What a killed process left is removed."""

from __future__ import annotations

import glob
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".t2i-partial"
_HOST = re.sub(r"[^A-Za-z0-9]", "_", socket.gethostname())[:32] or "host"
_PARTIAL = re.compile(rf"{re.escape(PREFIX)}-(?P<host>\w+)-(?P<process>\d+)-.+", re.DOTALL)


def partial_path(path: Path) -> Path:
    """Return where this process writes `path` before it is whole: beside it, with our prefix, host and process id."""
    return path.with_name(f"{PREFIX}-{_HOST}-{os.getpid()}-{path.name}")


@contextmanager
def write_atomically(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield the path of a partial file to write; at the end of the block it is synced and takes the place of `path`.

    Another process, and a run after a kill, sees the old file or the new one, never a part. After an error the partial
    file is gone and `path` is as it was. The folder of `path` is made where it does not exist.

    sync: False for what can be made again: after a power failure such a file may be empty.

    Raises:
        OSError: it cannot be written; the error names `path`.
    """
    partial = partial_path(path)
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield partial
            publish(partial, path, sync=sync)
        except BaseException:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str, *, sync: bool = True) -> None:
    """Write `text` as UTF-8 to `path`, whole or not at all. Raises OSError that names `path`."""
    with write_atomically(path, sync=sync) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def publish(partial: Path, path: Path, *, sync: bool = True) -> None:
    """Give a written partial file its name; with `sync` its content is on the disk before, and the name after."""
    if sync:
        sync_file(partial)
    partial.replace(path)
    if sync:
        sync_folder(path.parent)


def sync_file(path: Path) -> None:
    """Wait until the file's content is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can tell."""
    with suppress(OSError):  # some file systems, and Windows, have no such call for folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def append_line(path: Path, line: str, *, sync: bool = True) -> None:
    """Add a line to a file and make sure that it is on the disk. Raises OSError that names `path`."""
    with naming(path), path.open("a", encoding="utf-8", newline="") as file:
        file.write(line + "\n")
        file.flush()
        if sync:
            os.fsync(file.fileno())


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name `path` in errors of the operating system that name no file, as "No space left on device" does."""
    try:
        yield
    except OSError as error:
        if error.errno is None or (error.filename is not None and PREFIX not in str(error.filename)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def remove_leftovers(folder: Path, *, own: bool = False) -> int:
    """Delete partial files that processes of this host left in `folder` when they were killed; return how many.

    Call it only for a folder of ours while its lock is held. Files of processes that live, and of other hosts, stay.
    own: delete those of this process instead, which nothing is writing any more.
    """
    removed = 0
    for path in list(folder.glob(f"{PREFIX}-*")) if folder.is_dir() else []:
        if not _is_leftover(path, own=own):
            continue
        with suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def remove_leftover_folders(target: Path, mark: str) -> int:
    """Delete partial folders of `target` that processes of this host left when they were killed; return how many.

    Only those are deleted that hold a file `mark`, as ours do from their first moment on, or nothing at all. Call it
    while the lock on `target` is held.
    """
    import shutil

    removed = 0
    for path in list(target.parent.glob(f"{PREFIX}-*-{glob.escape(target.name)}")):
        if path.is_symlink() or not path.is_dir() or not _is_leftover(path):
            continue
        if (path / mark).is_file() or not any(path.iterdir()):
            shutil.rmtree(path, ignore_errors=True)
            removed += 1
    return removed


def _is_leftover(path: Path, *, own: bool = False) -> bool:
    """Return whether a path is a partial one of a process of this host that is dead, or that is this one."""
    found = _PARTIAL.fullmatch(path.name)
    if found is None or found["host"] != _HOST:
        return False
    process = int(found["process"])
    return process == os.getpid() if own else not _lives(process)


def _lives(process: int) -> bool:
    """Return whether a process can still write. One that has ended has its id until its parent has waited for it."""
    import psutil

    try:
        return psutil.Process(process).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
