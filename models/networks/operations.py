"""The arithmetic between the matrix products, in plain torch: what a faster set of operations has to agree with.

Networks call these through their attribute `operations`, so that one definition of a network runs either way:
`use_operations(network, FUSED)` (models/networks/fused.py) puts one kernel in the place of each of them.
R rows (an image's conditional and its unconditional one), L tokens, C width, H heads, D head dimension, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.next_scale import draw, guide, keep_likeliest
from models.networks.noise import uniform_noise

NORM_EPS = 1e-6


class KeyValueCache(NamedTuple):
    """Keys and values of one block, `(R, H, L, D)` each for all L tokens, written in place scale by scale."""

    keys_RHLD: Tensor
    values_RHLD: Tensor

    def until(self, end: int) -> tuple[Tensor, Tensor]:
        """Return the keys and values of the first `end` tokens."""
        return self.keys_RHLD[:, :, :end], self.values_RHLD[:, :, :end]


class Rotation(NamedTuple):
    """Cosines and sines, float32, `(L, D / 2)` each, by which pairs of neighbouring channels turn (RoPE)."""

    cosines_LP: Tensor
    sines_LP: Tensor

    def between(self, start: int, end: int) -> Rotation:
        return Rotation(self.cosines_LP[start:end], self.sines_LP[start:end])


class Norm(NamedTuple):
    """What a LayerNorm multiplies and adds, float32: `(R, 1, C)`, or `(C,)` where all rows share it."""

    weight: Tensor
    bias: Tensor


class Operations:
    """Plain torch, the reference."""

    def norm(self, x_RLC: Tensor, norm: Norm, dtype: torch.dtype) -> Tensor:
        """Return LayerNorm(x) * weight + bias, worked out in float32, in `dtype`."""
        normal_RLC = functional.layer_norm(x_RLC.float(), x_RLC.shape[-1:], eps=NORM_EPS)
        return (normal_RLC * norm.weight + norm.bias).to(dtype)

    def residual_norm(
        self, x_RLC: Tensor, update_RLC: Tensor, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the residual stream plus the gated update, float32, and its norm for the layer that comes next."""
        x_RLC = x_RLC + (update_RLC if gate is None else gate * update_RLC)
        return x_RLC, self.norm(x_RLC, norm, dtype)

    def linear_residual_norm(
        self, x_RLC: Tensor, input_RLE: Tensor, linear: nn.Linear, gate: Tensor | None, norm: Norm, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return what `residual_norm` does for the linear layer of an input."""
        return self.residual_norm(x_RLC, linear(input_RLE), gate, norm, dtype)

    def split_heads(
        self,
        qkv_RLE: Tensor,
        heads: int,
        scale_H: Tensor | None,
        rotation: Rotation | None,
        cache: KeyValueCache | None,
        start: int,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values, `(R, H, L, D)`, of a joint projection whose channels are q, k, v.

        scale_H: for cosine attention; q and k are divided by their length and q is multiplied by it, head by head.
        rotation: turns q and k by the tokens' places. cache: is written from token `start` on, and the keys and
        values returned are those of all tokens so far.
        """
        rows, tokens, _ = qkv_RLE.shape
        q_RHLD, k_RHLD, v_RHLD = qkv_RLE.view(rows, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4)
        if scale_H is not None:
            q_RHLD = functional.normalize(q_RHLD.float(), dim=-1) * scale_H[:, None, None]
            k_RHLD = functional.normalize(k_RHLD.float(), dim=-1)
        if rotation is not None:
            q_RHLD, k_RHLD = rotate(q_RHLD, rotation), rotate(k_RHLD, rotation)
        q_RHLD, k_RHLD = q_RHLD.to(v_RHLD.dtype), k_RHLD.to(v_RHLD.dtype)
        if cache is None:
            return q_RHLD, k_RHLD, v_RHLD
        end = start + tokens
        cache.keys_RHLD[:, :, start:end] = k_RHLD
        cache.values_RHLD[:, :, start:end] = v_RHLD
        return q_RHLD, *cache.until(end)

    def self_attend(
        self,
        qkv_RLE: Tensor,
        heads: int,
        scale_H: Tensor | None,
        rotation: Rotation | None,
        softmax_scale: float,
        mask_LL: Tensor | None = None,
        cache: KeyValueCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """Return the tokens' attention to those of the mask, or to all in the cache, heads side by side: `(R, L, C)`.

        The arguments are those of `split_heads`.
        """
        q_RHLD, k_RHLD, v_RHLD = self.split_heads(qkv_RLE, heads, scale_H, rotation, cache, start)
        return self.attend(q_RHLD, k_RHLD, v_RHLD, mask_LL, softmax_scale)

    def attend(self, q_RHLD: Tensor, k_RHTD: Tensor, v_RHTD: Tensor, mask: Tensor | None, scale: float) -> Tensor:
        """Return softmax(q k^T scale) v with the heads side by side, `(R, L, C)`."""
        answer_RHLD = functional.scaled_dot_product_attention(q_RHLD, k_RHTD, v_RHTD, attn_mask=mask, scale=scale)
        return answer_RHLD.transpose(1, 2).flatten(2)

    def linear_gelu(self, x_RLC: Tensor, linear: nn.Linear) -> Tensor:
        """Return GELU (tanh approximation) of the linear layer."""
        return functional.gelu(linear(x_RLC), approximate="tanh")

    def draw_codes(
        self, logits_RLV: Tensor, strength: float, top_k: int, top_p: float, exponentials_BLV: Tensor
    ) -> Tensor:
        """Return `codes_BL`: guidance of this strength, the filters, and one draw a token."""
        guided_BLV = guide(logits_RLV.float(), strength)
        return draw(keep_likeliest(guided_BLV, top_k, top_p), exponentials_BLV)

    def fill_uniform(self, uniform_BLV: Tensor, keys_B2: Tensor) -> None:
        """Write the requests' own noise, `noise.uniform_noise`."""
        uniform_BLV.copy_(uniform_noise(keys_B2, *uniform_BLV.shape[1:]))

    def decoding_of(self, quantizer: Any) -> Any:
        """Return what adds up a residual quantiser's scales: the quantiser itself, or a form of it that is faster."""
        return quantizer

    def norm_silu(self, x_BCHW: Tensor, norm: nn.GroupNorm) -> Tensor:
        """Return SiLU(GroupNorm(x))."""
        return functional.silu(norm(x_BCHW))

    def convolve_norm_silu(self, x_BCHW: Tensor, convolution: nn.Conv2d, norm: nn.GroupNorm) -> Tensor:
        """Return SiLU(GroupNorm(convolution(x)))."""
        return self.norm_silu(convolution(x_BCHW), norm)

    def convolve_add(self, x_BCHW: Tensor, convolution: nn.Conv2d, shortcut_BCHW: Tensor) -> Tensor:
        """Return shortcut + convolution(x)."""
        sum_BCHW: Tensor = shortcut_BCHW + convolution(x_BCHW)
        return sum_BCHW

    def double_convolve(self, x_BCHW: Tensor, convolution: nn.Conv2d) -> Tensor:
        """Return the convolution of the image at twice the resolution, each pixel repeated."""
        doubled_BCHW: Tensor = convolution(functional.interpolate(x_BCHW, scale_factor=2.0, mode="nearest"))
        return doubled_BCHW


PLAIN = Operations()


def rotate(x_RHLD: Tensor, rotation: Rotation) -> Tensor:
    """Return x with each pair of channels (2j, 2j + 1) turned by its angle, float32."""
    a_RHLP, b_RHLP = x_RHLD.float()[..., 0::2], x_RHLD.float()[..., 1::2]
    cosines, sines = rotation
    return torch.stack((a_RHLP * cosines - b_RHLP * sines, a_RHLP * sines + b_RHLP * cosines), dim=-1).flatten(-2)


def use_operations(network: nn.Module, operations: Operations) -> None:
    """Let every part of the network run with these operations."""
    for part in network.modules():
        if hasattr(type(part), "operations"):
            part.operations = operations  # type: ignore[assignment]
