"""Turns folders of images into features: chooses the extractor, streams images through it, keeps the rows on disk."""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import PIL
import torch
from torch import Tensor

from metrics.base import ImageSet, MetricUnavailable, Scoring
from metrics.images import file_digest, stream_batches
from metrics.inception import WEIGHTS_NAME, InceptionFeatures, find_inception_weights
from metrics.robots import RobotFeatures, captions_are_robots

_DIGEST_BYTES = 32


class FeatureExtractor(Protocol):
    """A frozen network that gives each image one row of features, known by its identity before it is loaded.

    identity: network, resize, precision and weights digest; features of different identities are never compared.
    distance_label, kernel_label: what the rows of the Fréchet and the kernel distance over them may be called (FID and
    KID for the FID Inception alone); distance_short, kernel_short: the names in the winners' line.
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


def choose_extractor(reference: ImageSet, scoring: Scoring) -> FeatureExtractor:
    """Return the FID Inception where its weights are found, else the attribute network if the references are robots.

    Raises:
        MetricUnavailable: neither fits: no Inception weights, and features of robot parts mean nothing here.
        OSError: INCEPTION_WEIGHTS names a file that is not there.
    """
    weights = find_inception_weights(scoring.inception_weights)
    if weights is not None:
        return InceptionFeatures(weights, scoring.device)
    if captions_are_robots(reference.captions, scoring.assets):
        return RobotFeatures(scoring.assets, scoring.device)
    downloads = Path(torch.hub.get_dir()) / "checkpoints"
    raise MetricUnavailable(
        f"no FID Inception weights: put {WEIGHTS_NAME} into {downloads} or name it in INCEPTION_WEIGHTS; "
        "the embedded features serve robots alone"
    )


def extract_features(paths: Sequence[Path], extractor: FeatureExtractor, batch_size: int) -> Tensor:
    """Return `features_ND`, float32 on the CPU, in the order of `paths`; only two batches of images are ever held.

    Raises:
        OSError: a file cannot be read as an image.
        ValueError: the features of an image are not finite.
    """
    batches = []
    done = 0
    for images in stream_batches(paths, batch_size):
        features_BD = extractor.extract(images)
        broken = (~features_BD.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if broken:
            raise ValueError(
                f"{extractor.name} gives features that are not finite for {paths[done + broken[0]]}; "
                "check the network's weights file"
            )
        batches.append(features_BD)
        done += len(images)
    return torch.cat(batches) if batches else torch.empty(0, 0)


def cached_features(images: ImageSet, extractor: FeatureExtractor, scoring: Scoring) -> Tensor:
    """Return `features_ND` of the set, from `scoring.cache` where the same pictures met the same extractor before.

    The entry's name is a digest of the extractor's identity, the libraries that decode and compute, and every file's
    content in order, so that no picture is decoded twice and no changed one is taken for the old.
    """
    entry = _entry(images.paths, extractor, scoring.cache)
    features_ND = _read_entry(entry)
    if features_ND is None:
        features_ND = extract_features(images.paths, extractor, scoring.batch_size)
        _write_entry(entry, features_ND)
    return features_ND


def _entry(paths: Sequence[Path], extractor: FeatureExtractor, cache: Path) -> Path:
    key = hashlib.sha256(f"{extractor.identity}; torch {torch.__version__}; pillow {PIL.__version__}\n".encode())
    for path in paths:
        key.update(bytes.fromhex(file_digest(path)))
    return cache / "features" / f"{key.hexdigest()}.features"


def _read_entry(entry: Path) -> Tensor | None:
    """Return the entry's features, or None where there is none or it is damaged, which stderr is told."""
    try:
        content = memoryview(entry.read_bytes())
    except FileNotFoundError:
        return None
    if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
        print(f"{entry} is damaged; computing these features again", file=sys.stderr)
        return None
    return torch.from_numpy(np.load(io.BytesIO(content[_DIGEST_BYTES:]), allow_pickle=False))


def _write_entry(entry: Path, features_ND: Tensor) -> None:
    payload = io.BytesIO()
    np.save(payload, features_ND.numpy(), allow_pickle=False)
    content = payload.getbuffer()
    entry.parent.mkdir(parents=True, exist_ok=True)
    unfinished = entry.with_name(f"{entry.name}.{os.getpid()}.unfinished")
    with unfinished.open("wb") as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)
    unfinished.replace(entry)


def split_reference(features_ND: Tensor, size: int) -> tuple[Tensor, Tensor] | None:
    """Return two disjoint parts of the reference, `size` pictures drawn at random and the rest, or None if too few.

    The distance between them is what pictures as good as real would score. The draw has a fixed seed: a data set may be
    sorted, and two runs must agree.
    """
    if len(features_ND) < 2 * size:
        return None
    order = torch.randperm(len(features_ND), generator=torch.Generator().manual_seed(0))
    return features_ND[order[:size]], features_ND[order[size:]]
