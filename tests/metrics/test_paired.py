"""PSNR to the exact picture: closed forms, which pairs count, and agreement with torchmetrics."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.paired import peak_signal_to_noise

ASSETS = Path(__file__).parents[2] / "assets"
# Captions that name every part, so that their picture is known.
WHOLE = [
    f"a {colour} robot with a round head, one red eye, a speaker mouth, a moustache and an open barrel body, "
    "in a forest"
    for colour in ("pink", "blue", "green", "red", "white", "grey")
]


def _picture(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def _set(folder: Path, name: str, captions: list[str], seed: int) -> ImageSet:
    paths = []
    for index in range(len(captions)):
        paths.append(folder / f"{name}{index}.png")
        _picture(seed + index).save(paths[-1])
    return ImageSet(name, tuple(paths), tuple(captions))


def _comparison(folder: Path, asked: list[str], exact: list[str]) -> Comparison:
    targets = _set(folder, "target", exact, 100)
    return Comparison(_set(folder, "generated", asked, 0), targets, targets)


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    return Scoring(device="cpu", assets=ASSETS, cache=tmp_path / "cache")


def test_a_difference_of_one_level_is_48_decibels() -> None:
    black, dark = Image.new("RGB", (4, 4), (0, 0, 0)), Image.new("RGB", (4, 4), (1, 1, 1))
    assert peak_signal_to_noise(black, dark) == pytest.approx(20 * math.log10(255))


def test_equal_pictures_score_what_8_bits_can_tell() -> None:
    assert peak_signal_to_noise(_picture(0), _picture(0)) == pytest.approx(10 * math.log10(255**2 * 12))


def test_it_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    one, other = (torch.from_numpy(np.asarray(_picture(seed)).astype(np.float64)) for seed in (0, 1))
    theirs = peak_signal_noise_ratio(one, other, data_range=255.0)
    assert peak_signal_to_noise(_picture(0), _picture(1)) == pytest.approx(float(theirs), rel=1e-6)


def test_a_target_of_another_shape_is_cropped_about_its_centre() -> None:
    target = Image.new("RGB", (64, 32), "red")
    target.paste((0, 0, 255), (12, 0, 52, 32))  # the filter reaches a little over the crop
    assert peak_signal_to_noise(Image.new("RGB", (16, 16), "blue"), target) > 50


def test_only_images_asked_for_just_their_targets_caption_count(tmp_path: Path, scoring: Scoring) -> None:
    comparison = _comparison(tmp_path, [WHOLE[0], "a blue robot with a round head", *WHOLE[2:]], WHOLE)
    (score,) = METRICS["psnr"](scoring).score(comparison)
    expected = [peak_signal_to_noise(_picture(i), _picture(100 + i)) for i in (0, 2, 3, 4, 5)]
    assert score.value == pytest.approx(sum(expected) / 5)
    assert (score.n_generated, score.better, score.label) == (5, "higher", "PSNR dB (higher = better)")
    assert score.interval is not None
    assert score.interval[0] < score.value < score.interval[1]


def test_images_of_classes_have_no_exact_picture(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(MetricUnavailable, match="asked for a class, not for a caption"):
        METRICS["psnr"](scoring).score(_comparison(tmp_path, ["a pink robot", "a blue robot"], WHOLE[:2]))


def test_without_targets_there_is_no_score(tmp_path: Path, scoring: Scoring) -> None:
    images = _set(tmp_path, "generated", ["a", "b"], 0)
    with pytest.raises(MetricUnavailable, match="no exact picture"):
        METRICS["psnr"](scoring).score(Comparison(images, images))


def test_captions_that_do_not_fix_a_picture_have_no_score(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(MetricUnavailable, match="do not fix a picture"):
        METRICS["psnr"](scoring).score(
            _comparison(tmp_path, ["hedgehog, twemoji style"] * 2, ["hedgehog, twemoji style"] * 2)
        )
