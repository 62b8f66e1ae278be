"""VAR: a class-conditional transformer that predicts images scale by scale.

B images, R = 2B rows with guidance (conditional, then unconditional), L tokens, C width, V vocabulary, c codebook
dimension. Attribute names are those of the published state dicts.
Source: Tian et al., Visual Autoregressive Modeling (arXiv 2404.02905).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.next_scale import (
    block_causal_mask,
    draw,
    guidance_strength,
    guide,
    keep_likeliest,
    patch_nums_from_levels,
    published_patch_nums,
    token_levels,
    token_offsets,
)
from models.networks.noise import Noise
from models.networks.operations import PLAIN, KeyValueCache, Norm, Operations
from models.networks.transformer import (
    AttentionConstants,
    FeedForward,
    HeadNorm,
    Modulation,
    SelfAttention,
    cast_linear_layers,
    modulation_layer,
    modulations_of,
    new_caches,
)
from models.networks.vqvae import FoldedQuantizer, MultiScaleQuantizer


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


class BlockCondition(NamedTuple):
    """What one block needs beside the tokens: its modulation by the class, and its attention's constants."""

    modulation: Modulation
    attention: AttentionConstants


class Block(nn.Module):
    """Attention and MLP, each normalised, shifted, scaled and gated by the class (adaptive LayerNorm)."""

    operations: Operations = PLAIN

    def __init__(self, shape: VARShape) -> None:
        super().__init__()
        self.attn = SelfAttention(shape.width, shape.heads, shape.attn_l2_norm)
        self.ffn = FeedForward(shape.width, 4 * shape.width)
        self.shared_aln = shape.shared_aln
        if self.shared_aln:
            self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, shape.width) / math.sqrt(shape.width))
        else:
            self.ada_lin = modulation_layer(shape.width, 6)

    def modulation_rows(self, source: Tensor) -> Tensor:
        """Return `rows_R16C` for `VAR.condition`'s source: the activated embedding, or the rows that blocks share."""
        if self.shared_aln:
            return source + self.ada_gss
        rows_R16C: Tensor = self.ada_lin[1](source).view(len(source), 1, 6, -1)
        return rows_R16C

    def forward(
        self,
        x_RLC: Tensor,
        normal_RLC: Tensor,
        condition: BlockCondition,
        next_norm: Norm,
        mask_LL: Tensor | None,
        cache: KeyValueCache | None,
        start: int,
    ) -> tuple[Tensor, Tensor]:
        """Return the residual stream after the block, and its norm for what comes next, given both before it."""
        modulation, dtype, operations = condition.modulation, normal_RLC.dtype, self.operations
        answer_RLC = self.attn(normal_RLC, condition.attention, mask_LL=mask_LL, cache=cache, start=start)
        x_RLC, normal_RLC = operations.linear_residual_norm(
            x_RLC, answer_RLC, self.attn.proj, modulation.attention_gate_R1C, modulation.mlp, dtype
        )
        hidden_RLE = self.ffn(normal_RLC)
        return operations.linear_residual_norm(
            x_RLC, hidden_RLE, self.ffn.fc2, modulation.mlp_gate_R1C, next_norm, dtype
        )


class Constants(NamedTuple):
    """What follows from the weights alone: each attention's constants, and what every place adds to its token."""

    attentions: tuple[AttentionConstants, ...]
    places_1LC: Tensor


class Condition(NamedTuple):
    """What the classes of R rows contribute, the same at every scale: made once an image."""

    first_R1C: Tensor
    blocks: tuple[BlockCondition, ...]
    head: Norm
    places_1LC: Tensor


