"""What a run needs of the network, and how each is fetched: once, whole, checked, and told before anything is made."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from files.hub import NotOnHub as NotOnHub
from files.hub import (
    check_reachable,
    fetch_snapshot,
    find_lacking,
    find_snapshot,
    kept_bytes,
    list_files,
    select_files,
)
from files.hub import is_offline as is_offline
from files.needs import MOST_SILENT_SECONDS, no_progress
from files.needs import Need as Need
from files.needs import OpenProgress as OpenProgress
from files.needs import describe_bytes as describe_bytes
from files.needs import show_bar as show_bar
from files.published import UrlFile as UrlFile
from files.published import torch_checkpoints as torch_checkpoints

_MOST_REASON_CHARACTERS = 300
_left_alone: list[threading.Thread] = []


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
        """Return how much the hub says it is, else `size_bytes`; None where the hub has no such files."""
        if self.here():
            return 0
        try:
            files = select_files(list_files(self.repository, self.revision), self.patterns, self.ignored)
        except NotOnHub:
            return None
        except OSError:
            return self.size_bytes
        if find_lacking(files, self.patterns):
            return None
        return sum(size for name, size in files.items() if not self._has(name))

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
    done, kept, silent_since = 0, -1, time.monotonic()
    try:
        while True:
            try:
                item = arrived.get(timeout=min(1.0, need.most_silent_seconds))
            except queue.Empty:
                # Not each release of the library tells of bytes; its files grow in any case.
                former, kept = kept, kept_bytes(need.repository)
                if kept != former:
                    silent_since = time.monotonic()
                elif time.monotonic() - silent_since >= need.most_silent_seconds:
                    raise OSError(
                        f"{need.repository}: nothing arrived for {need.most_silent_seconds:.0f} s; try again, and it "
                        "goes on from there"
                    ) from None
                continue
            silent_since = time.monotonic()
            if isinstance(item, Path):
                return item
            if isinstance(item, Exception):
                raise item
            done = max(done, item)
            report(done)
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


def missing(needs: Sequence[Need]) -> list[Need]:
    """Return those that are not here, each once: two metrics may need the same."""
    found: list[Need] = []
    for need in needs:
        if need not in found and not need.here():
            found.append(need)
    return found
