"""The noise of next-scale sampling: each request's own, or the batch's as the published code draws it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor


class Noise:
    """Room for the draws of one batch, filled before the network runs: Exponential(1), float32, `(B, L, V)` a scale.

    tokens: draws (tokens, or bits) in each scale. sets: how many draws a scale needs one after the other.
    """

    def __init__(
        self, batch: int, tokens: Sequence[int], vocabulary: int, device: torch.device | str, sets: int = 1
    ) -> None:
        sizes = [batch * count * vocabulary for count in tokens] * sets
        self._room = torch.empty(sum(sizes), device=device)
        places = [part.view(batch, -1, vocabulary) for part in torch.split(self._room, sizes)]
        self.sets = tuple(tuple(places[i : i + len(tokens)]) for i in range(0, len(places), len(tokens)))
        self.keys_BS2 = torch.zeros(batch, sets * len(tokens), 2, dtype=torch.int32, device=device)

    @property
    def exponentials(self) -> tuple[Tensor, ...]:
        """The first set: a tensor for each scale."""
        return self.sets[0]

    def choose_requests(self, seeds: Sequence[int]) -> None:
        """Say whose noise it is to be; `fill_by_request` then makes it."""
        self.keys_BS2.copy_(noise_keys(seeds, self.keys_BS2.shape[1], self.keys_BS2.device))

    def fill_by_request(self, fill: Callable[[Tensor, Tensor], None]) -> None:
        """Give each request the noise of its own seed, whatever the batch; it can stand in a CUDA graph.

        fill: `Operations.fill_uniform`.
        """
        places = [exponentials for one_set in self.sets for exponentials in one_set]
        for place, exponentials_BLV in enumerate(places):
            fill(exponentials_BLV, self.keys_BS2[:, place])
        self._room.log_().neg_()

    def fill_by_batch(self, seed: int) -> None:
        """Draw as the published code does: one generator on the device for the whole batch, scale after scale."""
        generator = torch.Generator(self.keys_BS2.device).manual_seed(seed)
        for scale_sets in zip(*self.sets, strict=True):
            for exponentials_BLV in scale_sets:
                exponentials_BLV.exponential_(generator=generator)


def noise_keys(seeds: Sequence[int], num_scales: int, device: torch.device | str) -> Tensor:
    """Return `keys_BS2`, int32: what makes the noise of every request and scale its own."""
    words = [number for seed in seeds for number in _key_words(seed, 2 * num_scales)]
    return torch.tensor(words, dtype=torch.int32).view(len(seeds), num_scales, 2).to(device)


def _key_words(seed: int, count: int) -> list[int]:
    """Return hashed words of a seed, int32; the first of them are the same whatever their number."""
    digests = (hashlib.blake2b(f"{seed}/{block}".encode()).digest() for block in range((count + 15) // 16))
    return np.frombuffer(b"".join(digests), dtype="<i4")[:count].tolist()  # type: ignore[no-any-return]


def uniform_noise(keys_B2: Tensor, tokens: int, vocabulary: int) -> Tensor:
    """Return `uniform_BLV`, float32 draws from (0, 1) that are a function of the keys and the place alone.

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
    return ((bits_BLV >> 9) & 0x7FFFFF).float().add_(0.5).mul_(2.0**-23)


def _mix_bits(bits: Tensor) -> Tensor:
    """Return int32 words with every bit depending on every bit; int32 products wrap, shifts are made logical."""
    bits = bits ^ ((bits >> 16) & 0xFFFF)
    bits = bits * 0x7FEB352D
    bits = bits ^ ((bits >> 15) & 0x1FFFF)
    bits = bits * (0x846CA68B - (1 << 32))
    return bits ^ ((bits >> 16) & 0xFFFF)
