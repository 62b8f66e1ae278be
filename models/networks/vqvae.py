"""The multi-scale residual VQVAE that turns images into tokens of S scales and back.

Attribute names are those of the published state dict. `encoder` and `decoder` may run in half precision; the
quantiser stays in float32, because every scale adds to one running estimate.
Source: arXiv 2404.02905, algorithms 1 and 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.convolutions import ConvolutionShape, Decoder, Encoder, read_convolution_shape
from models.networks.next_scale import phi_index, resize, resize_matrix


@dataclass(frozen=True)
class VQVAEShape:
    """All sizes of a VQVAE; `patch_nums` belongs to the transformer's file, since the VQVAE's does not hold it."""

    convolutions: ConvolutionShape
    vocabulary: int
    patch_nums: tuple[int, ...]
    phis: int = 4

    @property
    def image_size(self) -> int:
        return self.patch_nums[-1] * self.convolutions.downsampling


def vqvae_shape(patch_nums: Sequence[int]) -> VQVAEShape:
    """Return the shape of the published tokenizer (vae_ch160v4096z32) for these scales."""
    return VQVAEShape(ConvolutionShape((160, 160, 320, 320, 640), 2, 32), 4096, tuple(patch_nums))


def read_vqvae_shape(state: dict[str, Tensor], patch_nums: Sequence[int]) -> VQVAEShape:
    """Return the shape of the VQVAE whose state dict is given. Raises KeyError with the first name that is missing."""
    phis = sum(1 for key in state if key.startswith("quantize.quant_resi.qresi_ls.") and key.endswith(".weight"))
    vocabulary = int(state["quantize.embedding.weight"].shape[0])
    return VQVAEShape(read_convolution_shape(state), vocabulary, tuple(patch_nums), phis)


class Phi(nn.Conv2d):
    """Half the input, half a 3x3 convolution of it: fixes what upsampling blurs."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, h_BCHW: Tensor) -> Tensor:
        return torch.lerp(h_BCHW, super().forward(h_BCHW), 0.5)


class PhiBank(nn.Module):
    """The few phi convolutions that all scales share."""

    def __init__(self, channels: int, phis: int) -> None:
        super().__init__()
        self.qresi_ls = nn.ModuleList(Phi(channels) for _ in range(phis))

    def forward(self, h_BCHW: Tensor, scale: int, num_scales: int) -> Tensor:
        mended: Tensor = self.qresi_ls[phi_index(scale, num_scales, len(self.qresi_ls))](h_BCHW)
        return mended


