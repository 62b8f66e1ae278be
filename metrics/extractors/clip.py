"""CLIP: embeddings of images, for CMMD, and of captions, for CLIPScore."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from files.opening import from_pretrained
from files.reading import file_digest
from metrics.base import FeatureDType, Scoring
from metrics.extractors.precision import NAMES, full_float32, place, run_by_size
from metrics.extractors.pretrained import find_folder, weights_file
from metrics.images import standardise

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_CAPTIONS_AT_ONCE = 64


def open_clip(scoring: Scoring) -> CLIPFeatures:
    """Return the extractor. Raises MetricUnavailable where CLIP_MODEL is not found."""
    folder = find_folder(scoring.clip_model, "CLIP_MODEL")
    return CLIPFeatures(folder, scoring.clip_model, scoring.device, scoring.feature_dtype)


class CLIPFeatures:
    """Projected embeddings of unit length, of whole images at the network's own size (antialiased bicubic).

    Source: Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision".
    """

    key = "clip"
    name = "clip"
    distance_label = "FD-CLIP (lower = better)"
    distance_short = "FD-CLIP"
    kernel_label = "CMMD (lower = better)"
    kernel_short = "CMMD"

    def __init__(self, folder: Path, title: str, device: str, dtype: FeatureDType = "float32") -> None:
        from transformers import CLIPConfig

        self._folder, self._device = folder, device
        self._dtype: FeatureDType = dtype
        self._network: nn.Module | None = None
        self._side: int = from_pretrained(CLIPConfig, folder, local_files_only=True).vision_config.image_size
        digest = file_digest(weights_file(folder))[:8]
        self.identity = f"{title}, {self._side} px antialiased bicubic, {NAMES[dtype]}, weights {digest}"

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, of unit length, for uint8 `image_CHW` of any sizes."""
        if self._network is None:
            self._network = place(ImageTower(self._folder), self._device, self._dtype)
        features_ND = run_by_size(
            self._network, images, self._device, self._dtype, lambda x: standardise(x, self._side, MEAN, STD)
        )
        return nn.functional.normalize(features_ND)

    def embed_captions(self, captions: Sequence[str]) -> Tensor:
        """Return `features_ND`, float32 on the CPU, of unit length; a caption that is too long is cut at its end."""
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        tokenizer = from_pretrained(AutoTokenizer, self._folder, local_files_only=True)
        tower = from_pretrained(CLIPTextModelWithProjection, self._folder, local_files_only=True, dtype=torch.float32)
        tower.eval().to(self._device)
        length = tower.config.max_position_embeddings
        rows = []
        with torch.inference_mode(), full_float32():
            for start in range(0, len(captions), _CAPTIONS_AT_ONCE):
                texts = list(captions[start : start + _CAPTIONS_AT_ONCE])
                tokens = tokenizer(texts, padding=True, truncation=True, max_length=length, return_tensors="pt")
                rows.append(tower(**tokens.to(self._device)).text_embeds.float().cpu())
        return nn.functional.normalize(torch.cat(rows))


class ImageTower(nn.Module):
    """The vision half of CLIP in transformers."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        self.model = from_pretrained(CLIPVisionModelWithProjection, folder, local_files_only=True, dtype=torch.float32)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        embeddings_BD: Tensor = self.model(images_BCHW).image_embeds
        return embeddings_BD
