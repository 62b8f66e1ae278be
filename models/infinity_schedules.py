"""The published scale schedules of Infinity: the grids of tokens, coarse to fine, for every ratio of height to width.

Source: Han et al., Infinity (arXiv 2412.04431), and the tables of its public code.
"""

from __future__ import annotations

from typing import Literal, get_args

from models.networks.next_scale import Grid, Schedule

Pixels = Literal["0.06M", "0.25M", "0.60M", "1M"]

# How many scales each size takes of its ratio's grids, and the side in pixels of its square images.
SCALES: dict[Pixels, int] = {"0.06M": 7, "0.25M": 10, "0.60M": 12, "1M": 13}
SIDES: dict[Pixels, int] = {"0.06M": 256, "0.25M": 512, "0.60M": 768, "1M": 1024}

# Height x width in tokens, for images at least as high as wide; the others are these turned over.
_TALL = {
    1.0: "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    1.25: "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    1.333: "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    1.5: "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    1.75: "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    2.0: "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    2.5: "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    3.0: "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
}


def _read_grids(text: str) -> tuple[Grid, ...]:
    pairs = (grid.split("x") for grid in text.split())
    return tuple((int(height), int(width)) for height, width in pairs)


def _all_ratios() -> dict[float, tuple[Grid, ...]]:
    tall = {ratio: _read_grids(text) for ratio, text in _TALL.items()}
    # The published table cuts the inverse of a ratio to three decimals: 1 / 1.5 is 0.666. The table holds 1.333 for
    # 4/3, whose inverse is 0.75.
    wide = {
        0.75 if ratio == 1.333 else int(1000 / ratio) / 1000: tuple((width, height) for height, width in grids)
        for ratio, grids in tall.items()
        if ratio > 1
    }
    return tall | wide


GRIDS = _all_ratios()


def nearest_ratio(aspect: float) -> float:
    """Return the published ratio of height to width that is nearest to `aspect`."""
    return min(GRIDS, key=lambda ratio: abs(ratio - aspect))


def schedule_for(pixels: Pixels, aspect: float = 1.0) -> Schedule:
    """Return the schedule of this size whose ratio of height to width is nearest to `aspect`.

    Every size spans the coordinates of the largest one, 1M.
    """
    grids = GRIDS[nearest_ratio(aspect)]
    return Schedule(grids[: SCALES[pixels]], grids[-1])


def nearest_pixels(side: int) -> Pixels:
    """Return the published size whose square images have the side nearest to this one, the larger at a tie."""
    sizes: tuple[Pixels, ...] = get_args(Pixels)
    return min(sizes, key=lambda pixels: (abs(SIDES[pixels] - side), -SIDES[pixels]))
