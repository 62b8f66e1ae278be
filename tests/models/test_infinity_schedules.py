"""Infinity's scale schedules against the published tables."""

from __future__ import annotations

from typing import get_args

import pytest

from models.infinity_schedules import GRIDS, SIDES, Pixels, nearest_pixels, nearest_ratio, schedule_for

SIZES: tuple[Pixels, ...] = get_args(Pixels)


@pytest.mark.parametrize(("pixels", "tokens"), [("0.06M", 521), ("0.25M", 2521), ("1M", 10521)])
def test_square_images_have_the_published_number_of_tokens(pixels: Pixels, tokens: int) -> None:
    assert schedule_for(pixels).offsets[-1] == tokens


@pytest.mark.parametrize(("pixels", "scales"), list(zip(SIZES, (7, 10, 12, 13), strict=True)))
@pytest.mark.parametrize("ratio", GRIDS)
def test_sizes_are_prefixes_that_span_the_largest(pixels: Pixels, scales: int, ratio: float) -> None:
    schedule, largest = schedule_for(pixels, ratio), schedule_for("1M", ratio)
    assert schedule.grids == largest.grids[:scales]
    assert schedule.span == largest.grids[-1]


@pytest.mark.parametrize("pixels", SIZES)
def test_the_last_grid_of_sixteen_pixels_a_token_is_the_side(pixels: Pixels) -> None:
    assert [side * 16 for side in schedule_for(pixels).grids[-1]] == [SIDES[pixels]] * 2


def test_ratios_are_the_published_ones() -> None:
    assert sorted(GRIDS) == [0.333, 0.4, 0.5, 0.571, 0.666, 0.75, 0.8, 1, 1.25, 1.333, 1.5, 1.75, 2, 2.5, 3]
    assert all(len(grids) == 13 for grids in GRIDS.values())


def test_the_last_grid_has_the_ratio_it_is_for() -> None:
    for ratio, grids in GRIDS.items():
        assert grids[-1][0] / grids[-1][1] == pytest.approx(ratio, abs=0.001)


@pytest.mark.parametrize("pixels", SIZES)
@pytest.mark.parametrize(("wide", "tall"), [(0.8, 1.25), (0.75, 1.333), (0.571, 1.75), (0.333, 3.0)])
def test_wide_images_are_tall_ones_turned_over(pixels: Pixels, wide: float, tall: float) -> None:
    expected = tuple((width, height) for height, width in schedule_for(pixels, tall).grids)
    assert schedule_for(pixels, wide).grids == expected


def test_the_nearest_ratio_is_taken() -> None:
    assert [nearest_ratio(aspect) for aspect in (1.0, 0.95, 16 / 9, 9 / 16, 1.4, 5.0, 2 / 3)] == [
        1.0, 1.0, 1.75, 0.571, 1.333, 3.0, 0.666,
    ]  # fmt: skip


def test_the_nearest_size_is_taken() -> None:
    assert {side: nearest_pixels(side) for side in (64, 256, 384, 500, 512, 768, 1000, 1024, 2048)} == {
        64: "0.06M", 256: "0.06M", 384: "0.25M", 500: "0.25M", 512: "0.25M", 768: "0.60M", 1000: "1M", 1024: "1M",
        2048: "1M",
    }  # fmt: skip
