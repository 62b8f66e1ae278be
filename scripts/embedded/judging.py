"""Says how right generated robots are: their parts by an attribute network, their pixels by the exact image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.extractors.attribute_network import AttributeNetwork
from metrics.robots.grammar import PARTS


@dataclass(frozen=True)
class Judgement:
    """Shares in percent, PSNR in dB (the mean over images; peak 1.0)."""

    images: int
    parts: Mapping[str, float]
    all_right: float
    psnr_db: float

    def parts_text(self) -> str:
        parts = ", ".join(f"{part} {share:.1f}" for part, share in self.parts.items())
        return f"all right {self.all_right:.1f} % ({parts}), {self.images} images"

    def text(self) -> str:
        return f"{self.parts_text()}, {self.psnr_db:.2f} dB to the exact image"


def psnr_db(images_BCHW: Tensor, exact_BCHW: Tensor) -> float:
    """Return the mean over images of their peak signal-to-noise ratio; both are -1..1, judged as 8-bit levels."""
    levels = ((images_BCHW.float().clamp(-1, 1) + 1) * 127.5).round() / 255
    error_B = (levels - (exact_BCHW + 1) / 2).square().mean(dim=(1, 2, 3))
    return float((-10 * error_B.clamp(min=1e-10).log10()).mean())


@torch.inference_mode()
def judge(
    images_BCHW: Tensor,
    exact_BCHW: Tensor,
    asked_BA: Tensor,
    network: AttributeNetwork,
    parts: Sequence[str] = PARTS,
    batch: int = 128,
) -> Judgement:
    """Judge images in -1..1 by what was asked of the named parts."""
    seen_BA = torch.cat([network.predict(images.float().clamp(-1, 1)) for images in torch.split(images_BCHW, batch)])
    right_BA = (seen_BA == asked_BA)[:, [PARTS.index(part) for part in parts]]
    shares = right_BA.float().mean(0).mul(100).tolist()
    return Judgement(
        images=len(images_BCHW),
        parts=dict(zip(parts, shares, strict=True)),
        all_right=100 * right_BA.all(dim=1).float().mean().item(),
        psnr_db=psnr_db(images_BCHW, exact_BCHW),
    )
