"""What the next-scale transformers share: cosine attention with a cache, the MLP, adaptive LayerNorm.

R rows, L tokens, C width, H heads, D head dimension. Attribute names are those of the published state dicts. The
residual stream and the normalisations are float32, the matrix products run in the dtype of their weights.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.operations import PLAIN, KeyValueCache, Norm, Operations, Rotation


class AttentionConstants(NamedTuple):
    """What follows from the weights of one self-attention alone: the bias of q, k and v, and q's scale in each head."""

    bias_E: Tensor
    scale_H: Tensor | None


class SelfAttention(nn.Module):
    """Attention of a scale's tokens to those of all scales so far; cosine attention where `cosine`."""

    operations: Operations = PLAIN

    def __init__(self, width: int, heads: int, cosine: bool) -> None:
        super().__init__()
        self.heads = heads
        # Without cosine attention the published code divides by four times the usual root.
        self.softmax_scale = 1.0 if cosine else 0.25 / math.sqrt(width // heads)
        self.cosine = cosine
        if cosine:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, heads, 1, 1), math.log(4)))
        self.mat_qkv = nn.Linear(width, 3 * width, bias=False)
        # Keys have no bias: it would cancel in the softmax.
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def constants(self) -> AttentionConstants:
        bias_E = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias)).to(self.mat_qkv.weight.dtype)
        if not self.cosine:
            return AttentionConstants(bias_E, None)
        return AttentionConstants(bias_E, self.scale_mul_1H11.float().clamp(max=math.log(100)).exp().flatten())

    def forward(
        self,
        x_RLC: Tensor,
        constants: AttentionConstants,
        rotation: Rotation | None = None,
        mask_LL: Tensor | None = None,
        cache: KeyValueCache | None = None,
        start: int = 0,
    ) -> Tensor:
        """Return the answer, heads side by side, `(R, L, C)`, which `proj` is still to be applied to.

        With a cache, the tokens stand from `start` on in the sequence.
        """
        qkv_RLE = functional.linear(x_RLC, self.mat_qkv.weight, constants.bias_E)
        return self.operations.self_attend(
            qkv_RLE, self.heads, constants.scale_H, rotation, self.softmax_scale, mask_LL, cache, start
        )


class FeedForward(nn.Module):
    operations: Operations = PLAIN

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x_RLC: Tensor) -> Tensor:
        """Return the hidden layer, which `fc2` is still to be applied to."""
        return self.operations.linear_gelu(x_RLC, self.fc1)


class Modulation(NamedTuple):
    """Adaptive LayerNorm of one block for the rows at hand, float32: of attention and of the MLP, and their gates."""

    attention: Norm
    attention_gate_R1C: Tensor
    mlp: Norm
    mlp_gate_R1C: Tensor


def modulations_of(rows_NR16C: Tensor) -> list[Modulation]:
    """Return the modulations of N blocks whose six rows are: two gates, two scales, two shifts.

    A norm's weight is 1 + scale.
    """
    gates_NR12C, scales_NR12C, shifts_NR12C = rows_NR16C.float().chunk(3, dim=3)
    modulations = []
    for gates_R12C, weights_R12C, shifts_R12C in zip(gates_NR12C, 1 + scales_NR12C, shifts_NR12C, strict=True):
        attention, mlp = (Norm(weights_R12C[:, :, i], shifts_R12C[:, :, i]) for i in range(2))
        modulations.append(Modulation(attention, gates_R12C[:, :, 0], mlp, gates_R12C[:, :, 1]))
    return modulations


def modulation_layer(width: int, rows: int) -> nn.Sequential:
    """Return the layer that makes `rows` rows of modulation of the condition."""
    return nn.Sequential(nn.SiLU(), nn.Linear(width, rows * width))


class HeadNorm(nn.Module):
    """The adaptive LayerNorm before the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = modulation_layer(width, 2)

    def norm(self, cond_RC: Tensor) -> Norm:
        scale_R1C, shift_R1C = self.ada_lin(cond_RC).float()[:, None].chunk(2, dim=2)
        return Norm(1 + scale_R1C, shift_R1C)


def new_caches(
    blocks: int, rows: int, heads: int, tokens: int, head_dim: int, like: Tensor
) -> tuple[KeyValueCache, ...]:
    """Return an empty cache for every block, in one allocation, in the dtype and on the device of `like`."""
    room = like.new_empty(blocks, 2, rows, heads, tokens, head_dim)
    return tuple(KeyValueCache(*block) for block in room)


def cast_linear_layers(network: nn.Module, dtype: torch.dtype) -> None:
    """Run the linear layers of the network in `dtype`; embeddings, norms and scales stay as they are."""
    for part in network.modules():
        if isinstance(part, nn.Linear):
            part.to(dtype)
