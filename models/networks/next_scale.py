"""Arithmetic of next-scale prediction: scales and their tokens, resizing between them, guidance, filters, the draw.

A picture is a pyramid of S square grids of tokens, sides `patch_nums`, generated from coarse to fine; the tokens of
all scales stand in one sequence of L = sum(side^2), row-major inside a scale.
Source: Tian et al., Visual Autoregressive Modeling (arXiv 2404.02905).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
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


def block_causal_mask(patch_nums: Sequence[int]) -> Tensor:
    """Return `mask_LL`, bool, true where token i sees token j: j's scale is not finer than i's."""
    levels_L = token_levels(patch_nums)
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


def guide(logits_2BLV: Tensor, cfg: float, scale: int, num_scales: int) -> Tensor:
    """Return logits with classifier-free guidance that grows from 0 at the first scale to `cfg` at the last.

    The batch holds the conditional rows, then the unconditional ones. The usual guidance scale is cfg + 1.
    """
    strength = cfg * scale / max(num_scales - 1, 1)
    conditional_BLV, unconditional_BLV = logits_2BLV.chunk(2)
    return (1 + strength) * conditional_BLV - strength * unconditional_BLV


def keep_likeliest(logits_BLV: Tensor, top_k: int, top_p: float) -> Tensor:
    """Return logits with -inf where an entry is outside the `top_k` likeliest or outside the nucleus `top_p`.

    0 turns a filter off. Ties with the k-th entry stay; the nucleus is taken among what top_k left, and the
    likeliest entry always stays.
    """
    vocabulary = logits_BLV.shape[-1]
    if 0 < top_k < vocabulary:
        smallest_BL1 = logits_BLV.topk(top_k, dim=-1).values[..., -1:]
        logits_BLV = logits_BLV.masked_fill(logits_BLV < smallest_BL1, -math.inf)
    if 0 < top_p < 1:
        sorted_BLV, order_BLV = logits_BLV.sort(dim=-1)
        tail_BLV = sorted_BLV.softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
        tail_BLV[..., -1] = False
        logits_BLV = logits_BLV.masked_fill(tail_BLV.scatter(-1, order_BLV, tail_BLV), -math.inf)
    return logits_BLV


def draw(logits_BLV: Tensor, exponentials_BLV: Tensor) -> Tensor:
    """Return `codes_BL`, one draw a token from softmax(logits), as argmax(p / e) with e ~ Exponential(1).

    It is what torch.multinomial does for one draw. Unlike a search in the cumulative sum it is steady under rounding:
    a last-bit change of p changes a code only where two candidates are that close.
    """
    return (logits_BLV.softmax(dim=-1) / exponentials_BLV).argmax(dim=-1)


def noise_keys(seeds: Sequence[int], num_scales: int, device: torch.device | str) -> Tensor:
    """Return `keys_BS2`, int32: what makes the noise of every request and scale its own."""
    words = [
        int.from_bytes(
            hashlib.blake2b(f"{seed}/{scale}/{half}".encode(), digest_size=4).digest(), "little", signed=True
        )
        for seed in seeds
        for scale in range(num_scales)
        for half in range(2)
    ]
    return torch.tensor(words, dtype=torch.int32).view(len(seeds), num_scales, 2).to(device)


def exponential_noise(keys_B2: Tensor, tokens: int, vocabulary: int) -> Tensor:
    """Return `exponentials_BLV`, float32 draws from Exponential(1) that are a function of the keys and the place alone.

    Counter-based noise: the same on every device, at every batch size and place in the batch, with no state, so that
    it can stand in a CUDA graph; on a GPU it costs a few elementwise operations, where a CPU generator needs 65 ms for
    the 2.8 million draws of one 256 px image. Two rounds of a 32-bit mixing function (xor-shift and multiply) follow
    the halves of the key.
    """
    counter_LV = torch.arange(tokens * vocabulary, dtype=torch.int32, device=keys_B2.device).view(tokens, vocabulary)
    bits_BLV = counter_LV + keys_B2[:, 0, None, None]
    bits_BLV = _mix_bits(_mix_bits(bits_BLV) ^ keys_B2[:, 1, None, None])
    # 23 bits and a half fit float32 exactly; the half keeps the uniform number off 0 and 1, where the noise would
    # be infinite or zero and the draw meaningless.
    uniform_BLV = ((bits_BLV >> 9) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)
    return uniform_BLV.log_().neg_()


def _mix_bits(bits: Tensor) -> Tensor:
    """Return int32 words with every bit depending on every bit; int32 products wrap, shifts are made logical."""
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * (0x846CA68B - (1 << 32))
    return bits ^ ((bits >> 16) & 0xFFFF)
