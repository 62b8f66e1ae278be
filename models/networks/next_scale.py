"""Arithmetic of next-scale prediction: scales and their tokens, resizing between them, guidance, filters, the draw.

An image is a pyramid of S square grids of tokens, sides `patch_nums`, generated from coarse to fine; the tokens of
all scales stand in one sequence of L = sum(side^2), row-major inside a scale.
Source: Tian et al., Visual Autoregressive Modeling (arXiv 2404.02905).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor
from torch.nn import functional

# Scales of the published tokenizers by (number of scales, number of tokens): 256, 512 and 1024 px.
PUBLISHED_PATCH_NUMS: tuple[tuple[int, ...], ...] = (
    (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    (1, 2, 3, 4, 6, 9, 13, 18, 24, 32),
    (1, 2, 3, 4, 5, 7, 9, 12, 16, 21, 27, 36, 48, 64),
)


def token_offsets(patch_nums: Sequence[int]) -> list[int]:
    """Return where each scale starts in the sequence, and at last its length: S + 1 numbers."""
    return [0, *accumulate(side * side for side in patch_nums)]


Grid = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Schedule:
    """The grids of all scales, coarse to fine, and the coordinates (height, width) that all of them span."""

    grids: tuple[Grid, ...]
    span: Grid

    @property
    def counts(self) -> list[int]:
        """Tokens of each scale."""
        return [height * width for height, width in self.grids]

    @property
    def offsets(self) -> list[int]:
        """Where each scale starts in the sequence, and at last its length."""
        return [0, *accumulate(self.counts)]

    def levels(self) -> Tensor:
        """Return the scale of each token, `levels_L`, int64."""
        return torch.repeat_interleave(torch.arange(len(self.grids)), torch.tensor(self.counts))


def token_levels(patch_nums: Sequence[int]) -> Tensor:
    """Return the scale of each token, `levels_L`, int64."""
    return torch.cat([torch.full((side * side,), k) for k, side in enumerate(patch_nums)])


def patch_nums_from_levels(levels_L: Tensor) -> tuple[int, ...]:
    """Return the sides of the scales whose tokens' levels are given. Raises ValueError where a scale is no square."""
    counts = torch.bincount(levels_L.flatten()).tolist()
    sides = tuple(math.isqrt(count) for count in counts)
    if [side * side for side in sides] != counts or not torch.equal(levels_L.flatten(), token_levels(sides)):
        raise ValueError(f"lvl_1L counts {counts} tokens in its scales; expected square scales in order")
    return sides


def published_patch_nums(scales: int, tokens: int) -> tuple[int, ...]:
    """Return the published scales with these counts. Raises ValueError where there are none."""
    for sides in PUBLISHED_PATCH_NUMS:
        if (len(sides), token_offsets(sides)[-1]) == (scales, tokens):
            return sides
    raise ValueError(
        f"the checkpoint has {scales} scales with {tokens} tokens and no lvl_1L to tell their sides; "
        "expected the published 256, 512 or 1024 px scales, or a file that holds lvl_1L"
    )


def block_causal_mask(levels_L: Tensor) -> Tensor:
    """Return `mask_LL`, bool, true where token i sees token j: j's scale is not finer than i's."""
    return levels_L[:, None] >= levels_L[None, :]


def phi_index(scale: int, num_scales: int, num_phis: int) -> int:
    """Return which of the shared phi convolutions serves `scale`.

    It is the one whose tick is nearest to scale / (S - 1). Published weights have exact ties (S = 10: scales 2 and 7)
    that are decided by how float64 rounds the ticks, so that the ticks are made as numpy.linspace makes them.
    """
    if num_phis == 1 or num_scales == 1:
        return 0
    start, stop = (
        (1 / 3 / num_phis, 1 - 1 / 3 / num_phis) if num_phis == 4 else (1 / 2 / num_phis, 1 - 1 / 2 / num_phis)
    )
    step = (stop - start) / (num_phis - 1)
    ticks = [start + i * step for i in range(num_phis - 1)] + [stop]
    position = scale / (num_scales - 1)
    return min(range(num_phis), key=lambda i: abs(ticks[i] - position))


def resize_matrix(source: int, target: int, mode: str) -> Tensor:
    """Return `matrix_TS`, float32, that resizes one axis as torch's `area` or `bicubic` interpolation does.

    Both are separable, so that an image is matrix @ image @ matrix^T: two small products are several times faster on
    a GPU than the bicubic kernel, and the quantiser needs nothing else.
    """
    unit_S1SS = torch.eye(source, dtype=torch.float32).view(source, 1, source, 1)
    if mode == "area":
        return functional.adaptive_avg_pool2d(unit_S1SS, (target, 1)).view(source, target).T.contiguous()
    resized = functional.interpolate(unit_S1SS, size=(target, 1), mode=mode, align_corners=False)
    return resized.view(source, target).T.contiguous()


