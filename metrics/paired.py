"""Metrics of image pairs: how near each generated image is to the exact picture of its caption."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from metrics.attributes import PARTS, asked_attributes
from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.images import read_rgb
from metrics.intervals import mean_interval

# Rounding to 8 bits alone errs by this much; a smaller difference (equal pictures) is not told apart: 58.9 dB.
_ROUNDING_ERROR = 1 / 12


def peak_signal_to_noise(generated: Image.Image, target: Image.Image) -> float:
    """Return 10 log10(255² / mean squared error) in dB over the RGB values, at most 58.9 dB.

    A target of another size is cropped about its centre to the image's shape and resized (bicubic, antialiased).
    """
    if target.size != generated.size:
        target = ImageOps.fit(target, generated.size, Image.Resampling.BICUBIC)
    difference = np.asarray(generated, dtype=np.float64) - np.asarray(target, dtype=np.float64)
    return 10 * math.log10(255**2 / max(float(np.square(difference).mean()), _ROUNDING_ERROR))


def exact_pairs(comparison: Comparison, assets: Path) -> list[tuple[Path, Path]]:
    """Return each generated image that was asked for just its target's caption, with that target.

    Only captions that name every part of a robot fix their picture: of "hedgehog, twemoji style" there are many.

    Raises:
        MetricUnavailable: there is none.
    """
    generated, targets = comparison.generated, comparison.targets
    if targets is None or not targets.captions:
        raise MetricUnavailable("no exact picture of the captions is known")
    if not generated.captions:
        raise MetricUnavailable("what the images were asked to show is not known")
    assert len(targets) == len(generated)
    asked = zip(generated.paths, generated.captions, targets.paths, targets.captions, strict=True)
    if not any(len(asked_attributes(caption, assets)) == len(PARTS) for caption in targets.captions):
        raise MetricUnavailable("captions do not fix a picture")
    pairs = [
        (path, target)
        for path, caption, target, exact_caption in asked
        if caption == exact_caption and len(asked_attributes(caption, assets)) == len(PARTS)
    ]
    if not pairs:
        raise MetricUnavailable("asked for a class, not for a caption")
    return pairs


class PeakSignalToNoise:
    """The metric `psnr`: the mean over images of each one's PSNR; the images are independent, so is the interval."""

    key = "psnr"

    def __init__(self, scoring: Scoring) -> None:
        self._assets = scoring.assets

    def score(self, comparison: Comparison) -> list[Score]:
        pairs = exact_pairs(comparison, self._assets)
        decibels_N = torch.tensor(
            [peak_signal_to_noise(read_rgb(path), read_rgb(target)) for path, target in pairs], dtype=torch.float64
        )
        return [
            Score(
                key=self.key,
                label="PSNR dB (higher = better)",
                short="PSNR",
                value=float(decibels_N.mean()),
                better="higher",
                n_generated=len(pairs),
                n_reference=len(pairs),
                identity="mean over images of RGB PSNR to the exact picture of the caption",
                interval=mean_interval(decibels_N),
                unit="dB",
            )
        ]
