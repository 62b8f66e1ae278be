"""What a run needs of the network, and how each is fetched: once, whole, checked, and told before anything is made."""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from files.hub import NotOnHub as NotOnHub
from files.hub import (
    check_reachable,
    fetch_snapshot,
    find_snapshot,
    list_files,
    reason_of,
    select_files,
)
from files.hub import is_offline as is_offline
from files.locks import locked
from files.reading import shown
from files.sources import expanded
from files.writing import naming, remove_leftovers, write_atomically

# Opens what shows how many bytes have arrived: `with progress(what, bytes) as report: report(done)`; 0 bytes: unknown.
OpenProgress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
MOST_SILENT_SECONDS = 30.0
_CHUNK_BYTES = 1 << 18
_CHUNKS_AHEAD = 16
_MOST_REASON_CHARACTERS = 300
_left_alone: list[threading.Thread] = []


@contextmanager
def no_progress(what: str, size: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001 (it is an OpenProgress)
    """Show no progress."""
    yield lambda _: None


@contextmanager
def show_bar(what: str, size: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr where that is a terminal, else one line: for programs without progress of their own."""
    from tqdm import tqdm

    if not sys.stderr.isatty():
        print(f"downloading {what} ({describe_bytes(size or None)})", file=sys.stderr, flush=True)
    with tqdm(total=size or None, desc=what, unit="B", unit_scale=True, file=sys.stderr, disable=None) as bar:
        yield lambda done: bar.update(done - bar.n) and None


class Need(Protocol):
    """Something that must be on this machine before a model or a metric can be loaded.

    what: for the line that is shown, "SDXL: stabilityai/stable-diffusion-xl-base-1.0".
    """

    @property
    def what(self) -> str: ...

    def here(self) -> bool:
        """Return whether all of it is on this machine; the network is not used."""
        ...

    def bytes_missing(self) -> int | None:
        """Return how much would be downloaded, 0 where it is here, None where that is not known."""
        ...

    def fetch(self, progress: OpenProgress = no_progress) -> Path:
        """Return the file or folder, downloaded where it is not here.

        Raises:
            OSError: it cannot be downloaded; one line with the reason and what to do by hand.
        """
        ...


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
        with locked(self.target.parent, f"downloads {self.target.name}", announce=_tell, name=lock):
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


def _tell(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


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
        request = urllib.request.Request(url, headers={"User-Agent": "t2i-benchmark"})
        with urllib.request.urlopen(request, timeout=most_silent_seconds) as response:
            if not put(int(response.headers.get("Content-Length") or 0)):
                return
            while chunk := response.read1(_CHUNK_BYTES):
                if not put(chunk):
                    return
        put(None)
    except (OSError, ValueError, http.client.HTTPException) as error:
        put(error)


@dataclass(frozen=True)
class HubFiles:
    """Files of one repository of the Hugging Face hub.

    patterns, ignored: as huggingface_hub matches names, with * for anything. What loading needs counts: a pattern
    without a wildcard names a file, one for weights or for a folder's files stands for at least one.
    revision: a branch, tag or commit; "": the main branch. size_bytes: about how much it is, where the hub cannot tell.
    failure: what is said where it cannot be downloaded, with "{reason}" in it; "": the reason alone. is_optional: what
    can be loaded without it is loaded all the same.
    """

    what: str
    repository: str
    patterns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    revision: str = ""
    size_bytes: int | None = None
    failure: str = ""
    is_optional: bool = False
    most_silent_seconds: float = MOST_SILENT_SECONDS

    def find(self) -> Path | None:
        """Return the folder of the hub's cache where all is there, else None; the network is not used."""
        return find_snapshot(self.repository, self.patterns, self.ignored, self.revision)

    def here(self) -> bool:
        """Return whether the hub's cache has all of it."""
        return self.find() is not None

    def bytes_missing(self) -> int | None:
        """Return how much the hub says it is, else `size_bytes`."""
        if self.here():
            return 0
        try:
            files = self._listed()
        except OSError:
            return self.size_bytes
        return sum(size for name, size in files.items() if not self._has(name))

    def _listed(self) -> dict[str, int]:
        return select_files(list_files(self.repository, self.revision), self.patterns, self.ignored)

    def _has(self, name: str) -> bool:
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.repository, name, revision=self.revision or None)
        return isinstance(found, str) and Path(found).is_file()

    def fetch(self, progress: OpenProgress = no_progress) -> Path:
        """Return the folder with the files. What the hub's cache has is used without asking the hub.

        Raises:
            NotOnHub: the hub has no such repository, or none of the files.
            OSError: OFFLINE=1, no connection, or nothing arrives for `most_silent_seconds`; one line.
        """
        try:
            return self._fetch(progress)
        except OSError as error:
            if not self.failure:
                raise
            text = self.failure.replace("{reason}", str(error)[:_MOST_REASON_CHARACTERS])
            raise (NotOnHub(text) if isinstance(error, NotOnHub) else OSError(text)) from error

    def _fetch(self, progress: OpenProgress) -> Path:
        found = self.find()
        if found is not None:
            return found
        try:
            check_reachable()
        except OSError as error:
            raise OSError(f"{self.repository} is not in the hub's cache, and {error}") from None
        with progress(self.what, self.bytes_missing() or 0) as report:
            return _watched(self, report)


def _watched(need: HubFiles, report: Callable[[int], None]) -> Path:
    """Return the folder that the library downloads in a thread of its own; given up where nothing arrives."""
    arrived: queue.Queue[int | Path | Exception] = queue.Queue()
    given_up = threading.Event()

    def count(size: int) -> None:
        if given_up.is_set():
            raise OSError(f"the download of {need.repository} was given up")
        arrived.put(size)

    def work() -> None:
        try:
            arrived.put(fetch_snapshot(need.repository, need.patterns, need.ignored, need.revision, arrived=count))
        except Exception as error:  # raised by the thread that waits
            arrived.put(error)

    thread = threading.Thread(target=work, name="hub-download", daemon=True)
    thread.start()
    done = 0
    try:
        while True:
            item = arrived.get(timeout=need.most_silent_seconds)
            if isinstance(item, Path):
                return item
            if isinstance(item, Exception):
                raise item
            done += item
            report(done)
    except queue.Empty:
        raise OSError(
            f"{need.repository}: nothing arrived for {need.most_silent_seconds:.0f} s; try again, and it goes on from "
            "there"
        ) from None
    finally:
        given_up.set()
        if thread.is_alive():
            _left_alone.append(thread)


def has_left_downloads() -> bool:
    """Return whether downloads that were given up still wait for the network, as they would when Python exits."""
    return any(thread.is_alive() for thread in _left_alone)


@dataclass(frozen=True)
class FirstOf:
    """The first of several needs that can be fetched: half-size weights, or else the full ones."""

    what: str
    needs: tuple[Need, ...]
    is_optional: bool = False

    def here(self) -> bool:
        """Return whether one of them is here."""
        return any(need.here() for need in self.needs)

    def bytes_missing(self) -> int | None:
        """Return the size of the first one that the hub has."""
        if self.here():
            return 0
        return next((size for need in self.needs if (size := need.bytes_missing())), None)

    def fetch(self, progress: OpenProgress = no_progress) -> Path:
        """Return the first one that is here, else the first that can be downloaded. Raises as the last one does."""
        for need in self.needs:
            if need.here():
                return need.fetch(progress)
        for need in self.needs[:-1]:
            try:
                return need.fetch(progress)
            except NotOnHub:
                continue
        return self.needs[-1].fetch(progress)


def torch_checkpoints() -> Path:
    """Return the folder of torch.hub's downloads, `torch.hub.get_dir()`/checkpoints; torch is not imported for it."""
    if (loaded := sys.modules.get("torch.hub")) is not None:  # a program may have set another one
        return Path(loaded.get_dir()) / "checkpoints"
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return expanded(os.environ.get("TORCH_HOME", Path(cache) / "torch")) / "hub" / "checkpoints"


def describe_bytes(count: int | None) -> str:
    """Return a size for people: 6.9 GB, 95.6 MB, 12 kB; "size not known"."""
    if count is None:
        return "size not known"
    for unit, factor in (("GB", 1e9), ("MB", 1e6)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{max(1, round(count / 1000))} kB"


def missing(needs: Sequence[Need]) -> list[Need]:
    """Return those that are not here, each once: two metrics may need the same."""
    found: list[Need] = []
    for need in needs:
        if need not in found and not need.here():
            found.append(need)
    return found
