"""From folders of images to features: chooses the extractor, streams images through it, keeps the rows on disk."""

from __future__ import annotations

import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from files.caches import open_cache
from files.reading import file_digest
from files.tensors import load_sealed, save_sealed
from metrics.base import ImageSet, MetricUnavailable, Scoring
from metrics.images import stream_batches

# The libraries that decode, resize and compute.
_LIBRARIES = ("torch", "pillow", "torch-fidelity", "transformers")


class FeatureExtractor(Protocol):
    """A frozen network that gives each image one row of features, known by its identity before it is loaded.

    identity: network, resize, precision and weights digest; features of different identities are never compared.
    distance_label, kernel_label: the names of the rows with the Fréchet and the kernel distance over these features
    (FID and KID only for the FID Inception). distance_short, kernel_short: the names in the winners' line.
    """

    name: str
    identity: str
    distance_label: str
    distance_short: str
    kernel_label: str
    kernel_short: str

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes; row i is image i's alone."""
        ...


def defer(module: str, name: str) -> Callable[[Scoring], FeatureExtractor]:
    """Return a function that opens an extractor; its module is imported at the first call."""

    def open_extractor(scoring: Scoring) -> FeatureExtractor:
        return cast(Callable[[Scoring], FeatureExtractor], getattr(import_module(module), name))(scoring)

    return open_extractor


# An extractor is one file in extractors/ and one line here; it raises MetricUnavailable where its weights are missing.
EXTRACTORS: dict[str, Callable[[Scoring], FeatureExtractor]] = {
    "inception": defer("metrics.extractors.inception", "open_inception"),
    "robots": defer("metrics.extractors.robots", "open_robots"),
    "efficientnet": defer("metrics.extractors.efficientnet", "open_efficientnet"),
    "dinov2": defer("metrics.extractors.dinov2", "open_dinov2"),
    "clip": defer("metrics.extractors.clip", "open_clip"),
}


@cache
def open_extractor(name: str, scoring: Scoring) -> FeatureExtractor:
    """Return the extractor of this name, the same one for all metrics of a run, so that it is loaded once.

    Raises:
        MetricUnavailable: its weights are missing; the text says what to do.
        OSError: a setting names weights that do not exist.
    """
    return EXTRACTORS[name](scoring)


def choose_extractor(reference: ImageSet, scoring: Scoring) -> FeatureExtractor:
    """Return the extractor of FID, KID and PRDC: the FID Inception where its weights are, else one that works offline.

    Offline, that is the attribute network where the references are robots, else EfficientNet-Lite0 if it is installed.

    Raises:
        MetricUnavailable: there is none; the text says what to do.
        OSError: INCEPTION_WEIGHTS names a file that does not exist.
    """
    from metrics.extractors.robots import captions_are_robots

    try:
        return open_extractor("inception", scoring)
    except MetricUnavailable as reason:
        substitute = "robots" if captions_are_robots(reference.captions, scoring.assets) else "efficientnet"
        try:
            extractor = open_extractor(substitute, scoring)
        except MetricUnavailable as other:
            raise MetricUnavailable(f"{reason}; without a download: {other}") from None
        _tell_once(f"{reason}; until then the rows are {extractor.distance_short} and {extractor.kernel_short}")
        return extractor


@cache
def _tell_once(message: str) -> None:
    print(message, file=sys.stderr)


def extract_features(
    paths: Sequence[Path], extractor: FeatureExtractor, batch_size: int, progress: Callable[[int], None] | None = None
) -> Tensor:
    """Return `features_ND`, float32 on the CPU, in the order of `paths`; only a few images are held at once.

    progress: called with how many images are done.

    Raises:
        OSError: a file cannot be read as an image.
        ValueError: the features of an image are not finite.
    """
    features_ND = torch.empty(0, 0)
    done = 0
    for rows_BD in _extract_ahead(stream_batches(paths, batch_size), extractor):
        broken = (~rows_BD.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if broken:
            raise ValueError(
                f"{extractor.name} gives features that are not finite for {paths[done + broken[0]]}; "
                "check the network's weights file"
            )
        if done == 0:
            features_ND = torch.empty(len(paths), rows_BD.shape[1])
        features_ND[done : done + len(rows_BD)] = rows_BD
        done += len(rows_BD)
        if progress:
            progress(done)
    return features_ND


def _extract_ahead(batches: Iterator[list[Tensor]], extractor: FeatureExtractor) -> Iterator[Tensor]:
    """Yield each batch's features in order; the network works on one batch while the next is decoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="extract") as worker:
        pending: deque[Future[Tensor]] = deque()
        for images in batches:
            pending.append(worker.submit(extractor.extract, images))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def cached_features(images: ImageSet, extractor: FeatureExtractor, scoring: Scoring) -> Tensor:
    """Return `features_ND` of the set, from `scoring.cache` where this extractor has seen the same images before.

    The entry's name is a digest of the extractor's identity, the libraries that decode and compute, and every file's
    content in order: no image is decoded twice, and a changed image is never taken for the old one.
    """

    def check(tensors: Mapping[str, Tensor]) -> None:
        features_ND = tensors["features"]
        if features_ND.dim() != 2 or len(features_ND) != len(images) or features_ND.dtype != torch.float32:
            raise ValueError(f"{features_ND.dtype} of shape {tuple(features_ND.shape)} for {len(images)} images")
        if not features_ND.isfinite().all():
            raise ValueError("features that are not finite")

    entry = entry_of(images, extractor, scoring)
    kept = read_entry(entry, check)
    if kept is not None:
        return kept["features"]
    with scoring.progress(f"{images.name} through {extractor.name}", len(images)) as report:
        features_ND = extract_features(images.paths, extractor, scoring.images_at_once, report)
    write_entry(entry, {"features": features_ND})
    return features_ND


def entry_of(images: ImageSet, extractor: FeatureExtractor, scoring: Scoring, what: str = "features") -> Path:
    """Return the path in the cache of `what` of these images by this extractor."""
    versions = "; ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    key = hashlib.sha256(f"{extractor.identity}; {versions}\n".encode())
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


def halves_of(count: int, size: int) -> tuple[Tensor, Tensor] | None:
    """Return the places of two disjoint parts of `count` real images: `size` drawn at random, and the rest.

    Where there are not twice as many, both are halves; None where a half is less than two. The distance between them is
    what images as good as real ones would score. The draw has a fixed seed: a data set may be sorted, and two runs must
    agree.
    """
    size = min(size, count // 2)
    if size < 2:
        return None
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    return order[:size], order[size:]
