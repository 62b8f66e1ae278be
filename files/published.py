"""Files at an address of their publisher: downloaded once, whole, checked, and given up where nothing arrives."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from files import PROGRAM
from files.hub import is_offline, reason_of
from files.locks import locked
from files.needs import MOST_SILENT_SECONDS, OpenProgress, no_progress, tell
from files.reading import shown
from files.sources import expanded
from files.writing import naming, remove_leftovers, write_atomically

_CHUNK_BYTES = 1 << 18
_CHUNKS_AHEAD = 16


@dataclass(frozen=True)
class UrlFile:
    """A file at an address of its publisher.

    target: where the library that reads it looks for it. digest: its SHA-256, or the first digits of it.
    """

    what: str
    url: str
    target: Path
    digest: str
    size_bytes: int | None = None
    most_silent_seconds: float = MOST_SILENT_SECONDS

    def here(self) -> bool:
        """Return whether the file is there. Its content is checked when it is downloaded, not again."""
        return self.target.is_file()

    def bytes_missing(self) -> int | None:
        """Return its size where it is not here."""
        return 0 if self.here() else self.size_bytes

    def fetch(self, progress: OpenProgress = no_progress) -> Path:
        """Return the file, downloaded beside its place and renamed once it is whole and its digest right.

        Of several processes one downloads, and the others wait. Proxies are those of the environment.

        Raises:
            OSError: OFFLINE=1, no connection, nothing arrives for `most_silent_seconds`, an end before its end, or
                another digest; one line that says what to do by hand. No part of it stays.
        """
        if self.here():
            return self.target
        by_hand = f"download it by hand to {shown(self.target)}"
        if is_offline():
            raise OSError(f"{self.target.name} is not here, and OFFLINE=1 downloads nothing: {by_hand}")
        with naming(self.target):
            self.target.parent.mkdir(parents=True, exist_ok=True)
        lock = f".t2i-lock-{self.target.name}"
        with locked(self.target.parent, f"downloads {self.target.name}", announce=tell, name=lock):
            if self.here():  # by another process, meanwhile
                return self.target
            remove_leftovers(self.target.parent)  # parts that killed processes left, which have our names
            try:
                with write_atomically(self.target) as partial:
                    self._download(partial, progress)
            except _Broken as broken:
                raise OSError(f"{shown(self.url)}: {broken}; try again, or {by_hand}") from broken.__cause__
        return self.target

    def _download(self, partial: Path, progress: OpenProgress) -> None:
        digest = hashlib.sha256()
        done = 0
        with partial.open("wb") as file:
            chunks = _received(self.url, self.most_silent_seconds)
            size = next(chunks)
            assert isinstance(size, int)
            with progress(self.what, size or self.size_bytes or 0) as report:
                for chunk in chunks:
                    assert isinstance(chunk, bytes)
                    file.write(chunk)
                    digest.update(chunk)
                    done += len(chunk)
                    report(done)
        if size and done != size:
            raise _Broken(f"it ended after {done:,} of {size:,} bytes")
        if not digest.hexdigest().startswith(self.digest):
            raise _Broken(
                f"its SHA-256 begins with {digest.hexdigest()[:8]}, expected {self.digest[:8]}; it is another file, or "
                "a proxy answers in its place"
            )


class _Broken(Exception):
    """A download that came to no good end; the text is the reason."""


def _received(url: str, most_silent_seconds: float) -> Iterator[int | bytes]:
    """Yield the size that the server tells (0: it tells none), and then the content as it arrives.

    Raises:
        _Broken: no connection, or nothing arrives for so long.
    """
    # In a thread of its own: the time limit of a socket covers neither the DNS nor a server that sends headers slowly.
    arrived: queue.Queue[int | bytes | Exception | None] = queue.Queue(_CHUNKS_AHEAD)
    given_up = threading.Event()
    work = threading.Thread(
        target=_receive, args=(url, most_silent_seconds, arrived, given_up), name="download", daemon=True
    )
    work.start()
    try:
        while True:
            try:
                item = arrived.get(timeout=most_silent_seconds)
            except queue.Empty:
                raise _Broken(f"nothing arrived for {most_silent_seconds:.0f} s") from None
            if item is None:
                return
            if isinstance(item, Exception):
                if isinstance(item, TimeoutError) or isinstance(getattr(item, "reason", None), TimeoutError):
                    raise _Broken(f"nothing arrived for {most_silent_seconds:.0f} s") from item
                raise _Broken(reason_of(item)) from item
            yield item
    finally:
        given_up.set()


def _receive(
    url: str,
    most_silent_seconds: float,
    arrived: queue.Queue[int | bytes | Exception | None],
    given_up: threading.Event,
) -> None:
    """Put what the server sends into `arrived`: its size, chunks, and None at the end; or the error."""
    import http.client
    import urllib.request

    def put(item: int | bytes | Exception | None) -> bool:
        while not given_up.is_set():
            try:
                arrived.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    try:
        request = urllib.request.Request(url, headers={"User-Agent": PROGRAM})
        with urllib.request.build_opener().open(request, timeout=most_silent_seconds) as response:
            if not put(int(response.headers.get("Content-Length") or 0)):
                return
            while chunk := response.read1(_CHUNK_BYTES):
                if not put(chunk):
                    return
        put(None)
    except (OSError, ValueError, http.client.HTTPException) as error:
        put(error)


def torch_checkpoints() -> Path:
    """Return the folder of torch.hub's downloads, `torch.hub.get_dir()`/checkpoints; torch is not imported for it."""
    if (loaded := sys.modules.get("torch.hub")) is not None:  # a program may have set another one
        return Path(loaded.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return expanded(os.environ.get("TORCH_HOME", Path(cache) / "torch")) / "hub" / "checkpoints"
