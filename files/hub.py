"""The Hugging Face hub: whether it may be asked and can be reached, what of a repository is here, and its download.

huggingface_hub does the work. It tries for minutes to reach a hub that does not answer and tells each try, so one
question that ends in seconds goes before its first call, and what came of it is remembered.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from files import PROGRAM
from files.reading import shown

PUBLIC_ENDPOINT = "https://huggingface.co"
MOST_SECONDS_TO_ANSWER = 4.0
# What the libraries of the hub read when they are imported.
OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
WEIGHT_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
# Statuses of a gateway or of a hub that is down: the library would try again and again.
_DOWN = (500, 502, 503, 504)
_TRUE = ("1", "true", "yes", "on", "y", "t")
_BYTES_AT_ONCE = 1 << 20
_MOST_SECONDS_TO_LIST = 30.0  # before a download, which takes longer anyway
_listings: dict[tuple[str, str, str, str], Mapping[str, int]] = {}


class NotOnHub(FileNotFoundError):
    """The hub has no such repository, or the repository no such files: another one may have them."""


def is_offline() -> bool:
    """Return whether nothing is to be downloaded: OFFLINE=1, HF_HUB_OFFLINE=1 or TRANSFORMERS_OFFLINE=1."""
    names = ("OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    if any(os.environ.get(name, "").strip().lower() in _TRUE for name in names):
        return True
    loaded = _hub_constants()
    return loaded is not None and bool(loaded.HF_HUB_OFFLINE)


@contextmanager
def network(offline: bool) -> Iterator[None]:
    """Keep this process from the network during the block where `offline`; libraries that are loaded in it are told.

    It belongs before the first import of a library of the hub, which reads the variables once.
    """
    if not offline and not is_offline():
        yield
        return
    former = {name: os.environ.get(name) for name in OFFLINE_VARIABLES}
    os.environ.update(dict.fromkeys(OFFLINE_VARIABLES, "1"))
    loaded = _hub_constants()
    was_offline = loaded.HF_HUB_OFFLINE if loaded is not None else False
    _tell_libraries(True)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _tell_libraries(was_offline)


def _tell_libraries(offline: bool) -> None:
    """Set what libraries that are loaded already read of the variables when they were imported."""
    for name in ("huggingface_hub.constants", "datasets.config"):
        if (loaded := sys.modules.get(name)) is not None:
            loaded.__dict__["HF_HUB_OFFLINE"] = offline


def _hub_constants() -> Any:
    """Return huggingface_hub's constants where it is loaded already, else None."""
    return sys.modules.get("huggingface_hub.constants")


