"""Infinity: a transformer that predicts images scale by scale, bit by bit, from text.

B images, R = 2B rows with guidance (conditional, then unconditional), L tokens, C width, T text tokens, t text width,
d bits of a token. Attribute names are those of the published state dict, its chunks of blocks in one list. The blocks'
matrix products run in the dtype of their weights; text, modulation and head stay in float32, as published.
Source: Han et al., Infinity: Scaling Bitwise AutoRegressive Modeling (arXiv 2412.04431).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.next_scale import Schedule, block_causal_mask, guide
from models.networks.operations import NORM_EPS, PLAIN, KeyValueCache, Norm, Operations, Rotation
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

ROTATION_BASE = 10_000.0


@dataclass(frozen=True)
class InfinityShape:
    """All sizes of an Infinity transformer. text_heads: of the pooling. levels: rows of the level table."""

    depth: int
    width: int
    heads: int
    hidden: int
    text_width: int
    text_tokens: int
    text_heads: int
    bits: int
    levels: int = 15
    cosine: bool = True


def infinity_2b_shape() -> InfinityShape:
    """Return the shape of the published model with 2 B parameters."""
    return InfinityShape(32, 2048, 16, 8192, 2048, 512, 16, 32)


def plain_block_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with all blocks in one list: published files have `block_chunks.c.module.m` of equal chunks."""
    pattern = re.compile(r"block_chunks\.(\d+)\.module\.(\d+)\.(.*)")
    members = [int(match.group(2)) for key in state if (match := pattern.fullmatch(key))]
    per_chunk = max(members, default=0) + 1

    def name(key: str) -> str:
        match = pattern.fullmatch(key)
        return f"blocks.{int(match[1]) * per_chunk + int(match[2])}.{match[3]}" if match else key

    return {name(key): value for key, value in state.items()}


def read_infinity_shape(state: Mapping[str, Tensor]) -> InfinityShape:
    """Return the shape of the transformer whose state dict (with plain block names) is given.

    Raises KeyError with the first name that is missing.
    """
    width, bits = state["word_embed.weight"].shape
    hidden = state["blocks.0.ffn.fc1.weight"].shape[0]
    scale = state.get("blocks.0.sa.scale_mul_1H11")
    return InfinityShape(
        depth=1 + max(int(key.split(".")[1]) for key in state if key.startswith("blocks.")),
        width=width,
        # Without cosine attention nothing in the file tells the heads: the published rule is 128 dimensions a head.
        heads=width // 128 if scale is None else scale.numel(),
        hidden=hidden,
        text_width=state["text_norm.weight"].shape[0],
        text_tokens=state["cfg_uncond"].shape[0],
        text_heads=state["text_proj_for_sos.ca.mat_q"].shape[1],
        bits=bits,
        levels=state["lvl_embed.weight"].shape[0],
        cosine=scale is not None,
    )


class Text(NamedTuple):
    """Encoded prompts, padded: `features_RTt`, float32, and which of the places hold a token, `mask_RT`, bool."""

    features_RTt: Tensor
    mask_RT: Tensor


