"""Features and statistics on disk: an entry's name follows from the images' content and from what computed it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

from files.caches import open_cache
from files.reading import file_digest, file_state, knows_digest, remember_digest
from files.tensors import load_sealed, save_sealed
from metrics.base import ImageSet, Scoring
from metrics.together import do_together, shares_of, to_send

# The libraries that decode, resize and compute.
_LIBRARIES = ("torch", "pillow", "torch-fidelity", "transformers")
_TOLD_EACH = 1000
_DIGEST_BYTES = hashlib.sha256().digest_size


def entry_of(images: ImageSet, identity: str, scoring: Scoring, what: str = "features") -> Path:
    """Return the path in the cache of `what` of these images by the extractor of this identity.

    Where the scoring has helpers, each process reads its share of the files.

    Raises:
        OSError: a file cannot be read.
    """
    versions = "; ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    key = hashlib.sha256(f"{identity}; {versions}\n".encode())
    digest_together(images, scoring)
    for digest in digests_of(images.paths):
        key.update(bytes.fromhex(digest))
    return scoring.cache / "features" / f"{key.hexdigest()}.{what}"


def read_entry(entry: Path, check: Callable[[Mapping[str, Tensor]], None]) -> dict[str, Tensor] | None:
    """Return the entry's tensors, or None where there is none or it is damaged; stderr then says so.

    check: raises ValueError or KeyError where the tensors are not what belongs under this name.
    """
    try:
        tensors = load_sealed(entry, entry.name)
        check(tensors)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError) as error:
        if entry.exists():
            reason = " ".join(str(error).split())
            print(f"{entry} is damaged ({reason}); computing it again", file=sys.stderr)
        return None
    return tensors


def write_entry(entry: Path, tensors: Mapping[str, Tensor]) -> None:
    """Keep tensors with a digest of themselves; another process sees the whole entry or none.

    Where that fails, stderr says so, and the next run computes them again: it costs no score.
    """
    try:
        _open_cache(entry.parent.parent)
        save_sealed(entry, tensors, entry.name)
    except OSError as error:
        print(f"WARNING: not kept for the next run: {' '.join(str(error).split())}", file=sys.stderr)


def delete_shares(folder: Path, kind: str) -> None:
    """Delete the entries of this kind, also those that a run left which was killed."""
    for entry in folder.glob(f"*.{kind}"):
        with suppress(OSError):
            entry.unlink()


_open_cache = cache(open_cache)  # once in a process for each folder


# The digests of files, by which entries are named.


def digests_of(paths: Sequence[Path], report: Callable[[int], None] | None = None) -> list[str]:
    """Return the SHA-256 of each file, in order. report: takes now and then how many are done.

    Raises:
        OSError: a file cannot be read.
    """
    found: list[str] = []
    with ThreadPoolExecutor(thread_name_prefix="digest") as pool:  # hashing releases the interpreter lock
        for digest in pool.map(file_digest, paths):
            found.append(digest)
            if report is not None and len(found) % _TOLD_EACH == 0:
                report(len(found))
    return found


@dataclass(frozen=True)
class ShareOfDigests:
    """The work of a helper: digests of some files, kept in `entry` with each file's size and time of writing.

    names: below `folder`.
    """

    folder: Path
    names: tuple[str, ...]
    entry: Path

    def __call__(self, device: str) -> None:  # noqa: ARG002 (a work takes the device of its process)
        """Read the files. Raises OSError where one cannot be read."""
        paths = [self.folder / name for name in self.names]
        states = [file_state(path)[:2] for path in paths]  # inodes may differ between hosts
        raw = bytearray(bytes.fromhex("".join(digests_of(paths))))
        write_entry(self.entry, {
            "digests": torch.frombuffer(raw, dtype=torch.uint8).view(-1, _DIGEST_BYTES),
            "states": torch.tensor(states, dtype=torch.int64),
        })  # fmt: skip


def digest_together(images: ImageSet, scoring: Scoring) -> None:
    """Have the helpers read the files of their shares, so that `file_digest` knows all of them in this process.

    Of a file that is another one here, or that a helper could not read, nothing is known: it is read when it is asked
    for. Without helpers, with few images and where all digests are known, nothing is done.

    Raises:
        OSError: a file of this process's share cannot be read.
    """
    shares = shares_of(images, scoring)
    if scoring.helpers is None or len(shares) < 2 or all(map(knows_digest, images.paths)):
        return
    own, *others = shares
    folder = scoring.cache.absolute() / "features"
    kind = f"digests-of-{_names_key(images)}"
    works = [ShareOfDigests(*to_send(share), folder / f"{number}.{kind}") for number, share in enumerate(others, 2)]
    do_together(
        lambda report: digests_of(own.paths, report), len(own), f"{own.name} through SHA-256", works, scoring.helpers,
        scoring,
    )  # fmt: skip
    for share, work in zip(others, works, strict=True):
        _remember(share, work.entry)
    delete_shares(folder, kind)


def _names_key(images: ImageSet) -> str:
    names = "\0".join(str(path.absolute()) for path in images.paths)
    return hashlib.sha256(os.fsencode(names)).hexdigest()[:16]


def _remember(share: ImageSet, entry: Path) -> None:
    def check(tensors: Mapping[str, Tensor]) -> None:
        shapes = tuple(tensors["digests"].shape), tuple(tensors["states"].shape)
        if shapes != ((len(share), _DIGEST_BYTES), (len(share), 2)):
            raise ValueError(f"digests and states of shapes {shapes} for {len(share)} files")

    kept = read_entry(entry, check)
    if kept is None:
        return
    digests = kept["digests"].numpy()
    for path, row, state in zip(share.paths, digests, kept["states"].tolist(), strict=True):
        with suppress(OSError):
            now = file_state(path)
            if tuple(state) == now[:2]:
                remember_digest(path, now, row.tobytes().hex())
