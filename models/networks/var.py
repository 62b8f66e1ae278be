"""VAR: a class-conditional transformer that predicts images scale by scale.

B images, 2B rows with guidance (conditional, then unconditional), L tokens, C width, H heads, D head dimension,
V vocabulary, c codebook dimension. Attribute names are those of the published state dicts. The residual stream and
the normalisations run in float32, the linear layers in the dtype of their weights.
Source: Tian et al., Visual Autoregressive Modeling (arXiv 2404.02905).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.next_scale import (
    block_causal_mask,
    guide,
    keep_likeliest,
    patch_nums_from_levels,
    published_patch_nums,
    token_levels,
    token_offsets,
)
from models.networks.vqvae import MultiScaleQuantizer


@dataclass(frozen=True)
class VARShape:
    """All sizes and variants of a VAR transformer.

    shared_aln: one linear makes the modulation of all blocks, which add an offset of their own (the 512 px model).
    attn_l2_norm: cosine attention with a learnt scale per head.
    """

    depth: int
    width: int
    heads: int
    patch_nums: tuple[int, ...]
    codebook_dim: int
    vocabulary: int
    classes: int = 1000
    shared_aln: bool = False
    attn_l2_norm: bool = True


def var_shape(depth: int) -> VARShape:
    """Return the shape of the published model of this depth: heads = depth, width = 64 depth."""
    large = depth == 36
    sides = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32) if large else (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
    return VARShape(depth, 64 * depth, depth, sides, codebook_dim=32, vocabulary=4096, shared_aln=large)


def read_var_shape(state: dict[str, Tensor]) -> VARShape:
    """Return the shape of the transformer whose state dict is given.

    Raises KeyError with the first name that is missing, ValueError where scales cannot be told.
    """
    width, codebook_dim = state["word_embed.weight"].shape
    depth = 1 + max((int(key.split(".")[1]) for key in state if key.startswith("blocks.")), default=-1)
    if "lvl_1L" in state:
        patch_nums = patch_nums_from_levels(state["lvl_1L"])
    else:
        patch_nums = published_patch_nums(len(state["lvl_embed.weight"]), state["pos_1LC"].shape[1])
    scale = state.get("blocks.0.attn.scale_mul_1H11")
    return VARShape(
        depth=depth,
        width=width,
        # Without cosine attention nothing in the file tells the heads: the published rule is 64 dimensions a head.
        heads=width // 64 if scale is None else scale.shape[1],
        patch_nums=patch_nums,
        codebook_dim=codebook_dim,
        vocabulary=len(state["head.weight"]),
        classes=len(state["class_emb.weight"]) - 1,
        shared_aln="shared_ada_lin.1.weight" in state,
        attn_l2_norm=scale is not None,
    )


class KeyValueCache(NamedTuple):
    """Keys and values of one block, `(2B, H, L, D)` each for all L tokens, written in place scale by scale."""

    keys_BHLD: Tensor
    values_BHLD: Tensor

    def extend(self, start: int, k_BHLD: Tensor, v_BHLD: Tensor) -> tuple[Tensor, Tensor]:
        """Write the tokens from `start` on and return the keys and values of all tokens so far."""
        end = start + k_BHLD.shape[2]
        self.keys_BHLD[:, :, start:end] = k_BHLD
        self.values_BHLD[:, :, start:end] = v_BHLD
        return self.keys_BHLD[:, :, :end], self.values_BHLD[:, :, :end]


class SelfAttention(nn.Module):
    def __init__(self, shape: VARShape) -> None:
        super().__init__()
        self.heads, self.head_dim = shape.heads, shape.width // shape.heads
        self.cosine = shape.attn_l2_norm
        if self.cosine:
            self.scale_mul_1H11 = nn.Parameter(torch.full((1, shape.heads, 1, 1), math.log(4)))
        self.mat_qkv = nn.Linear(shape.width, 3 * shape.width, bias=False)
        # Keys have no bias: it would cancel in the softmax.
        self.q_bias = nn.Parameter(torch.zeros(shape.width))
        self.v_bias = nn.Parameter(torch.zeros(shape.width))
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, x_BLC: Tensor, mask_LL: Tensor | None, cache: KeyValueCache | None, start: int) -> Tensor:
        batch, tokens, width = x_BLC.shape
        bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        qkv_BL3C = functional.linear(x_BLC, self.mat_qkv.weight, bias)
        q_BHLD, k_BHLD, v_BHLD = qkv_BL3C.view(batch, tokens, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4)
        if self.cosine:
            scale_1H11 = self.scale_mul_1H11.float().clamp(max=math.log(100)).exp()
            q_BHLD = (functional.normalize(q_BHLD.float(), dim=-1) * scale_1H11).to(v_BHLD.dtype)
            k_BHLD = functional.normalize(k_BHLD.float(), dim=-1).to(v_BHLD.dtype)
        if cache is not None:
            k_BHLD, v_BHLD = cache.extend(start, k_BHLD, v_BHLD)
        softmax_scale = 1.0 if self.cosine else 0.25 / math.sqrt(self.head_dim)
        out_BHLD = functional.scaled_dot_product_attention(
            q_BHLD, k_BHLD, v_BHLD, attn_mask=mask_LL, scale=softmax_scale
        )
        projected: Tensor = self.proj(out_BHLD.transpose(1, 2).reshape(batch, tokens, width))
        return projected


class FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x_BLC: Tensor) -> Tensor:
        out_BLC: Tensor = self.fc2(functional.gelu(self.fc1(x_BLC), approximate="tanh"))
        return out_BLC


def modulated_norm(x_BLC: Tensor, scale_B1C: Tensor, shift_B1C: Tensor) -> Tensor:
    """Return LayerNorm(x) * (1 + scale) + shift, in float32."""
    return functional.layer_norm(x_BLC, x_BLC.shape[-1:], eps=1e-6) * (1 + scale_B1C) + shift_B1C


class Block(nn.Module):
    """Attention and MLP, each normalised, shifted, scaled and gated by the class (adaptive LayerNorm)."""

    def __init__(self, shape: VARShape) -> None:
        super().__init__()
        self.attn = SelfAttention(shape)
        self.ffn = FeedForward(shape.width)
        self.shared_aln = shape.shared_aln
        if self.shared_aln:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, shape.width) / math.sqrt(shape.width))
        else:
            self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(shape.width, 6 * shape.width))

    def modulation(self, condition: Tensor) -> Tensor:
        """Return `(B, 1, 6, C)`, float32: two gates, two scales, two shifts, from the condition of `VAR.condition`."""
        if self.shared_aln:
            shifted_B16C: Tensor = condition.float() + self.ada_gss.float()
            return shifted_B16C
        rows_BC: Tensor = self.ada_lin(condition)
        return rows_BC.float().view(len(rows_BC), 1, 6, -1)

    def forward(
        self, x_BLC: Tensor, modulation_B16C: Tensor, mask_LL: Tensor | None, cache: KeyValueCache | None, start: int
    ) -> Tensor:
        dtype = self.ffn.fc1.weight.dtype
        gate1, gate2, scale1, scale2, shift1, shift2 = modulation_B16C.unbind(2)
        x_BLC = x_BLC + gate1 * self.attn(modulated_norm(x_BLC, scale1, shift1).to(dtype), mask_LL, cache, start)
        out_BLC: Tensor = x_BLC + gate2 * self.ffn(modulated_norm(x_BLC, scale2, shift2).to(dtype))
        return out_BLC


class HeadNorm(nn.Module):
    """The adaptive LayerNorm before the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ada_lin = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))

    def modulation(self, cond_BC: Tensor) -> Tensor:
        """Return `(B, 1, 2, C)`, float32: scale and shift."""
        rows_BC: Tensor = self.ada_lin(cond_BC)
        return rows_BC.float().view(len(rows_BC), 1, 2, -1)