class MultiScaleQuantizer(nn.Module):
    """Residual quantisation, coarse to fine, with one codebook of dimension C; H = W = patch_nums[-1]."""

    def __init__(self, channels: int, vocabulary: int, patch_nums: Sequence[int], phis: int) -> None:
        super().__init__()
        self.patch_nums = tuple(patch_nums)
        self.embedding = nn.Embedding(vocabulary, channels)
        self.quant_resi = PhiBank(channels, phis)
        side = self.patch_nums[-1]
        for k, patch in enumerate(self.patch_nums):
            self.register_buffer(f"down_{k}", resize_matrix(side, patch, "area"), persistent=False)
            self.register_buffer(f"up_{k}", resize_matrix(patch, side, "bicubic"), persistent=False)

    def empty_estimate(self, batch: int) -> Tensor:
        """Return the estimate `f_hat_BCHW` before any scale: zeros."""
        side = self.patch_nums[-1]
        return self.embedding.weight.new_zeros(batch, self.embedding.embedding_dim, side, side)

    def decode_scale(self, scale: int, codes_BL: Tensor) -> Tensor:
        """Return what the codes of `scale` add to the estimate, `(B, C, H, W)`."""
        return self.spread(scale, self.embedding(codes_BL))

    def spread(self, scale: int, vectors_BLC: Tensor) -> Tensor:
        """Return what these vectors, in the places of codes of `scale`, add to the estimate, `(B, C, H, W)`."""
        side = self.patch_nums[scale]
        h_BCHW = vectors_BLC.transpose(1, 2).reshape(len(vectors_BLC), -1, side, side)
        if scale < len(self.patch_nums) - 1:
            h_BCHW = resize(h_BCHW, self.get_buffer(f"up_{scale}"))
        spread_BCHW: Tensor = self.quant_resi(h_BCHW, scale, len(self.patch_nums))
        return spread_BCHW

    def add(self, f_hat_BCHW: Tensor, scale: int, codes_BL: Tensor, weights_BLV: Tensor | None = None) -> Tensor:
        """Return the estimate after `scale`; with weights, a mean of all entries stands in the place of each code."""
        vectors_BLC = self.embedding(codes_BL) if weights_BLV is None else weights_BLV @ self.embedding.weight
        return f_hat_BCHW + self.spread(scale, vectors_BLC)

    def image(self, f_hat_BCHW: Tensor) -> Tensor:
        """Return the estimate as the decoder reads it, `(B, C, H, W)`."""
        return f_hat_BCHW

    def input_of(self, scale: int, f_hat_BCHW: Tensor) -> Tensor:
        """Return the estimate averaged down to `scale`, as the transformer reads it: `inputs_BLC`."""
        return self._downsample(scale, f_hat_BCHW).flatten(2).transpose(1, 2)

    def encode(self, f_BCHW: Tensor) -> list[Tensor]:
        """Return the codes of every scale, `codes_BL` each, of latents in float32."""
        residual_BCHW = f_BCHW
        codes: list[Tensor] = []
        for scale in range(len(self.patch_nums)):
            codes.append(self.nearest(self.input_of(scale, residual_BCHW)))
            residual_BCHW = residual_BCHW - self.decode_scale(scale, codes[-1])
        return codes

    def estimates(self, codes: Sequence[Tensor]) -> list[Tensor]:
        """Return the estimate after each scale, `f_hat_BCHW` each."""
        estimates = [self.empty_estimate(len(codes[0]))]
        for scale, codes_BL in enumerate(codes):
            estimates.append(estimates[-1] + self.decode_scale(scale, codes_BL))
        return estimates[1:]

    def teacher_inputs(self, codes: Sequence[Tensor]) -> Tensor:
        """Return the transformer's inputs of scales 1.. for these codes: `(B, L - 1, C)`."""
        estimates = self.estimates(codes)
        return torch.cat([self.input_of(k + 1, estimate) for k, estimate in enumerate(estimates[:-1])], dim=1)

    def forward(self, f_BCHW: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Quantise for training: return the estimate, the loss, and the codes.

        The estimate passes gradients to codebook and phi as computed, and straight through to the latents. The loss
        pulls the estimate after every scale to the latents (codebook and phi), and the latents to it (commitment),
        with weight 1/4 each, averaged over scales.
        """
        with torch.autocast(f_BCHW.device.type, enabled=False):
            f_BCHW = f_BCHW.float()
            codes = self.encode(f_BCHW.detach())
            estimates = self.estimates(codes)
            losses = [
                0.25 * functional.mse_loss(estimate, f_BCHW.detach())
                + 0.25 * functional.mse_loss(f_BCHW, estimate.detach())
                for estimate in estimates
            ]
            return estimates[-1] + (f_BCHW - f_BCHW.detach()), torch.stack(losses).mean(), codes

    def nearest(self, vectors_BLC: Tensor) -> Tensor:
        """Return the entries `codes_BL` that are nearest to these vectors."""
        table_VC = self.embedding.weight
        # ||x - e||^2 without ||x||^2, which is the same for every entry.
        distance_BLV = table_VC.square().sum(dim=1) - 2 * vectors_BLC @ table_VC.T
        return distance_BLV.argmin(dim=-1)

    def _downsample(self, scale: int, f_BCHW: Tensor) -> Tensor:
        return f_BCHW if scale == len(self.patch_nums) - 1 else resize(f_BCHW, self.get_buffer(f"down_{scale}"))


class FoldedQuantizer:
    """Decoding by a `MultiScaleQuantizer` of fixed weights, in one look-up and one product a scale.

    Looking up, resizing and phi are linear in the codebook. What each of phi's nine taps makes of an entry is a table,
    and where it puts that is a matrix of the scale. The estimate is `f_hat_BNC`, N = H W, channels last.
    """

    def __init__(self, quantizer: MultiScaleQuantizer) -> None:
        self.side, self.channels = quantizer.patch_nums[-1], quantizer.embedding.embedding_dim
        phis = quantizer.quant_resi.qresi_ls
        tables = [folded_table(quantizer.embedding.weight, phi) for phi in phis]  # type: ignore[arg-type]
        self.tables, self.spreads, self.downs = [], [], []
        last = len(quantizer.patch_nums) - 1
        for scale in range(last + 1):
            self.tables.append(tables[phi_index(scale, last + 1, len(phis))])
            up_Sp, down_pS = quantizer.get_buffer(f"up_{scale}"), quantizer.get_buffer(f"down_{scale}")
            if scale == last:
                up_Sp = torch.eye(self.side, device=up_Sp.device)
            # Row y of shift i is row y + i - 1 of the image, or nothing beside it.
            padded = functional.pad(up_Sp, (0, 0, 1, 1))
            shifts_3Sp = torch.stack([padded[i : i + self.side] for i in range(3)])
            spread = torch.einsum("iya,jxb->yxabij", shifts_3Sp, shifts_3Sp)
            self.spreads.append(spread.reshape(self.side**2, -1))
            if scale < last:
                self.downs.append(torch.kron(down_pS, down_pS))

    def empty_estimate(self, batch: int) -> Tensor:
        """Return `f_hat_BNC` before any scale: zeros."""
        return self.tables[0].new_zeros(batch, self.side**2, self.channels)

    def add(self, f_hat_BNC: Tensor, scale: int, codes_BL: Tensor, weights_BLV: Tensor | None = None) -> Tensor:
        """Return the estimate after `scale`, as `MultiScaleQuantizer.add`."""
        table = self.tables[scale]
        taps_BLE = functional.embedding(codes_BL, table) if weights_BLV is None else weights_BLV @ table
        batch = len(codes_BL)
        taps_BKC = taps_BLE.view(batch, -1, self.channels)
        return torch.baddbmm(f_hat_BNC, self.spreads[scale].expand(batch, -1, -1), taps_BKC)

    def image(self, f_hat_BNC: Tensor) -> Tensor:
        return f_hat_BNC.transpose(1, 2).unflatten(2, (self.side, self.side))  # type: ignore[no-any-return, no-untyped-call]

    def input_of(self, scale: int, f_hat_BNC: Tensor) -> Tensor:
        """Return the estimate averaged down to `scale`: `inputs_BLC`."""
        return f_hat_BNC if scale == len(self.downs) else self.downs[scale] @ f_hat_BNC


def folded_table(codebook_VC: Tensor, phi: nn.Conv2d) -> Tensor:
    """Return what each tap of phi makes of each entry, `(V, 9 C)`; the bias is in the middle tap.

    Resizing keeps a constant as it is, so that it passes the bias on.
    """
    identity_CC33 = torch.zeros_like(phi.weight)
    nn.init.dirac_(identity_CC33)
    weight_CC33 = 0.5 * identity_CC33 + 0.5 * phi.weight
    table_V33C = torch.einsum("vc,ocij->vijo", codebook_VC, weight_CC33)
    assert phi.bias is not None
    table_V33C[:, 1, 1] += 0.5 * phi.bias
    return table_V33C.flatten(1)


class VQVAE(nn.Module):
    """Encoder, quantiser and decoder."""

    def __init__(self, shape: VQVAEShape) -> None:
        super().__init__()
        self.shape = shape
        latent = shape.convolutions.latent_channels
        self.encoder = Encoder(shape.convolutions)
        self.decoder = Decoder(shape.convolutions)
        self.quantize = MultiScaleQuantizer(latent, shape.vocabulary, shape.patch_nums, shape.phis)
        self.quant_conv = nn.Conv2d(latent, latent, 3, padding=1)
        self.post_quant_conv = nn.Conv2d(latent, latent, 3, padding=1)

    @property
    def derivable_keys(self) -> frozenset[str]:
        """Names that a published file may hold or lack: statistics of its training."""
        return frozenset(("quantize.ema_vocab_hit_SV",))

    def cast(self, dtype: torch.dtype) -> Self:
        """Run the networks in `dtype` and the quantiser in float32."""
        for part in (self.encoder, self.decoder, self.quant_conv, self.post_quant_conv):
            part.to(dtype)
        return self

    def encode_latents(self, images_BCHW: Tensor) -> Tensor:
        """Return `f_BCHW`, the latents before quantisation, of images in [-1, 1]."""
        latents: Tensor = self.quant_conv(self.encoder(images_BCHW.to(self.quant_conv.weight.dtype)))
        return latents

    def encode(self, images_BCHW: Tensor) -> list[Tensor]:
        """Return the codes of every scale of images in [-1, 1]."""
        return self.quantize.encode(self.encode_latents(images_BCHW).float())

    def decode_latents(self, f_BCHW: Tensor) -> Tensor:
        """Return images for latents, not yet clamped to [-1, 1], in the decoder's dtype."""
        images: Tensor = self.decoder(self.post_quant_conv(f_BCHW.to(self.post_quant_conv.weight.dtype)))
        return images

    def decode(self, codes: Sequence[Tensor]) -> Tensor:
        """Return images in [-1, 1], float32, for the codes of every scale."""
        return self.decode_latents(self.quantize.estimates(codes)[-1]).float().clamp(-1, 1)
