"""Reads files of strangers: regular files alone, of a sane size, in a sane time, text by its mark; and digests them."""

from __future__ import annotations

import codecs
import errno
import hashlib
import os
import re
import stat
import time
from pathlib import Path

from files.writing import naming

# What one image, caption table or journal may have at most; weights are read by libraries that map them.
MOST_BYTES = 512_000_000
# A file system that gives less than a chunk in this time is as good as gone.
MOST_SECONDS = 60.0
_CHUNK_BYTES = 1 << 22
_SHOWN_CHARACTERS = 120
_SURROGATE = re.compile("[\ud800-\udfff]")
# The longer mark comes first: that of UTF-32 begins as that of UTF-16 does.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
FileState = tuple[int, int, int]
SAVE_AS_UTF_8 = "save it as UTF-8 (of a spreadsheet: as CSV UTF-8)"


def read_regular(path: Path, *, most_bytes: int = MOST_BYTES, most_seconds: float = MOST_SECONDS) -> bytes:
    """Return the content of a regular file. A pipe or device is refused without waiting for it.

    Raises:
        OSError: it is missing, no regular file, larger than `most_bytes`, or takes longer than `most_seconds`; the
            line names it.
    """
    descriptor = _open_regular(path)
    with naming(path), os.fdopen(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        if size > most_bytes:
            raise OSError(f"{shown(path)} has {size:,} bytes; at most {most_bytes:,} are read")
        deadline = time.monotonic() + most_seconds
        chunks: list[bytes] = []
        left = most_bytes + 1  # the file may grow meanwhile
        while chunk := file.read(min(_CHUNK_BYTES, left)):
            chunks.append(chunk)
            left -= len(chunk)
            if left <= 0:
                raise OSError(f"{shown(path)} grows beyond {most_bytes:,} bytes while it is read")
            if time.monotonic() > deadline:
                raise OSError(f"{shown(path)} could not be read within {most_seconds:.0f} s")
    return b"".join(chunks)


def read_head(path: Path, most_bytes: int) -> bytes:
    """Return the first bytes of a regular file. Raises OSError where it is missing or no regular file."""
    with naming(path), os.fdopen(_open_regular(path), "rb") as file:
        return file.read(most_bytes)


def _open_regular(path: Path) -> int:
    """Return a file descriptor. Raises OSError where the path names no regular file."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL, or a character that no file name can hold
        raise OSError(f"{shown(path)} cannot be a file's name ({error})") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise OSError(f"{shown(path)} is longer than a file's name can be") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{shown(path)} is no regular file (a folder, pipe or device)")
    return descriptor


def is_there(path: Path) -> bool:
    """Return whether something has this name, if only a link. Raises OSError where no file can have it."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def is_regular(path: Path) -> bool:
    """Return whether a path leads to a regular file; an impossible name leads nowhere."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def shown(path: Path | str) -> str:
    """Return a path as a message shows it, on one line: a very long one is cut, and what is no character is escaped."""
    text = " ".join(str(path).encode("utf-8", "backslashreplace").decode("utf-8").splitlines())
    return text if len(text) <= 2 * _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...{text[-_SHOWN_CHARACTERS:]}"


def as_utf_8(content: bytes, path: Path | str) -> bytes:
    """Return a text file's content in UTF-8, as far as its byte order mark tells another encoding, without the mark.

    Without a mark the content is returned as it is, valid or not. path: the file, for the error.

    Raises:
        ValueError: the content is not in the encoding that its mark tells.
    """
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            text = content[len(mark) :]
            if encoding == "utf-8":
                return text
            try:
                return text.decode(encoding).encode("utf-8")
            except UnicodeError as error:
                told = (
                    f"{error.reason} at byte {error.start + len(mark)}"
                    if isinstance(error, UnicodeDecodeError)
                    else error
                )
                name = encoding[:6].upper()
                raise ValueError(
                    f"{shown(path)} is not UTF-8, and not {name} as its byte order mark says ({told}): {SAVE_AS_UTF_8}"
                ) from error
    return content


def decode_head(head: bytes) -> str:
    """Return the text of a file's first bytes, by its byte order mark or as UTF-8; what is none, or cut, is U+FFFD."""
    mark, encoding = next(((mark, encoding) for mark, encoding in _MARKS if head.startswith(mark)), (b"", "utf-8"))
    return head[len(mark) :].decode(encoding, "replace")


def decode_text(content: bytes, path: Path | str) -> str:
    """Return the text in a file's content: in the encoding that its byte order mark tells, else in UTF-8.

    path: the file, for the error.

    Raises:
        ValueError: it is in another encoding; one line that names the file.
    """
    content = as_utf_8(content, path)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{shown(path)} is not UTF-8 ({error.reason} at byte {error.start}); {SAVE_AS_UTF_8}"
        ) from error


def valid_text(text: str) -> str:
    """Return text that UTF-8 can hold: half a surrogate pair, as JSON and file names may have, is U+FFFD."""
    return _SURROGATE.sub("\ufffd", text)


def has_digest(path: Path, digest: str) -> bool:
    """Return whether a file is there and has this digest."""
    try:
        return file_digest(path) == digest
    except OSError:
        return False


# The digests that are known, by path and state. A file that is written anew has another state.
_digests: dict[tuple[Path, FileState], str] = {}


def file_state(path: Path) -> FileState:
    """Return what tells whether a file has changed: its size in bytes, when it was written, in ns, and its inode.

    Raises:
        OSError: it is not there.
    """
    state = path.stat()
    return state.st_size, state.st_mtime_ns, state.st_ino


def knows_digest(path: Path) -> bool:
    """Return whether `file_digest` need not read the file."""
    try:
        return (path, file_state(path)) in _digests
    except OSError:  # as `file_digest` will say
        return False


def remember_digest(path: Path, state: FileState, digest: str) -> None:
    """Spare `file_digest` reading a file as long as it has this state, in which this is its digest."""
    _digests[path, state] = digest


def file_digest(path: Path) -> str:
    """Return the SHA-256 of the file's content; a file that did not change is read once in a process.

    Raises:
        OSError: it cannot be read.
    """
    state = file_state(path)
    known = _digests.get((path, state))
    if known is None:
        known = _digests[path, state] = _read_digest(path, state[0])
    return known


def _read_digest(path: Path, size: int) -> str:
    with naming(path), os.fdopen(_open_regular(path), "rb", buffering=0) as file:
        if size <= _CHUNK_BYTES:  # an image: in one call, during which other threads run
            return hashlib.sha256(file.readall()).hexdigest()
        return hashlib.file_digest(file, "sha256").hexdigest()
