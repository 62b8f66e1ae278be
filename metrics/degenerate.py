"""Degenerate output, which no score should hide: images of one colour, and many copies of one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metrics.base import ImageSet, Scoring
from metrics.extractors.appearance import Appearance, Contrast
from metrics.features import cached_features
from metrics.neighbours import MOST_IMAGES, squared_distances_to_others

# Levels of 255. A broken decoder's NaN become black images; copies may differ by an encoder's rounding.
CONSTANT_BELOW = 2.0
COPY_BELOW = 2.0
# A few images of one request look alike; a tenth of a set does not.
COPIES_SHARE = 0.1
_NAMED = 3


def find_degenerate(generated: ImageSet, reference: ImageSet, scoring: Scoring) -> list[str]:
    """Return a warning for each kind of degenerate output found: how many images, and the names of some.

    Of one colour: the standard deviation of every channel is under 2 of 255. Copies: at 32 x 32 px the root mean square
    difference to another image is under 2 of 255, for a tenth of the images or more. Copies are not reported where
    images of the `reference` (sparse drawings) are as alike. Of more than 10,000 images, 10,000 are compared. What is
    seen of an image is kept in the cache as features are, and the helpers of `scoring` look at their share.

    Raises:
        OSError: a file cannot be read as an image.
    """
    paths = generated.paths
    constant, copies, pair = _look_at(generated, scoring)
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} of {len(paths)} images are of one colour ({_examples(constant, paths)})")
    looked_at = min(len(paths), MOST_IMAGES)
    if len(copies) >= max(2, COPIES_SHARE * looked_at):
        real = ImageSet(reference.name, reference.paths[: len(paths)])
        _, alike, _ = _look_at(real, scoring)
        if len(alike) < COPIES_SHARE * len(real) or not len(real):
            names = " and ".join(paths[index].stem for index in pair)
            warnings.append(
                f"{len(copies)} of {looked_at} images are copies of another ({names}, ...): a mode collapse"
            )
    return warnings


def _look_at(images: ImageSet, scoring: Scoring) -> tuple[list[int], list[int], tuple[int, int]]:
    """Return the places of images of one colour, of those with a near copy, and the first such pair."""
    count = len(images)
    if count < 2:
        return [], [], (0, 0)
    every = max(1, -(-count // MOST_IMAGES))
    compared = list(range(0, count, every))
    looks_ND = cached_features(_some(images, compared), Appearance(), scoring)
    contrast_N = torch.empty(count)
    contrast_N[compared] = looks_ND[:, 0]
    if others := [place for place in range(count) if place % every]:
        contrast_N[others] = cached_features(_some(images, others), Contrast(), scoring)[:, 0]
    constant = (contrast_N < CONSTANT_BELOW).nonzero().flatten().tolist()
    is_varied_N = looks_ND[:, 0] >= CONSTANT_BELOW
    places = [place for place, is_varied in zip(compared, is_varied_N.tolist(), strict=True) if is_varied]
    if len(places) < 2:
        return constant, [], (0, 0)
    nearest_N, other_N = nearest_others(looks_ND[is_varied_N, 1:])
    near = (nearest_N < COPY_BELOW).nonzero().flatten().tolist()
    pair = (places[near[0]], places[int(other_N[near[0]])]) if near else (0, 0)
    return constant, [places[index] for index in near], pair


def _some(images: ImageSet, places: Sequence[int]) -> ImageSet:
    return ImageSet(images.name, tuple(images.paths[place] for place in places))


def nearest_others(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return `nearest_N`, root mean square differences of rows to their nearest others, and `other_N`, these others."""
    values, places = [], []
    for _, squared_nN in squared_distances_to_others(rows_ND):
        nearest = squared_nN.min(dim=1)
        values.append((nearest.values / rows_ND.shape[1]).sqrt())
        places.append(nearest.indices)
    return torch.cat(values), torch.cat(places)


def _examples(indices: Sequence[int], paths: Sequence[Path]) -> str:
    more = ", ..." if len(indices) > _NAMED else ""
    return ", ".join(paths[index].stem for index in indices[:_NAMED]) + more