def endpoint() -> str:
    """Return the hub's address: HF_ENDPOINT, or the public one."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or PUBLIC_ENDPOINT


def check_reachable() -> None:
    """Check that the hub may be asked and answers at all; it is asked once in a process.

    Raises:
        OSError: OFFLINE=1, or it does not answer within four seconds; one line with the address and the reason.
    """
    if is_offline():
        raise OSError("OFFLINE=1 or HF_HUB_OFFLINE=1: nothing is downloaded")
    if reason := _failure(endpoint(), _proxies()):
        raise OSError(f"the hub at {shown(endpoint())} cannot be reached: {reason}")


def _proxies() -> tuple[tuple[str, str], ...]:
    import urllib.request

    return tuple(sorted(urllib.request.getproxies().items()))


@cache
def _failure(address: str, proxies: tuple[tuple[str, str], ...]) -> str:  # noqa: ARG001 (they are the cache's key)
    """Return why the hub cannot be reached, "" where it answers anything; through the proxies of the environment."""
    # In a thread of its own: neither the question to the DNS nor a proxy has a time limit that can be set.
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(address)), name="hub-probe", daemon=True)
    thread.start()
    thread.join(MOST_SECONDS_TO_ANSWER)
    return answers[0] if answers else f"no answer within {MOST_SECONDS_TO_ANSWER:.0f} s"


def _ask(address: str) -> str:
    import http.client
    import urllib.error
    import urllib.request

    try:
        request = urllib.request.Request(address, method="HEAD", headers={"User-Agent": PROGRAM})
        with urllib.request.build_opener().open(request, timeout=MOST_SECONDS_TO_ANSWER):
            return ""
    except urllib.error.HTTPError as error:
        return f"it answers {error.code} {error.reason}" if error.code in _DOWN else ""
    except (OSError, ValueError, http.client.HTTPException) as error:
        return reason_of(error)


def reason_of(error: BaseException) -> str:
    """Return why a connection failed in a few words: "connection refused", "no such host", "no answer"."""
    import http.client
    import socket
    import ssl
    import urllib.error

    if isinstance(error, urllib.error.HTTPError):
        return f"it answers {error.code} {error.reason}"
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return "no answer in time"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused"
    if isinstance(inner, socket.gaierror):
        return "no such host, or no network"
    if isinstance(inner, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({inner.verify_message})"
    if isinstance(inner, http.client.HTTPException) and not str(inner):
        return f"no sound answer ({type(inner).__name__})"
    text = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return " ".join(str(text).split())[:200]


def find_snapshot(
    repository: str, patterns: Sequence[str], ignored: Sequence[str] = (), revision: str = "", kind: str = "model"
) -> Path | None:
    """Return the folder of the hub's cache that holds what `patterns` ask for, or None; the network is not used.

    A pattern without a wildcard names a file, which must be there. Of one for weights, or for the files of a folder,
    there must be at least one file, every part of weights in several files, and all that the hub is known to have.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    options: dict[str, Any] = {"repo_type": kind, "revision": revision or None, "local_files_only": True}
    try:
        # The library knows the repository's files where it listed them once: then none of the large ones may lack.
        small = ("*.json", "*.txt", "*.md", "*.jinja")
        folder = Path(
            snapshot_download(repository, allow_patterns=list(patterns), ignore_patterns=[*ignored, *small], **options)
        )
    except HFValidationError as error:
        raise OSError(f"{shown(repository)} is no hub id: expected org/name") from error
    except OSError:  # not here, or incomplete
        return None
    return folder if _is_complete(folder, patterns, ignored) else None


def _is_complete(folder: Path, patterns: Sequence[str], ignored: Sequence[str]) -> bool:
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    wanted = [name for name in names if not _matches(name, ignored)]
    found: set[str] = set()
    for pattern in patterns:
        matched = [name for name in wanted if fnmatch.fnmatchcase(name, pattern)]
        if not matched and is_required(pattern):
            return False
        found.update(matched)
    return all(_has_all_parts(folder, name) for name in found if name.endswith(".index.json"))


def is_required(pattern: str) -> bool:
    """Return whether a repository without any file of this pattern lacks something: others stand for small extras."""
    return not pattern.startswith("*.") or pattern.endswith(WEIGHT_SUFFIXES)


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _has_all_parts(folder: Path, index: str) -> bool:
    """Return whether every file that an index of weights in several files names lies beside it."""
    place = folder / index
    try:
        parts = set(json.loads(place.read_text(encoding="utf-8")).get("weight_map", {}).values())
    except (ValueError, OSError, AttributeError):
        return False
    beside = {path.name for path in place.parent.iterdir() if path.is_file()}
    # An index whose parts are not there is that of another variant, which was not asked for.
    return parts <= beside or not parts & beside


def list_files(
    repository: str, revision: str = "", kind: str = "model", most_seconds: float = MOST_SECONDS_TO_ANSWER
) -> Mapping[str, int]:
    """Return the size in bytes of each file that a repository has on the hub; it is asked once in a process.

    Raises:
        NotOnHub: there is no such repository or revision.
        OSError: the hub may not be asked, or cannot be; one line.
    """
    check_reachable()
    question = (endpoint(), repository, revision, kind)
    if question not in _listings:
        from huggingface_hub import HfApi

        with speaking(repository):
            found = HfApi().repo_info(
                repository, repo_type=kind, revision=revision or None, files_metadata=True, timeout=most_seconds
            )
        files = getattr(found, "siblings", None) or ()
        _listings[question] = {file.rfilename: file.size or 0 for file in files}
    return _listings[question]


def select_files(names: Mapping[str, int], patterns: Sequence[str], ignored: Sequence[str] = ()) -> dict[str, int]:
    """Return the files that the patterns ask for, with their sizes."""
    return {name: size for name, size in names.items() if _matches(name, patterns) and not _matches(name, ignored)}


def find_lacking(names: Mapping[str, int], patterns: Sequence[str]) -> str:
    """Return the first pattern that something is needed of and nothing is there, "" where all have something."""
    needed = (pattern for pattern in patterns if is_required(pattern))
    return next((pattern for pattern in needed if not any(fnmatch.fnmatchcase(name, pattern) for name in names)), "")


