"""Files of strangers are read where they are regular, of a sane size and in a sane time; else one line says why."""

from __future__ import annotations

import codecs
import errno
import hashlib
import io
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from files.reading import decode_text, file_digest, is_regular, read_head, read_regular, shown, valid_text


def test_a_regular_file_is_read_whole_and_through_a_symlink(tmp_path: Path) -> None:
    content = bytes(range(256)) * 40_000  # more than one chunk
    path = tmp_path / "file"
    path.write_bytes(content)
    (tmp_path / "link").symlink_to(path)
    assert read_regular(path) == read_regular(tmp_path / "link") == content
    assert read_head(path, 5) == content[:5]
    assert is_regular(path)


def special(folder: Path, kind: str) -> Path:
    path = folder / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "socket":
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.close()
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "link to a pipe":
        os.mkfifo(folder / "hidden pipe")
        path.symlink_to(folder / "hidden pipe")
    return Path("/dev/zero") if kind == "device" else path


@pytest.mark.parametrize("kind", ["pipe", "folder", "socket", "loop", "link to a pipe", "device", "missing"])
@pytest.mark.parametrize("read", [read_regular, lambda path: read_head(path, 9), file_digest])
def test_what_is_no_regular_file_is_an_error_at_once(tmp_path: Path, kind: str, read: Any) -> None:
    path = special(tmp_path, kind)
    begun = time.monotonic()
    with pytest.raises(OSError) as caught:  # noqa: PT011 (each kind has a text of its own)
        read(path)
    assert time.monotonic() - begun < 10
    assert path.name in str(caught.value)
    assert not is_regular(path)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "x" * 5000])
def test_an_impossible_name_is_an_error_of_one_short_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_regular(tmp_path / name)
    assert len(str(caught.value)) < 500
    str(caught.value).encode()
    assert not is_regular(tmp_path / name)


def test_a_file_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(600_000_000)
    begun = time.monotonic()
    with pytest.raises(OSError, match=r"sparse has 600,000,000 bytes; at most 512,000,000 are read"):
        read_regular(path)
    assert time.monotonic() - begun < 10
    path.write_bytes(b"12345")
    assert read_regular(path, most_bytes=5) == b"12345"
    with pytest.raises(OSError, match="has 5 bytes; at most 4"):
        read_regular(path, most_bytes=4)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"123456789")
    small = os.stat_result((0o100644, 1, 1, 1, 0, 0, 4, 0, 0, 0))
    monkeypatch.setattr("files.reading.os.fstat", lambda _: small)
    with pytest.raises(OSError, match="grows beyond 5 bytes"):
        read_regular(path, most_bytes=5)


def test_a_file_that_comes_too_slowly_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "slow"
    path.write_bytes(b"1")
    clock = iter(range(0, 10_000, 61))
    monkeypatch.setattr("files.reading.time.monotonic", lambda: next(clock))
    with pytest.raises(OSError, match="slow could not be read within 60 s"):
        read_regular(path)


@pytest.mark.parametrize("read", [read_regular, file_digest])
def test_an_error_of_the_disk_while_reading_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    (tmp_path / "bad-sector").write_bytes(b"x" * 100)

    class Broken(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, _buffer: object) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fdopen", lambda *_, **__: Broken())
    with pytest.raises(OSError, match=r"Input/output error: .*bad-sector"):
        read(tmp_path / "bad-sector")


def test_a_digest_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"one", b"other"):
        path.write_bytes(content)
        assert file_digest(path) == hashlib.sha256(content).hexdigest()


def test_a_path_is_shown_short_on_one_line_and_printable() -> None:
    assert shown("/a b/é.png") == "/a b/é.png"
    assert shown(Path("a\nb\u2028c")) == "a b c"
    assert shown("\udcff") == "\\udcff"
    long = shown("a" * 5000 + "end")
    assert len(long) < 250
    assert long.endswith("end")


def test_valid_text_is_what_utf_8_can_hold() -> None:
    assert valid_text("a\ud800b\udcff \0\x1b \U0001f600") == "a\ufffdb\ufffd \0\x1b \U0001f600"


TEXT = "a café, 猫\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-32-be"])
def test_text_is_read_in_the_encoding_that_its_mark_tells(encoding: str) -> None:
    mark = {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}.get(encoding, b"")
    assert decode_text(mark + TEXT.encode(encoding), "a.txt") == TEXT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"caf\xe9", r"a\.txt is not UTF-8 \(.* at byte 3\); save it as UTF-8 \(of a spreadsheet: as CSV UTF-8\)$"),
        (codecs.BOM_UTF16_LE + b"abc", r"a\.txt is not UTF-8, and not UTF-16 as its byte order mark says \(.*byte 4\)"),
        (codecs.BOM_UTF32_LE + b"abcd", "not UTF-32 as its byte order mark says"),
        (codecs.BOM_UTF8 + b"\xff", "is not UTF-8 "),
    ],
)
def test_text_in_another_encoding_is_one_line_that_names_the_file(content: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        decode_text(content, "a.txt")
    assert "\n" not in str(caught.value)