class VAR(nn.Module):
    """The transformer. `class_emb` has one row more than there are classes: the unconditional class."""

    operations: Operations = PLAIN
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
        self.shared_ada_lin = modulation_layer(width, 6) if shape.shared_aln else nn.Identity()
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, shape.vocabulary)
        # In the file, because it alone tells the sides of the scales.
        self.register_buffer("lvl_1L", token_levels(shape.patch_nums)[None])
        self.register_buffer("mask_LL", block_causal_mask(self.lvl_1L[0]), persistent=False)
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

    def cast(self, dtype: torch.dtype) -> Self:
        """Run the blocks and the head in `dtype`; the embeddings, which are added to the float32 stream, stay."""
        for part in (self.shared_ada_lin, self.blocks, self.head_nm, self.head):
            cast_linear_layers(part, dtype)
        return self

    def constants(self) -> Constants:
        """Return what is the same for all images: worth keeping where the weights do not change."""
        places_1LC: Tensor = self.lvl_embed(self.lvl_1L) + self.pos_1LC
        return Constants(tuple(block.attn.constants() for block in self.blocks), places_1LC)  # type: ignore[union-attr, operator]

    def condition(self, labels_R: Tensor, constants: Constants | None = None) -> Condition:
        """Return what these classes contribute."""
        attentions, places_1LC = constants or self.constants()
        first_RC = self.class_emb(labels_R)
        cond_RC = first_RC.to(self.head.weight.dtype)
        if self.shape.shared_aln:
            source = self.shared_ada_lin(cond_RC).float().view(len(cond_RC), 1, 6, -1)
        else:
            source = functional.silu(cond_RC)
        rows_NR16C = torch.stack([block.modulation_rows(source) for block in self.blocks])  # type: ignore[operator]
        return Condition(
            first_R1C=first_RC[:, None],
            blocks=tuple(map(BlockCondition, modulations_of(rows_NR16C), attentions)),
            head=self.head_nm.norm(cond_RC),
            places_1LC=places_1LC,
        )

    def new_cache(self, rows: int) -> tuple[KeyValueCache, ...]:
        """Return an empty cache for every block."""
        shape = self.shape
        head_dim = shape.width // shape.heads
        return new_caches(shape.depth, rows, shape.heads, self.offsets[-1], head_dim, self.head.weight)

    def first_tokens(self, condition: Condition) -> Tensor:
        """Return the one token of scale 0, `x_R1C`, float32."""
        return condition.first_R1C + self.pos_start + condition.places_1LC[:, :1]

    def embed(self, inputs_RLc: Tensor, condition: Condition, start: int) -> Tensor:
        """Return tokens `x_RLC`, float32, for the averaged-down estimate at places from `start` on."""
        words_RLC: Tensor = self.word_embed(inputs_RLc)
        return words_RLC + condition.places_1LC[:, start : start + inputs_RLc.shape[1]]

    def forward(
        self,
        x_RLC: Tensor,
        condition: Condition,
        mask_LL: Tensor | None = None,
        caches: tuple[KeyValueCache, ...] | None = None,
        start: int = 0,
    ) -> Tensor:
        """Return `logits_RLV`, in the head's dtype; tokens see each other by the mask, and all that is cached."""
        norms = [block.modulation.attention for block in condition.blocks] + [condition.head]
        normal_RLC = self.operations.norm(x_RLC, norms[0], self.head.weight.dtype)
        for i, block in enumerate(self.blocks):
            cache = caches[i] if caches else None
            x_RLC, normal_RLC = block(x_RLC, normal_RLC, condition.blocks[i], norms[i + 1], mask_LL, cache, start)
        logits_RLV: Tensor = self.head(normal_RLC)
        return logits_RLV

    def forward_teacher_forced(self, labels_B: Tensor, inputs_BLc: Tensor) -> Tensor:
        """Return `logits_BLV`, float32, of all L tokens at once, given the inputs of scales 1.. (L - 1 tokens).

        The inputs are `MultiScaleQuantizer.teacher_inputs` of an image's codes.
        """
        condition = self.condition(labels_B)
        x_BLC = torch.cat((self.first_tokens(condition), self.embed(inputs_BLc, condition, start=1)), dim=1)
        logits_BLV: Tensor = self(x_BLC, condition, mask_LL=self.mask_LL)
        return logits_BLV.float()


class Choice(NamedTuple):
    """What was drawn at one scale: codes, and the weights of all codes where the image is to be their mean."""

    codes_BL: Tensor
    weights_BLV: Tensor | None = None


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn. cfg: guidance at the last scale, growing from 0. top_k, top_p: 0 turns them off.

    more_smooth: take at each place a mean of codes, weighted by a Gumbel softmax that sharpens from scale to scale,
    in the place of the code drawn: smoother images, for looking at alone.
    """

    cfg: float = 1.5
    top_k: int = 0
    top_p: float = 0.0
    more_smooth: bool = False

    def chooser(self, num_scales: int, noise: Noise, operations: Operations = PLAIN) -> Callable[[int, Tensor], Choice]:
        """Return the function that draws the codes of a scale, given the logits of both rows of each image."""

        def choose(scale: int, logits_RLV: Tensor) -> Choice:
            strength = guidance_strength(self.cfg, scale, num_scales)
            exponentials_BLV = noise.exponentials[scale]
            if not self.more_smooth:
                return Choice(operations.draw_codes(logits_RLV, strength, self.top_k, self.top_p, exponentials_BLV))
            kept_BLV = keep_likeliest(guide(logits_RLV.float(), strength), self.top_k, self.top_p)
            ratio = scale / max(num_scales - 1, 1)
            temperature = max(0.27 * (1 - 0.95 * ratio), 0.005)
            gumbel_BLV = -noise.sets[1][scale].log()
            weights_BLV = ((kept_BLV * (1 + ratio) + gumbel_BLV) / temperature).softmax(dim=-1)
            return Choice(draw(kept_BLV, exponentials_BLV), weights_BLV)

        return choose


class ScaleStep(NamedTuple):
    """What one scale of the sampler made: logits of both rows of each image, codes, the estimate so far."""

    logits_RLV: Tensor
    codes_BL: Tensor
    f_hat_BCHW: Tensor


def sample_scales(
    var: VAR,
    quantizer: MultiScaleQuantizer | FoldedQuantizer,
    labels_B: Tensor,
    choose: Callable[[int, Tensor], Choice],
    constants: Constants | None = None,
) -> Iterator[ScaleStep]:
    """Generate scale by scale with a KV cache; the last step's estimate is the image's latents."""
    condition = var.condition(torch.cat((labels_B, torch.full_like(labels_B, var.shape.classes))), constants)
    caches = var.new_cache(2 * len(labels_B))
    f_hat = quantizer.empty_estimate(len(labels_B))
    x_RLC = var.first_tokens(condition)
    for scale in range(len(var.shape.patch_nums)):
        logits_RLV = var(x_RLC, condition, caches=caches, start=var.offsets[scale])
        codes_BL, weights_BLV = choose(scale, logits_RLV)
        f_hat = quantizer.add(f_hat, scale, codes_BL, weights_BLV)
        yield ScaleStep(logits_RLV, codes_BL, quantizer.image(f_hat))
        if scale + 1 < len(var.shape.patch_nums):
            inputs_RLc = quantizer.input_of(scale + 1, f_hat).repeat(2, 1, 1)
            x_RLC = var.embed(inputs_RLc, condition, start=var.offsets[scale + 1])
