"""Output that no score should hide: frames of one colour, and many copies of one picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from metrics.images import stream_images
from metrics.neighbours import squared_distances

# Levels of 255. A broken decoder's NaN become black frames; a copy differs by what an encoder's rounding does.
CONSTANT_BELOW = 2.0
COPY_BELOW = 2.0
# A few pictures of one request look alike; a tenth of a set does not.
COPIES_SHARE = 0.1
_THUMBNAIL = 32
_NAMED = 3


def find_degenerate(paths: Sequence[Path]) -> list[str]:
    """Return a warning for each kind of degenerate output found, with how many there are and examples' numbers.

    Constant: the standard deviation of every channel is under 2 of 255. Copies: at 32 x 32 px the root mean square
    difference to another picture is under 2 of 255, for a tenth of the pictures or more.
    """
    if not paths:
        return []
    thumbnails, constant = [], []
    for index, image_CHW in enumerate(stream_images(paths)):
        if float(image_CHW.float().std(dim=(1, 2), correction=0).max()) < CONSTANT_BELOW:
            constant.append(index)
        thumbnails.append(_thumbnail(image_CHW))
    warnings = []
    if constant:
        warnings.append(f"{len(constant)} of {len(paths)} pictures are of one colour ({_examples(constant, paths)})")
    rows_ND = torch.stack(thumbnails)
    nearest_N, other_N = _nearest_others(rows_ND)
    copies = [i for i in (nearest_N < COPY_BELOW).nonzero().flatten().tolist() if i not in set(constant)]
    if len(copies) >= max(2, COPIES_SHARE * len(paths)):
        pair = f"{paths[copies[0]].stem} and {paths[int(other_N[copies[0]])].stem}"
        warnings.append(f"{len(copies)} of {len(paths)} pictures are copies of another ({pair}, ...): a mode collapse")
    return warnings


def _thumbnail(image_CHW: Tensor) -> Tensor:
    small_1CHW = functional.interpolate(
        image_CHW[None].float(), size=(_THUMBNAIL, _THUMBNAIL), mode="bilinear", antialias=True
    )
    return small_1CHW.flatten()


def _nearest_others(rows_ND: Tensor) -> tuple[Tensor, Tensor]:
    """Return the root mean square difference of each to its nearest other, and which one that is."""
    values, places = [], []
    for start, squared_nM in squared_distances(rows_ND, rows_ND):
        rows = torch.arange(len(squared_nM))
        squared_nM[rows, start + rows] = torch.inf
        nearest = squared_nM.min(dim=1)
        values.append((nearest.values / rows_ND.shape[1]).sqrt())
        places.append(nearest.indices)
    return torch.cat(values), torch.cat(places)


def _examples(indices: Sequence[int], paths: Sequence[Path]) -> str:
    more = ", ..." if len(indices) > _NAMED else ""
    return ", ".join(paths[index].stem for index in indices[:_NAMED]) + more
