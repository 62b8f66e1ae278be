"""Which files of a folder are ours: each is named in an append-only list before it gets its name.

So nothing of ours ever lies there unnamed, whenever the process is killed, and what the list does not name is
somebody's own. Where the content of a file is final, its digest stands in the list too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from files.reading import is_regular, read_regular, shown
from files.records import Damaged, seal, unseal
from files.writing import append_line, sync_file, write_atomically

_DIGEST_DIGITS = 64


class Ledger:
    """The list at `path` of the files that we wrote under `root`. Names are relative to `root`, with slashes.

    damaged: what is wrong with which line, as one phrase; empty where all lines are whole. Such a line names nothing.

    Raises:
        OSError: the list cannot be read.
    """

    def __init__(self, root: Path, path: Path) -> None:
        self.root, self.path = root, path
        self.damaged = ""
        self._digests: dict[str, set[str]] = {}
        self._has_open_line = False
        if not path.is_file():
            return
        content = read_regular(path)
        self._has_open_line = bool(content) and not content.endswith(b"\n")
        for number, line in enumerate(content.splitlines(), 1):
            try:
                name, digest = _checked(unseal(line))
            except Damaged as error:
                self.damaged = self.damaged or f"line {number} of {path} is damaged ({error})"
                continue
            self._digests.setdefault(name, set()).update([digest] if digest else [])

    def names(self) -> list[str]:
        """Return the names of all files that were ever written."""
        return list(self._digests)

    def owns(self, path: Path) -> bool:
        """Return whether the list names this file."""
        return self._name(path) in self._digests

    def is_whole(self, path: Path) -> bool:
        """Return whether the file is there with content that was recorded."""
        digests = self._digests.get(self._name(path), set())
        try:
            return bool(digests) and not path.is_symlink() and is_regular(path) and _digest(path) in digests
        except OSError:
            return False

    def foreign(self, paths: Iterable[Path]) -> list[str]:
        """Return the names of those paths that are there, as whatever kind of file, and not ours."""
        there = (path for path in paths if path.is_symlink() or path.exists())
        return [self._name(path) for path in there if path.is_symlink() or not (path.is_file() and self.owns(path))]

    def claim(self, path: Path) -> None:
        """Name a file that will change, unless it is named already. Raises OSError."""
        if not self.owns(path):
            self._append(path, "")

    @contextmanager
    def write(self, path: Path) -> Iterator[Path]:
        """Yield the path of a partial file to write; it is then named with its digest, and takes the place of `path`.

        Raises:
            OSError: it cannot be written; the error names `path`.
        """
        with write_atomically(path) as partial:
            yield partial
            sync_file(partial)
            self._append(path, _digest(partial))

    def write_bytes(self, path: Path, content: bytes) -> None:
        """Write a whole file. Raises OSError that names it."""
        with self.write(path) as partial:
            partial.write_bytes(content)

    def _append(self, path: Path, digest: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        name = self._name(path)
        if self._has_open_line:  # a line that a full disk cut
            append_line(self.path, "", sync=False)
            self._has_open_line = False
        append_line(self.path, seal({"file": name, "sha256": digest}))
        self._digests.setdefault(name, set()).update([digest] if digest else [])

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


def _checked(record: dict[str, Any]) -> tuple[str, str]:
    """Return a line's name and digest. Raises Damaged."""
    name, digest = record.get("file"), record.get("sha256")
    if record.keys() != {"file", "sha256"} or not isinstance(name, str) or not isinstance(digest, str):
        raise Damaged("it is no line of file and sha256")
    if digest and (len(digest) != _DIGEST_DIGITS or not all(digit in "0123456789abcdef" for digit in digest)):
        raise Damaged("its sha256 is none")
    if not name or "\0" in name or name.startswith("/") or ".." in name.split("/"):
        raise Damaged(f"{shown(name)} leads outside of the folder")
    return name, digest


def _digest(path: Path) -> str:
    """Return the SHA-256 of a file as it is now, from no cache: partial files have one name again and again."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
