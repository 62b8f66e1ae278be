"""Latents to pictures, a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A decoder's activations are the largest tensors there are, and it is no faster with more pictures at once.
PIXELS_AT_ONCE = 64 * 256 * 256


def decode_pictures(decode: Callable[[Tensor], Tensor], latents_BCHW: Tensor, downsampling: int) -> Tensor:
    """Return `images_BCHW`, uint8 0..255, of latents; `decode` answers with images of about [-1, 1]."""
    pixels = latents_BCHW.shape[2] * latents_BCHW.shape[3] * downsampling**2
    at_once = max(PIXELS_AT_ONCE // pixels, 1)
    if latents_BCHW.is_cuda:
        latents_BCHW = latents_BCHW.contiguous(memory_format=torch.channels_last)
    return torch.cat([to_uint8(decode(part_BCHW)) for part_BCHW in torch.split(latents_BCHW, at_once)])


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Return images of [-1, 1] as 0..255, rounded, contiguous."""
    # Widened first: bfloat16 cannot tell neighbouring values of 0..255 apart.
    return ((images_BCHW.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous()