def fetch_snapshot(
    repository: str,
    patterns: Sequence[str],
    ignored: Sequence[str] = (),
    revision: str = "",
    kind: str = "model",
    arrived: Callable[[int], None] = lambda _: None,
) -> Path:
    """Return the folder with what `patterns` ask for, downloaded into the hub's cache.

    arrived: is told how many bytes are there, 0 as a sign of life, from several threads; of the library's two counts
    each may be told. What it raises ends the download of a file.

    Raises:
        NotOnHub: there is no such repository, or no such file in it.
        OSError: it cannot be downloaded; one line.
    """
    wanted = select_files(list_files(repository, revision, kind, _MOST_SECONDS_TO_LIST), patterns, ignored)
    if lacking := find_lacking(wanted, patterns):
        raise NotOnHub(f"{shown(repository)} on the hub has no {lacking}")
    from huggingface_hub import constants, snapshot_download

    with speaking(repository):
        former, constants.DOWNLOAD_CHUNK_SIZE = constants.DOWNLOAD_CHUNK_SIZE, _BYTES_AT_ONCE
        try:
            folder = snapshot_download(
                repository,
                repo_type=kind,
                revision=revision or None,
                allow_patterns=list(patterns),
                ignore_patterns=list(ignored),
                tqdm_class=_reporting(arrived),
            )
        finally:
            constants.DOWNLOAD_CHUNK_SIZE = former
    return Path(folder)


def _reporting(arrived: Callable[[int], None]) -> Any:
    """Return a bar in the place of the library's, which shows nothing and tells `arrived` of bytes."""
    from tqdm import tqdm

    class Reporting(tqdm):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self._is_of_bytes = options.get("unit") == "B"
            self._seen = 0
            super().__init__(*arguments, **(options | {"disable": True}))

        def update(self, n: float | None = 1) -> bool | None:
            self._seen += int(n or 0)
            arrived(self._seen if self._is_of_bytes else 0)
            return super().update(n)

    return Reporting


def kept_bytes(repository: str, kind: str = "model") -> int:
    """Return how many bytes of a repository the hub's cache holds, those of unfinished files too."""
    from huggingface_hub import constants

    folder = Path(constants.HF_HUB_CACHE).expanduser() / "--".join([f"{kind}s", *repository.split("/")]) / "blobs"
    total = 0
    for path in folder.glob("*") if folder.is_dir() else ():
        try:
            total += path.stat().st_size
        except OSError:  # it was renamed meanwhile
            continue
    return total


@contextmanager
def speaking(repository: str) -> Iterator[None]:
    """Keep huggingface_hub from telling each of its tries, and turn its errors into one line.

    Raises:
        NotOnHub: there is no such repository, revision or file, or it may not be read without a token.
        OSError: anything else that went wrong on the way.
    """
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    name = shown(repository)
    try:
        yield
    except GatedRepoError as error:
        raise OSError(
            f"{name} is gated: accept its terms on {endpoint()}/{name}, then log in with `hf auth login` or HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise NotOnHub(f"{name} has no such revision on the hub") from error
    except RepositoryNotFoundError as error:
        raise NotOnHub(f"the hub has no {name}, or it is private: check the name, or log in with HF_TOKEN") from error
    except LocalEntryNotFoundError as error:  # the hub fell silent; what it means is the error before it
        raise OSError(f"{name}: {_first_line(error.__cause__ or error)}") from error
    except EntryNotFoundError as error:
        raise NotOnHub(f"{name} has no such file on the hub ({_first_line(error)})") from error
    except HFValidationError as error:
        raise OSError(f"{name} is no hub id: expected org/name") from error
    except HfHubHTTPError as error:
        raise OSError(f"{name}: the hub refused ({_first_line(error)})") from error
    except OSError as error:
        raise OSError(f"{name}: {_first_line(error)}") from error
    except RuntimeError as error:  # hf_xet and a closed client
        raise OSError(f"{name}: the download broke ({_first_line(error)})") from error
    except Exception as error:  # the errors of its HTTP client share no class with others
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "httpcore2", "requests"):
            raise
        raise OSError(f"{name}: the download broke ({_first_line(error)})") from error
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
