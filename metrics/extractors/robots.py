"""The embedded attribute network as an extractor: features for distances, and the parts of a robot it sees in them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from files.reading import file_digest
from metrics.base import Scoring
from metrics.extractors.attribute_network import IMAGE_SIZE, AttributeNetwork, load_attribute_network
from metrics.extractors.precision import full_float32
from metrics.images import resize_antialiased, stack_by_size
from metrics.robots.grammar import asked_attributes

_CAPTIONS_LOOKED_AT = 8


def captions_are_robots(captions: Sequence[str], assets: Path) -> bool:
    """Say whether the images are robots of ours, on which alone the attribute network means something."""
    looked_at = captions[:_CAPTIONS_LOOKED_AT]
    return len(looked_at) > 0 and all(asked_attributes(caption, assets) for caption in looked_at)


def open_robots(scoring: Scoring) -> RobotFeatures:
    """Return the extractor. Raises OSError where assets/ lacks the network."""
    return RobotFeatures(scoring.assets, scoring.device)


class RobotFeatures:
    """The attribute network's penultimate features: an offline stand-in for the FID Inception, on robots alone.

    The network is loaded when it is first needed; images are resized to 64 px as it was trained on them.
    """

    key = "robots"
    name = "robots"
    distance_label = "FD-robots (lower = better)"
    distance_short = "FD-robots"
    kernel_label = "KD-robots (lower = better)"
    kernel_short = "KD-robots"

    def __init__(self, assets: Path, device: str) -> None:
        weights = assets / "attributes" / "model.safetensors"
        if not weights.is_file():
            raise OSError(f"no attribute network at {weights}; restore the folder assets/ from the repository")
        self._assets = assets
        self._device = device
        self._loaded: AttributeNetwork | None = None
        digest = file_digest(weights)[:8]
        self.identity = (
            f"embedded attribute network, {IMAGE_SIZE} px antialiased bicubic, fp32, "
            f"features of mean square 1, weights {digest}"
        )

    @property
    def _network(self) -> AttributeNetwork:
        if self._loaded is None:
            self._loaded = load_attribute_network(self._assets, self._device)
        return self._loaded

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, of mean square about 1, for uint8 `image_CHW` of any sizes."""
        rows: list[Tensor] = [torch.empty(0)] * len(images)
        with torch.inference_mode(), full_float32():
            for places, images_BCHW in stack_by_size(images):
                resized_BCHW = resize_antialiased(images_BCHW.to(self._device), IMAGE_SIZE) / 127.5 - 1
                features_ND = self._network.features_ND(resized_BCHW) / self._network.feature_rms
                for place, row in zip(places, features_ND.cpu(), strict=True):
                    rows[place] = row
        return torch.stack(rows)

    def see_parts(self, features_ND: Tensor) -> Tensor:
        """Return `attributes_NA`, int64: the likeliest option of each part, in the order of PARTS."""
        with torch.inference_mode(), full_float32():
            features_ND = features_ND.to(self._device) * self._network.feature_rms
            logits = self._network.heads(features_ND).split(self._network.options, dim=1)
            return torch.stack([logits_NK.argmax(dim=1) for logits_NK in logits], dim=1).cpu()
