"""Latents to images, a few at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# A decoder's activations are the largest tensors there are, and it is no faster with more images at once.
PIXELS_AT_ONCE = 64 * 256 * 256


def decode_images(
    decode: Callable[[Tensor], Tensor], latents_BCHW: Tensor, downsampling: int, extremes_2B: Tensor | None = None
) -> Tensor:
    """Return `images_BCHW`, uint8 0..255, of latents; `decode` answers with images of about [-1, 1].

    extremes_2B: takes each image's least and greatest value before it is clamped, float32; NaN where one is NaN. It is
    filled without waiting for the device, so that it can be looked at after a CUDA graph.
    """
    pixels = latents_BCHW.shape[2] * latents_BCHW.shape[3] * downsampling**2
    at_once = max(PIXELS_AT_ONCE // pixels, 1)
    if latents_BCHW.is_cuda:
        latents_BCHW = latents_BCHW.contiguous(memory_format=torch.channels_last)
    parts = []
    for place, part_BCHW in enumerate(torch.split(latents_BCHW, at_once)):
        # Widened first: bfloat16 cannot tell neighbouring values of 0..255 apart.
        images_BCHW = decode(part_BCHW).float()
        if extremes_2B is not None:
            among_2B = extremes_2B[:, place * at_once : place * at_once + len(images_BCHW)]
            # Over three dimensions at once, since flattening would copy images whose channels lie last.
            among_2B[0].copy_(images_BCHW.amin(dim=(1, 2, 3)))
            among_2B[1].copy_(images_BCHW.amax(dim=(1, 2, 3)))
        parts.append(to_uint8(images_BCHW))
    return torch.cat(parts)


def to_uint8(images_BCHW: Tensor) -> Tensor:
    """Return float32 images of [-1, 1], clamped as the published code does, as 0..255, rounded, contiguous."""
    return ((images_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).contiguous()
