"""What images look like at a glance: how far they are from one colour, and a thumbnail. No network, no weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from metrics.base import Scoring

SIDE = 32
_LEVELS = torch.arange(256, dtype=torch.float64)


class Contrast:
    """The standard deviation of the channel that has the largest one, in levels of 255."""

    key = "contrast"
    name = "contrast"
    identity = "largest standard deviation of a channel, 0 to 255"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32, D = 1, for uint8 `image_CHW` of any sizes."""
        return torch.stack([_contrast(image_CHW) for image_CHW in images])


class Appearance:
    """The contrast, and the image at 32 x 32 px: antialiased bilinear, 0 to 255."""

    key = "appearance"
    name = "thumbnails"
    identity = f"{Contrast.identity}; {SIDE} px antialiased bilinear"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32, D = 1 + 3 * 32 * 32, for uint8 `image_CHW` of any sizes."""
        return torch.stack([torch.cat([_contrast(image_CHW), _thumbnail(image_CHW)]) for image_CHW in images])


def open_contrast(scoring: Scoring) -> Contrast:  # noqa: ARG001 (it is a constructor of EXTRACTORS)
    """Return the extractor; it is the same on every device."""
    return Contrast()


def open_appearance(scoring: Scoring) -> Appearance:  # noqa: ARG001 (it is a constructor of EXTRACTORS)
    """Return the extractor; it is the same on every device."""
    return Appearance()


def _contrast(image_CHW: Tensor) -> Tensor:
    """Return the contrast, D = 1, from histograms: exact, and a sixth of the time of `Tensor.std`."""
    counts_CL = torch.stack([channel_HW.flatten().bincount(minlength=256) for channel_HW in image_CHW]).double()
    shares_CL = counts_CL / image_CHW[0].numel()
    mean_C1 = (shares_CL @ _LEVELS)[:, None]
    variance_C = (shares_CL * (_LEVELS - mean_C1).square()).sum(dim=1)
    return variance_C.max().sqrt().float()[None]


def _thumbnail(image_CHW: Tensor) -> Tensor:
    small_1CHW = functional.interpolate(image_CHW[None].float(), size=(SIDE, SIDE), mode="bilinear", antialias=True)
    return small_1CHW.flatten()
