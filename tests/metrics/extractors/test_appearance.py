"""Contrast and thumbnails are what numpy and Pillow say of the same images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from metrics.extractors.appearance import SIDE, Appearance, Contrast
from metrics.images import as_tensor


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    """Return images of several sizes, of noise in part of the levels and of one colour."""
    generator = np.random.default_rng(0)
    drawn = [
        generator.integers(low, high, (height, width, 3), dtype=np.uint8)
        for low, high, height, width in ((0, 256, 70, 41), (100, 103, 33, 200), (250, 256, 32, 32))
    ]
    return [Image.fromarray(image_HWC) for image_HWC in (*drawn, np.full((9, 5, 3), 255, dtype=np.uint8))]


def test_the_contrast_is_the_largest_standard_deviation_of_a_channel(images: list[Image.Image]) -> None:
    contrast_ND = Contrast().extract([as_tensor(image) for image in images])
    expected = [np.asarray(image).reshape(-1, 3).std(axis=0).max() for image in images]
    assert contrast_ND.dtype == torch.float32
    assert contrast_ND[:, 0].tolist() == pytest.approx(expected, rel=1e-6)
    assert contrast_ND[3].item() == 0


def test_the_appearance_is_the_contrast_and_a_small_image(images: list[Image.Image]) -> None:
    tensors = [as_tensor(image) for image in images]
    looks_ND = Appearance().extract(tensors)
    assert looks_ND.shape == (4, 1 + 3 * SIDE * SIDE)
    assert torch.equal(looks_ND[:, :1], Contrast().extract(tensors))
    for image, row_D in zip(images, looks_ND, strict=True):
        small_HWC = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float32)
        difference = row_D[1:].reshape(3, SIDE, SIDE).permute(1, 2, 0).numpy() - small_HWC
        assert abs(difference).max() <= 1.5, "Pillow rounds after each direction"
