"""Residual bitwise quantisation for training: as matrix products, and with bits flipped at random.

B images, d bits of a place, n places of a scale, N of the finest one. The same arithmetic as
`models.networks.bsq_vae.BitwiseScales`, whose bilinear kernel runs on a GPU with one thread a place, one after the
other over images and channels: it would take longer than the networks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from models.networks.next_scale import Grid, resize_matrix


class Walk(NamedTuple):
    """What a walk over the scales, coarse to fine, found.

    residuals: what each scale is asked for, `residual_Bdn`, with gradients to the latents. bits: its signs,
    `bits_Bdn`, bool. sums: the estimate after each scale, `sum_BdN`, of the bits as they were kept or flipped.
    """

    residuals: list[Tensor]
    bits: list[Tensor]
    sums: list[Tensor]


class FlatScales:
    """The scales of these grids with all places in one row."""

    def __init__(self, grids: Sequence[Grid], device: str) -> None:
        self.grids = tuple(grids)
        last = self.grids[-1]
        self._pools = [_resizing(last, grid, "area").to(device) for grid in self.grids]
        self._reads = [_resizing(last, grid, "bilinear").to(device) for grid in self.grids]
        self._spreads = [_resizing(grid, last, "bilinear").to(device) for grid in self.grids]

    def walk(self, latents_BdN: Tensor, most_flipped: float = 0.0) -> Walk:
        """Quantise latents, float32, scale by scale.

        most_flipped: of each scale of each image a share of the bits, drawn between 0 and this one, is added to the
        estimate the wrong way round; the bits of later scales are those of what is then left, so that they correct it.
        Source: Infinity (arXiv 2412.04431), bitwise self-correction.
        """
        magnitude = latents_BdN.shape[1] ** -0.5
        total_BdN = torch.zeros_like(latents_BdN)
        found = Walk([], [], [])
        for scale in range(len(self.grids)):
            residual_Bdn = self._resize(latents_BdN - total_BdN, scale, self._pools)
            bits_Bdn = residual_Bdn > 0
            added_Bdn = bits_Bdn
            if most_flipped:
                share_B11 = most_flipped * torch.rand(len(bits_Bdn), 1, 1, device=bits_Bdn.device)
                added_Bdn = bits_Bdn ^ (torch.rand(bits_Bdn.shape, device=bits_Bdn.device) < share_B11)
            total_BdN = total_BdN + self._resize((added_Bdn.float() * 2 - 1) * magnitude, scale, self._spreads)
            for group, value in zip(found, (residual_Bdn, bits_Bdn, total_BdN), strict=True):
                group.append(value)
        return found

    def inputs(self, sums: Sequence[Tensor]) -> Tensor:
        """Return the transformer's inputs of scales 1.. for these estimates: `inputs_BLd`, L - 1 tokens."""
        places = [self._resize(sum_BdN, scale + 1, self._reads) for scale, sum_BdN in enumerate(sums[:-1])]
        return torch.cat(places, dim=2).transpose(1, 2)

    def _resize(self, values: Tensor, scale: int, matrices: Sequence[Tensor]) -> Tensor:
        # The finest scale needs no product, and so none of its rounding.
        return values if self.grids[scale] == self.grids[-1] else values @ matrices[scale].T


def _resizing(source: Grid, target: Grid, mode: str) -> Tensor:
    """Return the matrix that resizes an image whose places stand in a row, row-major."""
    rows, columns = (resize_matrix(old, new, mode) for old, new in zip(source, target, strict=True))
    return torch.kron(rows, columns)
