"""From folders of images to features: chooses the extractor, streams images through it, keeps the rows on disk.

Where other processes help (`Scoring.helpers`), each extracts a share of a set's images and keeps it in the same cache.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

import torch
from torch import Tensor

from metrics.base import Helpers, ImageSet, MetricUnavailable, Scoring, no_progress
from metrics.entries import delete_shares, entry_of, read_entry, write_entry
from metrics.images import stream_batches
from metrics.together import do_together, shares_of, to_send


class Extractor(Protocol):
    """What gives each image one row of features, known by its identity before anything is loaded.

    key: its name in EXTRACTORS.
    identity: network, resize, precision and weights digest; features of different identities are never compared.
    """

    key: str
    name: str
    identity: str

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes; row i is image i's alone."""
        ...


class FeatureExtractor(Extractor, Protocol):
    """A frozen network whose features have distances that mean something.

    distance_label, kernel_label: the names of the rows with the Fréchet and the kernel distance over these features
    (FID and KID only for the FID Inception). distance_short, kernel_short: the names in the winners' line.
    """

    distance_label: str
    distance_short: str
    kernel_label: str
    kernel_short: str


def defer(module: str, name: str) -> Callable[[Scoring], Extractor]:
    """Return a function that opens an extractor; its module is imported at the first call."""

    def open_extractor(scoring: Scoring) -> Extractor:
        return cast(Callable[[Scoring], Extractor], getattr(import_module(module), name))(scoring)

    return open_extractor


# An extractor is one file in extractors/ and one line here; it raises MetricUnavailable where its weights are missing.
EXTRACTORS: dict[str, Callable[[Scoring], Extractor]] = {
    "inception": defer("metrics.extractors.inception", "open_inception"),
    "robots": defer("metrics.extractors.robots", "open_robots"),
    "efficientnet": defer("metrics.extractors.efficientnet", "open_efficientnet"),
    "dinov2": defer("metrics.extractors.dinov2", "open_dinov2"),
    "clip": defer("metrics.extractors.clip", "open_clip"),
    "appearance": defer("metrics.extractors.appearance", "open_appearance"),
    "contrast": defer("metrics.extractors.appearance", "open_contrast"),
}


@cache
def open_extractor(name: str, scoring: Scoring) -> FeatureExtractor:
    """Return the extractor of this name, the same one for all metrics of a run, so that it is loaded once.

    Raises:
        MetricUnavailable: its weights are missing; the text says what to do.
        OSError: a setting names weights that do not exist.
    """
    return cast(FeatureExtractor, EXTRACTORS[name](scoring))  # the callers that want distances name a network


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
    paths: Sequence[Path], extractor: Extractor, batch_size: int, progress: Callable[[int], None] | None = None
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


def _extract_ahead(batches: Iterator[list[Tensor]], extractor: Extractor) -> Iterator[Tensor]:
    """Yield each batch's features in order; the network works on one batch while the next is decoded."""
    with ThreadPoolExecutor(1, thread_name_prefix="extract") as worker:
        pending: deque[Future[Tensor]] = deque()
        for images in batches:
            pending.append(worker.submit(extractor.extract, images))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def cached_features(images: ImageSet, extractor: Extractor, scoring: Scoring) -> Tensor:
    """Return `features_ND` of the set, from `scoring.cache` where this extractor has seen the same images before.

    The entry's name is a digest of the extractor's identity, the libraries that decode and compute, and every file's
    content in order: no image is decoded twice, and a changed image is never taken for the old one. The rows are the
    same with and without helpers.
    """
    entry = entry_of(images, extractor.identity, scoring)
    kept = _read_features(entry, len(images))
    if kept is not None:
        return kept
    shares = shares_of(images, scoring)
    if scoring.helpers is None or len(shares) < 2:
        features_ND = _extract_here(images, extractor, scoring)
        write_entry(entry, {"features": features_ND})
        return features_ND
    kind = f"share-of-{entry.stem[:16]}"
    features_ND = _extract_together(shares, extractor, scoring, scoring.helpers, kind)
    write_entry(entry, {"features": features_ND})
    delete_shares(entry.parent, kind)
    return features_ND


def _extract_here(images: ImageSet, extractor: Extractor, scoring: Scoring) -> Tensor:
    with scoring.progress(f"{images.name} through {extractor.name}", len(images)) as report:
        return extract_features(images.paths, extractor, scoring.images_at_once, report)


def _read_features(entry: Path, count: int) -> Tensor | None:
    """Return `features_ND` of an entry, N = count, or None where there is none."""

    def check(tensors: Mapping[str, Tensor]) -> None:
        features_ND = tensors["features"]
        if features_ND.dim() != 2 or len(features_ND) != count or features_ND.dtype != torch.float32:
            raise ValueError(f"{features_ND.dtype} of shape {tuple(features_ND.shape)} for {count} images")
        if not features_ND.isfinite().all():
            raise ValueError("features that are not finite")

    kept = read_entry(entry, check)
    return None if kept is None else kept["features"]


# Shared by several processes.


@dataclass(frozen=True)
class ShareOfImages:
    """The work of a helper: features of some images, kept in the cache under what their content says.

    key, identity: of the extractor. names: the images' paths below `folder`; a tuple of short names is small to send.
    kind: the end of the entry's name. Called with the device of the process that does it.
    """

    key: str
    identity: str
    folder: Path
    names: tuple[str, ...]
    scoring: Scoring
    kind: str

    def __call__(self, device: str) -> None:
        """Extract what the cache does not have.

        Raises:
            OSError: an image cannot be read.
            ValueError: the extractor is another one here, or there is none.
        """
        scoring = replace(self.scoring, device=device)
        try:
            extractor = open_extractor(self.key, scoring)
        except MetricUnavailable as reason:
            raise ValueError(str(reason)) from reason
        if extractor.identity != self.identity:
            raise ValueError(f"the extractor is {extractor.identity} there, and {self.identity} here")
        images = ImageSet("share", tuple(self.folder / name for name in self.names))
        entry = entry_of(images, extractor.identity, scoring, self.kind)
        if _read_features(entry, len(images)) is None:
            write_entry(entry, {"features": _extract_here(images, extractor, scoring)})


def _extract_together(
    shares: Sequence[ImageSet], extractor: Extractor, scoring: Scoring, helpers: Helpers, kind: str
) -> Tensor:
    """Return `features_ND` of all shares: of the first from this process, of each other from a helper's entry."""
    own, *others = shares
    sent = replace(
        scoring,
        cache=scoring.cache.absolute(),
        batch_size=scoring.images_at_once,  # whatever suits the device there
        progress=no_progress,
        helpers=None,
    )
    own_ND, failures = do_together(
        lambda report: extract_features(own.paths, extractor, scoring.images_at_once, report), len(own),
        f"{own.name} through {extractor.name}", [_work_of(share, extractor, sent, kind) for share in others], helpers,
        scoring,
    )  # fmt: skip
    rows = [own_ND]
    for share, failure in zip(others, failures, strict=True):
        features_ND = _read_features(entry_of(share, extractor.identity, scoring, kind), len(share))
        if features_ND is None:
            reason = failure or f"there is no entry of it in {scoring.cache}"
            _tell_once(f"{share.name} is extracted here, since another process could not ({reason})")
            features_ND = _extract_here(share, extractor, scoring)
        rows.append(features_ND)
    return torch.cat(rows)


def _work_of(share: ImageSet, extractor: Extractor, sent: Scoring, kind: str) -> ShareOfImages:
    return ShareOfImages(extractor.key, extractor.identity, *to_send(share), sent, kind)


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