class TextPooling(nn.Module):
    """One learnt query attends to a prompt's tokens: its answer is the condition of the whole image."""

    def __init__(self, shape: InfinityShape) -> None:
        super().__init__()
        self.mat_q = nn.Parameter(torch.randn(1, shape.text_heads, shape.width // shape.text_heads))
        self.mat_kv = nn.Linear(shape.text_width, 2 * shape.width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(shape.width))
        self.proj = nn.Linear(shape.width, shape.width)

    def forward(self, text: Text) -> Tensor:
        """Return `cond_RC`."""
        k_RHTD, v_RHTD = keys_and_values(self.mat_kv(text.features_RTt), self.v_bias, self.mat_q.shape[1])
        q_RH1D = self.mat_q[0][None, :, None].expand(len(text.mask_RT), -1, -1, -1)
        scale = 1 / math.sqrt(q_RH1D.shape[-1])
        pooled_R1C = PLAIN.attend(q_RH1D, k_RHTD, v_RHTD, text.mask_RT[:, None, None], scale)
        cond_RC: Tensor = self.proj(pooled_R1C[:, 0])
        return cond_RC


def keys_and_values(kv_RTE: Tensor, v_bias: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Return keys and values, `(R, H, T, D)`, of a joint projection; values alone have a bias."""
    k_RTC, v_RTC = kv_RTE.chunk(2, dim=-1)
    v_RTC = v_RTC + v_bias.to(v_RTC.dtype)
    k_RHTD, v_RHTD = (x_RTC.view(*x_RTC.shape[:2], heads, -1).transpose(1, 2) for x_RTC in (k_RTC, v_RTC))
    return k_RHTD, v_RHTD


class CrossAttention(nn.Module):
    """Attention of the image's tokens to the text; keys and values are made once an image."""

    operations: Operations = PLAIN

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.mat_q = nn.Linear(width, width)
        self.mat_kv = nn.Linear(width, 2 * width, bias=False)
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def text_cache(self, text_RTC: Tensor) -> KeyValueCache:
        keys, values = keys_and_values(self.mat_kv(text_RTC.to(self.mat_kv.weight.dtype)), self.v_bias, self.heads)
        return KeyValueCache(keys.contiguous(), values.contiguous())

    def forward(self, x_RLC: Tensor, text: KeyValueCache, mask_R11T: Tensor) -> Tensor:
        """Return the answer, heads side by side, `(R, L, C)`, which `proj` is still to be applied to."""
        q_RLC = self.mat_q(x_RLC)
        q_RHLD = q_RLC.view(*q_RLC.shape[:2], self.heads, -1).transpose(1, 2)
        scale = 1 / math.sqrt(q_RHLD.shape[-1])
        return self.operations.attend(q_RHLD, text.keys_RHLD, text.values_RHLD, mask_R11T, scale)


class BlockCondition(NamedTuple):
    """What one block needs beside the tokens: modulation, its attentions' constants, keys and values of the text."""

    modulation: Modulation
    attention: AttentionConstants
    text_norm: Norm
    text: KeyValueCache


class Block(nn.Module):
    """Self-attention, cross-attention to the text and MLP; the first and last modulated and gated by the text."""

    operations: Operations = PLAIN

    def __init__(self, shape: InfinityShape) -> None:
        super().__init__()
        self.sa = SelfAttention(shape.width, shape.heads, shape.cosine)
        self.ca = CrossAttention(shape.width, shape.heads)
        self.ffn = FeedForward(shape.width, shape.hidden)
        self.ca_norm = nn.LayerNorm(shape.width, eps=NORM_EPS)
        self.ada_gss = nn.Parameter(torch.randn(1, 1, 6, shape.width) / math.sqrt(shape.width))

    def condition(self, modulation: Modulation, attention: AttentionConstants, text_RTC: Tensor) -> BlockCondition:
        """Return the block's condition, given its modulation, its constants and the projected text."""
        text_norm = Norm(self.ca_norm.weight, self.ca_norm.bias)
        return BlockCondition(modulation, attention, text_norm, self.ca.text_cache(text_RTC))

    def forward(
        self,
        x_RLC: Tensor,
        normal_RLC: Tensor,
        condition: BlockCondition,
        context: Context,
        cache: KeyValueCache | None,
        next_norm: Norm,
        next_dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        """Return the residual stream after the block, and its norm for what comes next, given both before it."""
        modulation, dtype, operations = condition.modulation, normal_RLC.dtype, self.operations
        answer_RLC = self.sa(normal_RLC, condition.attention, context.rotation, context.mask_LL, cache, context.start)
        x_RLC, normal_RLC = operations.linear_residual_norm(
            x_RLC, answer_RLC, self.sa.proj, modulation.attention_gate_R1C, condition.text_norm, dtype
        )
        answer_RLC = self.ca(normal_RLC, condition.text, context.text_mask_R11T)
        x_RLC, normal_RLC = operations.linear_residual_norm(
            x_RLC, answer_RLC, self.ca.proj, None, modulation.mlp, dtype
        )
        hidden_RLE = self.ffn(normal_RLC)
        return operations.linear_residual_norm(
            x_RLC, hidden_RLE, self.ffn.fc2, modulation.mlp_gate_R1C, next_norm, next_dtype
        )


class Context(NamedTuple):
    """What all blocks share at one scale. start: where its tokens stand. mask_LL: without a cache alone."""

    rotation: Rotation
    text_mask_R11T: Tensor
    start: int = 0
    mask_LL: Tensor | None = None


class Constants(NamedTuple):
    """What follows from the weights alone: each attention's constants, and the blocks' offsets of the modulation."""

    attentions: tuple[AttentionConstants, ...]
    offsets_N116C: Tensor


class Places(NamedTuple):
    """What the tokens of a whole schedule are: their scales, how they turn, and which of them each sees."""

    levels_L: Tensor
    rotation: Rotation
    mask_LL: Tensor


class Condition(NamedTuple):
    """What the text of R rows contributes, the same at every scale: made once an image."""

    first_R1C: Tensor
    blocks: tuple[BlockCondition, ...]
    head: Norm
    text_mask_R11T: Tensor


class Infinity(nn.Module):
    """The transformer. `cfg_uncond` holds the text features of no prompt."""

    operations: Operations = PLAIN

    def __init__(self, shape: InfinityShape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.cfg_uncond = nn.Parameter(torch.randn(shape.text_tokens, shape.text_width) / math.sqrt(shape.text_width))
        self.pos_start = nn.Parameter(torch.randn(1, 1, width) * math.sqrt(1 / width / 3))
        self.text_norm = nn.RMSNorm(shape.text_width, eps=NORM_EPS)
        self.text_proj_for_sos = nn.ModuleDict({"ca": TextPooling(shape)})
        self.text_proj_for_ca = nn.Sequential(
            nn.Linear(shape.text_width, width), nn.GELU(approximate="tanh"), nn.Linear(width, width)
        )
        self.lvl_embed = nn.Embedding(shape.levels, width)
        self.word_embed = nn.Linear(shape.bits, width)
        self.shared_ada_lin = modulation_layer(width, 6)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.head_nm = HeadNorm(width)
        self.head = nn.Linear(width, 2 * shape.bits)
        nn.init.normal_(self.lvl_embed.weight, std=math.sqrt(1 / width / 3))

    @property
    def parameter_count(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def derivable_keys(self) -> frozenset[str]:
        """Names that a published file may hold or lack: constants that follow from the shape or the schedule."""
        zeros = (f"blocks.{i}.{part}.zero_k_bias" for i in range(self.shape.depth) for part in ("sa", "ca"))
        masks = ("lvl_1L", "attn_bias_for_masking", "Infinity_visible_kvlen", "Infinity_invisible_qlen")
        return frozenset((*masks, "text_proj_for_sos.ca.zero_k_bias", *zeros))

    def cast(self, dtype: torch.dtype) -> Self:
        """Run the blocks' matrix products in `dtype`; all else stays in float32."""
        cast_linear_layers(self.blocks, dtype)
        return self

    def with_unconditional(self, text: Text, negative: Text | None = None) -> Text:
        """Return the rows of the prompts, then those of no prompt (as many tokens as each has), or of `negative`."""
        features_BTt, mask_BT = text
        if negative is None:
            rows_Tt = self.cfg_uncond[: features_BTt.shape[1]].float()
            negative = Text(rows_Tt.expand(len(features_BTt), -1, -1), mask_BT[:, : len(rows_Tt)])
        tokens = max(features_BTt.shape[1], negative.features_RTt.shape[1])
        both = [
            Text(
                functional.pad(part.features_RTt, (0, 0, 0, tokens - part.mask_RT.shape[1])),
                functional.pad(part.mask_RT, (0, tokens - part.mask_RT.shape[1])),
            )
            for part in (text, negative)
        ]
        return Text(torch.cat([part.features_RTt for part in both]), torch.cat([part.mask_RT for part in both]))

    def constants(self) -> Constants:
        """Return what is the same for all images: worth keeping where the weights do not change."""
        return Constants(
            tuple(block.sa.constants() for block in self.blocks),  # type: ignore[union-attr, operator]
            torch.stack([block.ada_gss for block in self.blocks]),  # type: ignore[misc]
        )

    def condition(self, text: Text, constants: Constants | None = None) -> Condition:
        """Return what these prompts contribute."""
        attentions, offsets_N116C = constants or self.constants()
        normal = Text(self.text_norm(text.features_RTt.float()), text.mask_RT)
        cond_RC: Tensor = self.text_proj_for_sos["ca"](normal)
        text_RTC: Tensor = self.text_proj_for_ca(normal.features_RTt)
        shared_R16C: Tensor = self.shared_ada_lin(cond_RC).view(len(cond_RC), 1, 6, -1)
        return Condition(
            first_R1C=cond_RC[:, None],
            blocks=tuple(
                block.condition(modulation, attention, text_RTC)  # type: ignore[operator]
                for block, modulation, attention in zip(
                    self.blocks, modulations_of(shared_R16C + offsets_N116C), attentions, strict=True
                )
            ),
            head=self.head_nm.norm(cond_RC),
            text_mask_R11T=text.mask_RT[:, None, None],
        )

    def new_cache(self, rows: int, tokens: int) -> tuple[KeyValueCache, ...]:
        """Return an empty cache for every block."""
        shape, like = self.shape, self.blocks[0].sa.proj.weight  # type: ignore[union-attr]
        return new_caches(shape.depth, rows, shape.heads, tokens, shape.width // shape.heads, like)  # type: ignore[arg-type]

    def rotation(self, schedule: Schedule) -> Rotation:
        """Return how the queries and keys of every token of the schedule turn.

        Half of the pairs of channels turn by the row, half by the column. All scales span the same coordinates, those
        of the schedule's `span`.
        """
        device, head_dim = self.pos_start.device, self.shape.width // self.shape.heads
        half = head_dim // 2
        frequencies_F = ROTATION_BASE ** -(torch.arange(0, half, 2, device=device).float() / half)
        angles = []
        for height, width in schedule.grids:
            rows_h, columns_w = (
                (torch.arange(side, device=device) * (span / side)).round()
                for side, span in zip((height, width), schedule.span, strict=True)
            )
            rows_hwF = (rows_h[:, None] * frequencies_F)[:, None].expand(-1, width, -1)
            columns_hwF = (columns_w[:, None] * frequencies_F)[None].expand(height, -1, -1)
            angles.append(torch.cat((rows_hwF, columns_hwF), dim=-1).flatten(0, 1))
        angles_LP = torch.cat(angles)
        return Rotation(angles_LP.cos(), angles_LP.sin())

    def embed(self, x_RLC: Tensor, scale: int) -> Tensor:
        """Return the tokens of a scale with its level added."""
        return x_RLC + self.lvl_embed.weight[scale]

    def forward(
        self,
        x_RLC: Tensor,
        condition: Condition,
        context: Context,
        caches: tuple[KeyValueCache, ...] | None = None,
        mixing: Mapping[int, float] | None = None,
    ) -> Tensor:
        """Return `logits_RLV`, float32, V = 2d: for each bit the logit of 0 and of 1.

        mixing: after which blocks the rows are guided in the stream itself, and how strongly: {index of the block:
        guidance scale}.
        """
        norms = [block.modulation.attention for block in condition.blocks] + [condition.head]
        dtypes = [block.sa.proj.weight.dtype for block in self.blocks] + [self.head.weight.dtype]  # type: ignore[union-attr]
        normal_RLC = self.operations.norm(x_RLC, norms[0], dtypes[0])  # type: ignore[arg-type]
        for i, block in enumerate(self.blocks):
            cache = caches[i] if caches else None
            x_RLC, normal_RLC = block(
                x_RLC, normal_RLC, condition.blocks[i], context, cache, norms[i + 1], dtypes[i + 1]
            )
            if mixing and i in mixing:
                x_RLC = guide(x_RLC, mixing[i] - 1).repeat(2, 1, 1)
                normal_RLC = self.operations.norm(x_RLC, norms[i + 1], dtypes[i + 1])  # type: ignore[arg-type]
        logits_RLV: Tensor = self.head(normal_RLC)
        return logits_RLV

    def places(self, schedule: Schedule) -> Places:
        """Return what teacher forcing needs of a schedule; made on the host in part, which a CUDA graph forbids."""
        levels_L = schedule.levels().to(self.pos_start.device)
        return Places(levels_L, self.rotation(schedule), block_causal_mask(levels_L))

    def forward_teacher_forced(
        self, text: Text, inputs_RLd: Tensor, schedule: Schedule, places: Places | None = None
    ) -> Tensor:
        """Return `logits_RLV` of all L tokens at once, given the inputs of scales 1.. (L - 1 tokens).

        The inputs are `BitwiseScales.teacher_inputs` of an image's bits. places: those of the schedule, if at hand.
        """
        levels_L, rotation, mask_LL = places or self.places(schedule)
        condition = self.condition(text)
        words_RLC = torch.cat((condition.first_R1C + self.pos_start, self.word_embed(inputs_RLd)), dim=1)
        context = Context(rotation, condition.text_mask_R11T, mask_LL=mask_LL)
        logits_RLV: Tensor = self(words_RLC + self.lvl_embed(levels_L), condition, context)
        return logits_RLV