def resize(image_BCHW: Tensor, matrix_TS: Tensor) -> Tensor:
    """Return the square image resized by `matrix_TS` along both axes, in the matrix's dtype."""
    return matrix_TS @ image_BCHW.to(matrix_TS.dtype) @ matrix_TS.T


def guidance_strength(cfg: float, scale: int, num_scales: int) -> float:
    """Return the guidance at `scale`: it grows from 0 at the first scale to `cfg` at the last."""
    return cfg * scale / max(num_scales - 1, 1)


def guide(logits_RLV: Tensor, strength: float) -> Tensor:
    """Return logits with classifier-free guidance; the usual guidance scale is strength + 1.

    The batch holds the conditional rows, then the unconditional ones.
    """
    conditional_BLV, unconditional_BLV = logits_RLV.chunk(2)
    return (1 + strength) * conditional_BLV - strength * unconditional_BLV


def keep_likeliest(logits_BLV: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return logits with -inf where an entry is outside the `top_k` likeliest or outside the nucleus `top_p`.

    0 turns a filter off. Ties with the k-th entry stay; the nucleus is taken among what top_k left: an entry goes
    where it and all that are less likely hold at most 1 - top_p. The likeliest entry always stays, and so do all
    that tie with the last one kept. Only what top_k leaves is sorted.
    """
    vocabulary = logits_BLV.shape[-1]
    likeliest_BLK = None
    if 0 < top_k < vocabulary:
        likeliest_BLK = logits_BLV.topk(top_k, dim=-1).values
        logits_BLV = logits_BLV.masked_fill(logits_BLV < likeliest_BLK[..., -1:], -math.inf)
    if 0 < top_p < 1:
        if likeliest_BLK is None:
            likeliest_BLK = logits_BLV.sort(dim=-1, descending=True).values
        # What top_k left may be more than K entries, where there are ties with the last one: they count in the total.
        total_BL1 = logits_BLV.logsumexp(dim=-1, keepdim=True)
        above_BLK = (likeliest_BLK - total_BL1).exp().cumsum(dim=-1)
        # The first entry is kept; another one is where the likelier ones hold less than top_p.
        kept_BLK = torch.cat((torch.ones_like(above_BLK[..., :1]), above_BLK[..., :-1]), dim=-1) < top_p
        kept_BLK[..., 0] = True
        last_BL1 = likeliest_BLK.gather(-1, kept_BLK.sum(dim=-1, keepdim=True) - 1)
        logits_BLV = logits_BLV.masked_fill(logits_BLV < last_BL1, -math.inf)
    return logits_BLV


def draw(logits_BLV: Tensor, exponentials_BLV: Tensor) -> Tensor:
    """Return `codes_BL`, one draw a token from softmax(logits), as argmax(p / e) with e ~ Exponential(1).

    It is what torch.multinomial does for one draw. Unlike a search in the cumulative sum it is steady under rounding:
    a last-bit change of p changes a code only where two candidates are that close.
    """
    return (logits_BLV.softmax(dim=-1) / exponentials_BLV).argmax(dim=-1)


def draw_bits(logits_BLV: Tensor, top_k: int, top_p: float, exponentials_BNW: Tensor) -> Tensor:
    """Return `bits_BLd`, bool, one draw a bit; V = 2d holds for each bit the logits of 0 and 1.

    exponentials_BNW: N = L d, W = 2: a draw for each value of each bit, used as in `draw`. top_k and top_p are those
    of `keep_likeliest` applied to the pair.
    """
    zero_BLd, one_BLd = logits_BLV[..., 0::2], logits_BLV[..., 1::2]
    chance_BLd = bit_chances(zero_BLd, one_BLd, top_k, top_p)
    noise_BLd2 = exponentials_BNW.view(*chance_BLd.shape, 2)
    return chance_BLd / noise_BLd2[..., 1] > (1 - chance_BLd) / noise_BLd2[..., 0]


def bit_chances(zero: Tensor, one: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return the probability that a bit is 1, given the logits of its two values, after the filters."""
    chance = (one - zero).sigmoid()
    if top_k == 1:
        chance = torch.where(one == zero, 0.5, (one > zero).to(chance.dtype))
    if 0 < top_p < 1:
        # The less likely value goes where it has no more than 1 - top_p, and the other is certain.
        chance = torch.where((chance < 0.5) & (chance <= 1 - top_p), 0.0, chance)
        chance = torch.where((chance > 0.5) & (1 - chance <= 1 - top_p), 1.0, chance)
    return chance
