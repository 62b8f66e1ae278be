"""Features and statistics on disk: an entry's name follows from the images' content and from what computed it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.metadata import version
from pathlib import Path

from torch import Tensor

from files.caches import open_cache
from files.reading import file_digest
from files.tensors import load_sealed, save_sealed
from metrics.base import ImageSet, Scoring

# The libraries that decode, resize and compute.
_LIBRARIES = ("torch", "pillow", "torch-fidelity", "transformers")


def entry_of(images: ImageSet, identity: str, scoring: Scoring, what: str = "features") -> Path:
    """Return the path in the cache of `what` of these images by the extractor of this identity."""
    versions = "; ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    key = hashlib.sha256(f"{identity}; {versions}\n".encode())
    with ThreadPoolExecutor(thread_name_prefix="digest") as pool:  # hashing releases the interpreter lock
        for digest in pool.map(file_digest, images.paths):
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


_open_cache = cache(open_cache)  # once in a process for each folder
