"""The embedded attribute network as an extractor: features for distances, and the parts of a robot that it sees."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from metrics.attribute_network import IMAGE_SIZE, AttributeNetwork, load_attribute_network
from metrics.attributes import asked_attributes
from metrics.images import file_digest, resize_antialiased, stack_by_size
from metrics.precision import full_float32

_CAPTIONS_LOOKED_AT = 8


def captions_are_robots(captions: Sequence[str], assets: Path) -> bool:
    """Say whether the pictures are robots of ours, on which alone the attribute network means something."""
    looked_at = captions[:_CAPTIONS_LOOKED_AT]
    return len(looked_at) > 0 and all(asked_attributes(caption, assets) for caption in looked_at)


class _RobotExtractor:
    """Loads the attribute network when it is first needed, and shows it images as it was trained on them."""

    def __init__(self, assets: Path, device: str) -> None:
        weights = assets / "attributes" / "model.safetensors"
        if not weights.is_file():
            raise OSError(f"no attribute network at {weights}; restore the folder assets/ from the repository")
        self._assets = assets
        self._device = device
        self._network: AttributeNetwork | None = None
        self._how = f"{IMAGE_SIZE} px antialiased bicubic, fp32, weights {file_digest(weights)[:8]}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return one float32 row on the CPU for each uint8 `image_CHW`, of any sizes."""
        if self._network is None:
            self._network = load_attribute_network(self._assets, self._device)
        rows: list[Tensor] = [torch.empty(0)] * len(images)
        with torch.inference_mode(), full_float32():
            for places, images_BCHW in stack_by_size(images):
                resized_BCHW = resize_antialiased(images_BCHW.to(self._device), IMAGE_SIZE) / 127.5 - 1
                for place, row in zip(places, self._rows(self._network, resized_BCHW).cpu(), strict=True):
                    rows[place] = row
        return torch.stack(rows)

    def _rows(self, network: AttributeNetwork, images_BCHW: Tensor) -> Tensor:
        raise NotImplementedError


class RobotFeatures(_RobotExtractor):
    """The attribute network's penultimate features: an offline stand-in for the FID Inception, on robots alone."""

    name = "robots"
    distance_label = "FD-robots (lower = better)"
    distance_short = "FD-robots"
    kernel_label = "KD-robots (lower = better)"
    kernel_short = "KD-robots"

    @property
    def identity(self) -> str:
        return f"embedded attribute network's features, {self._how}"

    def _rows(self, network: AttributeNetwork, images_BCHW: Tensor) -> Tensor:
        return network.features_ND(images_BCHW)


class RobotParts(_RobotExtractor):
    """The option that the attribute network sees for each part, in the order of PARTS, as `attributes_NA`."""

    name = "robot parts"

    @property
    def identity(self) -> str:
        return f"embedded attribute network's likeliest parts, {self._how}"

    def _rows(self, network: AttributeNetwork, images_BCHW: Tensor) -> Tensor:
        return network.predict(images_BCHW).to(torch.float32)