class Condition(NamedTuple):
    """What the class contributes to a picture, the same at every scale: computed once.

    first_B1C: the first token's content. blocks: each block's modulation. head_B12C: the head's.
    """

    first_B1C: Tensor
    blocks: tuple[Tensor, ...]
    head_B12C: Tensor


class VAR(nn.Module):
    """The transformer. `class_emb` has one row more than there are classes: the unconditional class."""

    lvl_1L: Tensor
    mask_LL: Tensor

    def __init__(self, shape: VARShape) -> None:
        super().__init__()
        self.shape = shape
        self.offsets = token_offsets(shape.patch_nums)
        width, tokens = shape.width, self.offsets[-1]
        deviation = math.sqrt(1 / width / 3)
        self.word_embed = nn.Linear(shape.codebook_dim, width)
        self.class_emb = nn.Embedding(shape.classes + 1, width)
        self.pos_start = nn.Parameter(torch.randn(1, 1, width) * deviation)
        self.pos_1LC = nn.Parameter(torch.randn(1, tokens, width) * deviation)
        self.lvl_embed = nn.Embedding(len(shape.patch_nums), width)
        self.shared_ada_lin = (
            nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width)) if shape.shared_aln else nn.Identity()
        )
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, shape.vocabulary)
        # In the file, because it alone tells the sides of the scales.
        self.register_buffer("lvl_1L", token_levels(shape.patch_nums)[None])
        self.register_buffer("mask_LL", block_causal_mask(shape.patch_nums), persistent=False)
        for table in (self.class_emb, self.lvl_embed):
            nn.init.normal_(table.weight, std=deviation)

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def derivable_keys(self) -> frozenset[str]:
        """Names that a published file may hold or lack: constants that follow from the shape."""
        zeros = (f"blocks.{i}.attn.zero_k_bias" for i in range(self.shape.depth))
        return frozenset(("lvl_1L", "attn_bias_for_masking", *zeros))

    def condition(self, labels_B: Tensor) -> Condition:
        """Return what these classes contribute."""
        cond_BC = self.class_emb(labels_B)
        per_block = cond_BC
        if self.shape.shared_aln:
            per_block = self.shared_ada_lin(cond_BC).view(len(cond_BC), 1, 6, -1)
        return Condition(
            first_B1C=cond_BC[:, None].float(),
            blocks=tuple(block.modulation(per_block) for block in self.blocks),  # type: ignore[operator]
            head_B12C=self.head_nm.modulation(cond_BC),
        )

    def new_cache(self, rows: int) -> tuple[KeyValueCache, ...]:
        """Return an empty cache for every block."""
        shape, like = self.shape, self.head.weight
        size = (rows, shape.heads, self.offsets[-1], shape.width // shape.heads)
        return tuple(KeyValueCache(like.new_empty(size), like.new_empty(size)) for _ in self.blocks)

    def first_tokens(self, condition: Condition) -> Tensor:
        """Return the one token of scale 0, `x_B1C`, float32."""
        return condition.first_B1C + self.pos_start.float() + self.places(0, 1)

    def embed(self, inputs_BLc: Tensor, start: int) -> Tensor:
        """Return tokens `x_BLC`, float32, for the averaged-down estimate at places from `start` on."""
        words_BLC: Tensor = self.word_embed(inputs_BLc.to(self.word_embed.weight.dtype))
        return words_BLC.float() + self.places(start, start + inputs_BLc.shape[1])

    def places(self, start: int, end: int) -> Tensor:
        """Return the level and position embeddings of these tokens, `(1, L, C)`, float32."""
        levels_1LC: Tensor = self.lvl_embed(self.lvl_1L[:, start:end])
        return levels_1LC.float() + self.pos_1LC[:, start:end].float()

    def forward(
        self,
        x_BLC: Tensor,
        condition: Condition,
        mask_LL: Tensor | None = None,
        caches: tuple[KeyValueCache, ...] | None = None,
        start: int = 0,
    ) -> Tensor:
        """Return `logits_BLV`, float32, for tokens that see each other by the mask, and all that is cached."""
        for i, block in enumerate(self.blocks):
            x_BLC = block(x_BLC, condition.blocks[i], mask_LL, caches[i] if caches else None, start)
        x_BLC = modulated_norm(x_BLC, *condition.head_B12C.unbind(2))
        logits_BLV: Tensor = self.head(x_BLC.to(self.head.weight.dtype))
        return logits_BLV.float()

    def forward_teacher_forced(self, labels_B: Tensor, inputs_BLc: Tensor) -> Tensor:
        """Return `logits_BLV` of all L tokens at once, given the inputs of scales 1.. (L - 1 tokens).

        The inputs are `MultiScaleQuantizer.teacher_inputs` of an image's codes.
        """
        condition = self.condition(labels_B)
        x_BLC = torch.cat((self.first_tokens(condition), self.embed(inputs_BLc, start=1)), dim=1)
        logits_BLV: Tensor = self(x_BLC, condition, mask_LL=self.mask_LL)
        return logits_BLV


class ScaleStep(NamedTuple):
    """What one scale of the sampler made: logits of the 2B rows, guided and filtered ones, codes, the estimate."""

    logits_2BLV: Tensor
    guided_BLV: Tensor
    filtered_BLV: Tensor
    codes_BL: Tensor
    f_hat_BCHW: Tensor


def sample_scales(
    var: VAR,
    quantizer: MultiScaleQuantizer,
    labels_B: Tensor,
    choose: Callable[[int, Tensor], Tensor],
    cfg: float,
    top_k: int,
    top_p: float,
) -> Iterator[ScaleStep]:
    """Generate scale by scale with a KV cache; the last step's estimate is the picture's latents.

    `choose(scale, filtered_BLV)` returns the codes `codes_BL`.
    """
    sides = var.shape.patch_nums
    condition = var.condition(torch.cat((labels_B, torch.full_like(labels_B, var.shape.classes))))
    caches = var.new_cache(2 * len(labels_B))
    f_hat_BCHW = quantizer.empty_estimate(len(labels_B))
    x_2BLC = var.first_tokens(condition)
    for scale in range(len(sides)):
        logits_2BLV = var(x_2BLC, condition, caches=caches, start=var.offsets[scale])
        guided_BLV = guide(logits_2BLV, cfg, scale, len(sides))
        filtered_BLV = keep_likeliest(guided_BLV, top_k, top_p)
        codes_BL = choose(scale, filtered_BLV)
        f_hat_BCHW = f_hat_BCHW + quantizer.decode_scale(scale, codes_BL)
        yield ScaleStep(logits_2BLV, guided_BLV, filtered_BLV, codes_BL, f_hat_BCHW)
        if scale + 1 < len(sides):
            inputs_BLc = quantizer.input_of(scale + 1, f_hat_BCHW)
            x_2BLC = var.embed(inputs_BLc, start=var.offsets[scale + 1]).repeat(2, 1, 1)
