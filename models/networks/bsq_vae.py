"""The bitwise tokenizer of Infinity: an autoencoder whose latents become signs, coarse to fine, and back.

A place of a scale holds d bits; bit b stands for +-1 / sqrt(d) in channel b (binary spherical quantisation), so that
there is no codebook. The latents' estimate is the sum of all scales, resized bilinearly to the finest grid. The module
names are those of the published state dict without its `.conv` and `.norm`.
Source: Han et al., Infinity (arXiv 2412.04431); Zhao et al., Binary Spherical Quantization (arXiv 2406.07548).
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.convolutions import ConvolutionShape, Decoder, Encoder, read_convolution_shape
from models.networks.next_scale import Grid


def bsq_vae_shape() -> ConvolutionShape:
    """Return the shape of the published tokenizer (infinity_vae_d32reg)."""
    return ConvolutionShape((128, 256, 512, 512, 512), 2, 32, attention=False, middle_attention=False)


def plain_names(state: Mapping[str, Tensor], expected: Collection[str]) -> dict[str, Tensor]:
    """Return the state with this module's names: published files have `X.conv.weight` or `X.weight` for one layer."""
    renamed = {}
    for key, value in state.items():
        short = re.sub(r"\.(conv|norm)\.(weight|bias)$", r".\2", key)
        renamed[key if key in expected or short not in expected else short] = value
    return renamed


def read_bsq_vae_shape(state: Mapping[str, Tensor]) -> ConvolutionShape:
    """Return the shape of the tokenizer whose state dict is given, in either spelling.

    Raises KeyError with the first name that is missing.
    """
    layers = r"(conv_in|conv_out|conv\d|norm\d|nin_shortcut|norm_out|qkv|proj_out)"
    short = {re.sub(rf"\.{layers}\.(conv|norm)\.(\w+)$", r".\1.\3", key): value for key, value in state.items()}
    return read_convolution_shape(short)


@dataclass(frozen=True)
class BitwiseScales:
    """Arithmetic of the estimate `sum_BdHW` for these grids, coarse to fine; H x W is the last grid."""

    grids: tuple[Grid, ...]

    def vectors(self, scale: int, bits_BLd: Tensor) -> Tensor:
        """Return the unit vectors that the bits of a scale stand for, on its grid: `(B, d, h, w)`, float32."""
        signs_BLd = bits_BLd.float() * 2 - 1
        vectors_BdL = signs_BLd.transpose(1, 2) / math.sqrt(bits_BLd.shape[-1])
        return vectors_BdL.reshape(*vectors_BdL.shape[:2], *self.grids[scale])

    def add(self, sum_BdHW: Tensor, scale: int, bits_BLd: Tensor) -> Tensor:
        """Return the estimate after the bits of `scale`."""
        return sum_BdHW + resize_bilinear(self.vectors(scale, bits_BLd), self.grids[-1])

    def empty_sum(self, batch: int, bits: int, device: torch.device) -> Tensor:
        """Return the estimate before any scale: zeros."""
        return torch.zeros(batch, bits, *self.grids[-1], device=device)

    def input_of(self, scale: int, sum_BdHW: Tensor) -> Tensor:
        """Return the estimate at the places of `scale`, as the transformer reads it: `inputs_BLd`."""
        return resize_bilinear(sum_BdHW, self.grids[scale]).flatten(2).transpose(1, 2)

    def sums(self, bits: Sequence[Tensor]) -> list[Tensor]:
        """Return the estimate after each scale, `sum_BdHW` each."""
        sums = [self.empty_sum(len(bits[0]), bits[0].shape[-1], bits[0].device)]
        for scale, bits_BLd in enumerate(bits):
            sums.append(self.add(sums[-1], scale, bits_BLd))
        return sums[1:]

    def teacher_inputs(self, bits: Sequence[Tensor]) -> Tensor:
        """Return the transformer's inputs of scales 1.. for these bits: `(B, L - 1, d)`."""
        return torch.cat([self.input_of(k + 1, total) for k, total in enumerate(self.sums(bits)[:-1])], dim=1)

    def encode(self, f_BdHW: Tensor) -> list[Tensor]:
        """Return the bits of every scale, `bits_BLd`, bool, of latents in float32. A latent of zero counts as 0."""
        residual_BdHW, bits = f_BdHW, []
        for scale, grid in enumerate(self.grids):
            coarse_BdHW = functional.adaptive_avg_pool2d(residual_BdHW, grid)
            bits.append((coarse_BdHW > 0).flatten(2).transpose(1, 2))
            residual_BdHW = residual_BdHW - resize_bilinear(self.vectors(scale, bits[-1]), self.grids[-1])
        return bits


def resize_bilinear(image_BdHW: Tensor, grid: Grid) -> Tensor:
    """Return the image at another resolution by bilinear interpolation, also where it shrinks; itself where equal."""
    if tuple(image_BdHW.shape[2:]) == tuple(grid):
        return image_BdHW
    return functional.interpolate(image_BdHW, size=grid, mode="bilinear", align_corners=False)


class BSQVAE(nn.Module):
    """Encoder and decoder; the quantiser between them has no parameters (`BitwiseScales`)."""

    def __init__(self, shape: ConvolutionShape) -> None:
        super().__init__()
        self.shape = shape
        self.encoder = Encoder(shape)
        self.decoder = Decoder(shape)

    def cast(self, dtype: torch.dtype) -> Self:
        """Run the networks in `dtype`."""
        self.to(dtype)
        return self

    def encode_latents(self, images_BCHW: Tensor) -> Tensor:
        """Return `f_BdHW`, the latents before quantisation, of images in [-1, 1]."""
        latents: Tensor = self.encoder(images_BCHW.to(self.encoder.conv_in.weight.dtype))
        return latents

    def decode_latents(self, sum_BdHW: Tensor) -> Tensor:
        """Return images for latents, not yet clamped to [-1, 1], in the decoder's dtype."""
        images: Tensor = self.decoder(sum_BdHW.to(self.decoder.conv_in.weight.dtype))
        return images
