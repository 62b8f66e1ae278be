"""Metrics of image pairs: how close each generated image is to the one right image of its prompt."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor, nn

from files.downloads import torch_checkpoints
from files.opening import load_checkpoint
from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.extractors.precision import full_float32
from metrics.features import halves_of
from metrics.images import as_tensor, read_rgb
from metrics.intervals import mean_interval, mean_replicates
from metrics.needed import ALEXNET_NAME
from metrics.robots.grammar import PARTS, asked_attributes

# Rounding to 8 bits alone errs by this much; a smaller difference (equal images) is not told apart: 58.9 dB.
_ROUNDING_ERROR = 1 / 12


def exact_pairs(comparison: Comparison, assets: Path) -> list[tuple[Path, Path]]:
    """Return each generated image whose prompt has one right image, with that image, its target.

    That is a prompt that names every part of a robot: "hedgehog, twemoji style" fits many images. Where the comparison
    says that its targets are exact, every pair counts.

    Raises:
        MetricUnavailable: there is no such pair.
    """
    generated, pairs = comparison.generated, comparison.pairs()
    if comparison.exact_targets:
        return [(generated.paths[place], target) for place, target in pairs]
    if not generated.captions:
        raise MetricUnavailable("what the images were asked to show is not known")
    exact = [
        (generated.paths[place], target)
        for place, target in pairs
        if len(asked_attributes(generated.captions[place], assets)) == len(PARTS)
    ]
    if not exact:
        raise MetricUnavailable("captions do not fix an image")
    return exact


def read_pair(generated: Path, target: Path) -> tuple[Tensor, Tensor]:
    """Return both as `image_CHW`, uint8; a target of another size is cropped about its centre and resized (bicubic)."""
    made, real = read_rgb(generated), read_rgb(target)
    if real.size != made.size:
        real = ImageOps.fit(real, made.size, Image.Resampling.BICUBIC)
    return as_tensor(made), as_tensor(real)


class PairedMetric(ABC):
    """A mean over pairs, which are independent; the interval is that of a mean.

    The floor pairs real images with other real images: what a good image of something else would score.
    """

    key: str
    label: str
    short: str
    better: Literal["lower", "higher"]
    identity: str
    decimals = 1
    unit = ""

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    @abstractmethod
    def value_of(self, made_CHW: Tensor, real_CHW: Tensor) -> float:
        """Return the metric of one pair of uint8 images of one size."""

    def prepare(self) -> None:  # noqa: B027 (most need nothing)
        """Load what is needed. Raises MetricUnavailable where it is missing."""

    def score(self, comparison: Comparison) -> list[Score]:
        pairs = exact_pairs(comparison, self._scoring.assets)
        self.prepare()
        values_N = self._values(pairs)
        halves = halves_of(len(comparison.reference), len(pairs))
        others_N = None
        if halves is not None:
            real = comparison.reference.paths
            unlike = [(real[a], real[b]) for a, b in zip(halves[0].tolist(), halves[1].tolist(), strict=False)]
            others_N = self._values(unlike)
        return [
            Score(
                key=self.key,
                label=self.label,
                short=self.short,
                value=float(values_N.mean()),
                better=self.better,
                n_generated=len(pairs),
                n_reference=len(pairs),
                identity=self.identity,
                interval=mean_interval(values_N),
                replicates=mean_replicates(values_N),
                floor=None if others_N is None else float(others_N.mean()),
                floor_count=0 if others_N is None else len(others_N),
                floor_interval=None if others_N is None else mean_interval(others_N),
                floor_meaning="real images of something else score",
                decimals=self.decimals,
                unit=self.unit,
            )
        ]

    def _values(self, pairs: Sequence[tuple[Path, Path]]) -> Tensor:
        with torch.inference_mode(), full_float32():
            return torch.tensor([self.value_of(*read_pair(*pair)) for pair in pairs], dtype=torch.float64)


class PeakSignalToNoise(PairedMetric):
    """The metric `psnr`: 10 log10(255² / mean squared error) over the RGB values of each pair, at most 58.9 dB.

    By scikit-image: torchmetrics gives the same, and takes five seconds longer to import.
    """

    key, short, better, unit = "psnr", "PSNR", "higher", "dB"
    label = "PSNR dB (higher = better)"
    identity = "mean over images of RGB PSNR to the exact image of the caption"

    def value_of(self, made_CHW: Tensor, real_CHW: Tensor) -> float:
        from skimage.metrics import peak_signal_noise_ratio

        with np.errstate(divide="ignore"):  # equal images
            decibels = peak_signal_noise_ratio(real_CHW.numpy(), made_CHW.numpy(), data_range=255.0)
        return min(float(decibels), 10 * math.log10(255**2 / _ROUNDING_ERROR))


class StructuralSimilarity(PairedMetric):
    """The metric `ssim`, by torchmetrics: Gaussian window of 11 px, sigma 1.5. Source: Wang et al. 2004."""

    key, short, better, decimals = "ssim", "SSIM", "higher", 3
    label = "SSIM (higher = better)"
    identity = "mean over images of RGB SSIM (window 11 px) to the exact image of the caption"

    def value_of(self, made_CHW: Tensor, real_CHW: Tensor) -> float:
        from torchmetrics.functional.image import structural_similarity_index_measure

        similarity = structural_similarity_index_measure(
            made_CHW[None].double(), real_CHW[None].double(), data_range=255.0
        )
        assert isinstance(similarity, Tensor)
        return float(similarity)


class PerceptualDistance(PairedMetric):
    """The metric `lpips`, by torchmetrics, with AlexNet. Source: Zhang et al. 2018, "The Unreasonable Effectiveness of
    Deep Features as a Perceptual Metric".
    """

    key, short, better, decimals = "lpips", "LPIPS", "lower", 3
    label = "LPIPS (lower = better)"
    identity = "mean over images of LPIPS (AlexNet) to the exact image of the caption"

    def prepare(self) -> None:
        downloads = torch_checkpoints()
        if not (downloads / ALEXNET_NAME).is_file():
            raise MetricUnavailable(f"no AlexNet weights: put torchvision's {ALEXNET_NAME} into {downloads}")
        self._network = load_lpips(downloads / ALEXNET_NAME).to(self._scoring.device)

    def value_of(self, made_CHW: Tensor, real_CHW: Tensor) -> float:
        made, real = (image[None].to(self._scoring.device).float() / 127.5 - 1 for image in (made_CHW, real_CHW))
        with torch.inference_mode():
            return float(self._network(made, real))


def load_lpips(backbone: Path) -> nn.Module:
    """Return torchmetrics' LPIPS with AlexNet, whose weights are torchvision's in `backbone`.

    torchvision itself would unpickle whatever that file holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds anything else than AlexNet's weights.
    """
    from torchmetrics.functional.image.lpips import _NoTrainLpips

    state = load_checkpoint(backbone)
    network: nn.Module = _NoTrainLpips(pretrained=True, net="alex", pnet_rand=True)
    layers = network.get_submodule("net")
    try:
        # slice2.3.weight: the layers are numbered as in AlexNet's "features".
        layers.load_state_dict({name: state[f"features.{name.partition('.')[2]}"] for name in layers.state_dict()})
    except (KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{backbone} does not hold AlexNet's weights; put torchvision's {ALEXNET_NAME} there"
        ) from error
    return network


class ColourDifference(PairedMetric):
    """The metric `delta-e`: CIEDE2000 by scikit-image, mean over the pixels. Source: Sharma et al. 2005."""

    key, short, better, decimals = "delta-e", "Delta E", "lower", 2
    label = "Delta E 2000 (lower = better)"
    identity = "mean over images of the pixels' mean CIEDE2000 to the exact image of the caption"

    def value_of(self, made_CHW: Tensor, real_CHW: Tensor) -> float:
        from skimage.color import deltaE_ciede2000, rgb2lab

        made, real = (rgb2lab(image.permute(1, 2, 0).numpy()) for image in (made_CHW, real_CHW))
        difference_HW: np.ndarray = deltaE_ciede2000(real, made)
        return float(difference_HW.mean())
