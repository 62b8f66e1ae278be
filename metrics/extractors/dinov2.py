"""DINOv2's class token as features: what FD-DINOv2 is defined on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from files.opening import from_pretrained
from files.reading import file_digest
from metrics.base import FeatureDType, Scoring
from metrics.extractors.precision import NAMES, place, run_by_size
from metrics.extractors.pretrained import find_folder, weights_file
from metrics.images import standardise

SIDE = 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def open_dinov2(scoring: Scoring) -> DINOv2Features:
    """Return the extractor. Raises MetricUnavailable where DINOV2_MODEL is not found."""
    folder = find_folder(scoring.dinov2_model, "DINOV2_MODEL")
    return DINOv2Features(folder, scoring.dinov2_model, scoring.device, scoring.feature_dtype)


class DINOv2Features:
    """The class token after the last norm, of images at 224 px (antialiased bicubic).

    Source: Oquab et al. 2023, "DINOv2"; Stein et al. 2023, "Exposing flaws of generative model evaluation metrics and
    their unfair treatment of diffusion models".
    """

    key = "dinov2"
    name = "dinov2"
    distance_label = "FD-DINOv2 (lower = better)"
    distance_short = "FD-DINOv2"
    kernel_label = "KD-DINOv2 (lower = better)"
    kernel_short = "KD-DINOv2"

    def __init__(self, folder: Path, title: str, device: str, dtype: FeatureDType = "float32") -> None:
        self._folder, self._device = folder, device
        self._dtype: FeatureDType = dtype
        self._network: nn.Module | None = None
        digest = file_digest(weights_file(folder))[:8]
        self.identity = f"{title}, {SIDE} px antialiased bicubic, {NAMES[dtype]}, weights {digest}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, for uint8 `image_CHW` of any sizes."""
        if self._network is None:
            self._network = place(ClassToken(self._folder), self._device, self._dtype)
        return run_by_size(self._network, images, self._device, self._dtype, lambda x: standardise(x, SIDE, MEAN, STD))


class ClassToken(nn.Module):
    """The first token of transformers' Dinov2Model."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import Dinov2Model

        self.model = from_pretrained(Dinov2Model, folder, local_files_only=True, dtype=torch.float32)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        tokens_BLD: Tensor = self.model(images_BCHW).last_hidden_state
        return tokens_BLD[:, 0]
