"""Degenerate output, which no score should hide: images of one colour, and many copies of one image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from metrics.images import stream_images
from metrics.neighbours import MOST_IMAGES, squared_distances_to_others

# Levels of 255. A broken decoder's NaN become black images; copies may differ by an encoder's rounding.
CONSTANT_BELOW = 2.0
COPY_BELOW = 2.0
# A few images of one request look alike; a tenth of a set does not.
COPIES_SHARE = 0.1
_THUMBNAIL = 32
_NAMED = 3


def find_degenerate(paths: Sequence[Path], reference: Sequence[Path] = ()) -> list[str]:
    """Return a warning for each kind of degenerate output found: how many images, and the names of some.

    Of one colour: the standard deviation of every channel is under 2 of 255. Copies: at 32 x 32 px the root mean square
    difference to another image is under 2 of 255, for a tenth of the images or more. Copies are not reported where
    images of the `reference` (sparse drawings) are as alike. Of more than 10,000 images, 10,000 are compared.
    """
    constant, copies, pair = _look_at(paths)
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} of {len(paths)} images are of one colour ({_examples(constant, paths)})")
    looked_at = min(len(paths), MOST_IMAGES)
    if len(copies) >= max(2, COPIES_SHARE * looked_at):
        _, alike, _ = _look_at(reference[: len(paths)])
        if len(alike) < COPIES_SHARE * min(len(reference), len(paths)) or not reference:
            names = " and ".join(paths[index].stem for index in pair)
            warnings.append(
                f"{len(copies)} of {looked_at} images are copies of another ({names}, ...): a mode collapse"
            )
    return warnings


def _look_at(paths: Sequence[Path]) -> tuple[list[int], list[int], tuple[int, int]]:
    """Return the places of images of one colour, of those with a near copy, and the first such pair."""
    if len(paths) < 2:
        return [], [], (0, 0)
    every = max(1, -(-len(paths) // MOST_IMAGES))
    thumbnails, places, constant = [], [], []
    for index, image_CHW in enumerate(stream_images(paths)):
        if float(image_CHW.float().std(dim=(1, 2), correction=0).max()) < CONSTANT_BELOW:
            constant.append(index)
        elif index % every == 0:
            thumbnails.append(_thumbnail(image_CHW))
            places.append(index)
    if len(thumbnails) < 2:
        return constant, [], (0, 0)
    nearest_N, other_N = _nearest_others(torch.stack(thumbnails))
    near = (nearest_N < COPY_BELOW).nonzero().flatten().tolist()
    pair = (places[near[0]], places[int(other_N[near[0]])]) if near else (0, 0)
    return constant, [places[index] for index in near], pair


def _thumbnail(image_CHW: Tensor) -> Tensor:
    small_1CHW = functional.interpolate(
        image_CHW[None].float(), size=(_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True
    )
    return small_1CHW.flatten()


def _nearest_others(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square difference of each to its nearest other, and which one that is."""
    values, places = [], []
    for _, squared_nN in squared_distances_to_others(rows_ND):
        nearest = squared_nN.min(dim=1)
        values.append((nearest.values / rows_ND.shape[1]).sqrt())
        places.append(nearest.indices)
    return torch.cat(values), torch.cat(places)


def _examples(indices: Sequence[int], paths: Sequence[Path]) -> str:
    more = ", ..." if len(indices) > _NAMED else ""
    return ", ".join(paths[index].stem for index in indices[:_NAMED]) + more
