"""Distances of all pairs, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

_ROWS = 512
# Every image is compared with every other: of more than this many on a side, as many are drawn.
MOST_IMAGES = 10_000


def squared_distances(x_ND: Tensor, y_MD: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row and `squared_nM`, a few rows of x at a time."""
    squares_M = y_MD.square().sum(dim=1)
    for start in range(0, len(x_ND), _ROWS):
        some_nD = x_ND[start : start + _ROWS]
        squared_nM = some_nD.square().sum(dim=1, keepdim=True) + squares_M - 2 * some_nD @ y_MD.T
        yield start, squared_nM.clamp(min=0)


def squared_distances_to_others(x_ND: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield the first row and `squared_nN` of x to itself; a row is infinitely far from itself."""
    for start, squared_nN in squared_distances(x_ND, x_ND):
        rows = torch.arange(len(squared_nN), device=x_ND.device)
        squared_nN[rows, start + rows] = torch.inf
        yield start, squared_nN


def nearest_distances(x_ND: Tensor, y_MD: Tensor, device: str = "cpu") -> Tensor:
    """Return `squared_N`, float64: how far each of x is from the nearest of y."""
    x_ND, y_MD = x_ND.to(device, torch.float64), y_MD.to(device, torch.float64)
    return torch.cat([squared_nM.amin(dim=1) for _, squared_nM in squared_distances(x_ND, y_MD)]).cpu()
