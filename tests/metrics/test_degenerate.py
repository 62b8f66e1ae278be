"""Frames of one colour and copies of one image are told; a varied set is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics import degenerate
from metrics.base import ImageSet, Scoring
from metrics.extractors.appearance import Appearance


def find_degenerate(folder: Path, paths: list[Path], reference: list[Path] | None = None) -> list[str]:
    made, real = ImageSet("made", tuple(paths)), ImageSet("real", tuple(reference or ()))
    return degenerate.find_degenerate(made, real, Scoring("cpu", folder, folder / "cache"))


def _save(folder: Path, pixels: list[np.ndarray]) -> list[Path]:
    paths = []
    for index, image_HWC in enumerate(pixels):
        paths.append(folder / f"{index:05d}.png")
        Image.fromarray(image_HWC.astype(np.uint8)).save(paths[-1])
    return paths


def _smooth(seed: int) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((48, 48)))


def test_a_varied_set_has_no_warning(tmp_path: Path) -> None:
    assert find_degenerate(tmp_path, _save(tmp_path, [_smooth(seed) for seed in range(12)])) == []
    assert find_degenerate(tmp_path, []) == []


def test_frames_of_one_colour_are_counted_and_numbered(tmp_path: Path) -> None:
    nearly = np.full((48, 48, 3), 200) + np.random.default_rng(0).integers(-1, 2, (48, 48, 3))
    frames = [_smooth(1), np.zeros((48, 48, 3)), _smooth(2), nearly, _smooth(3)]
    (warning,) = find_degenerate(tmp_path, _save(tmp_path, frames))
    assert warning == "2 of 5 images are of one colour (00001, 00003)"


def test_a_mode_collapse_is_told_with_a_pair(tmp_path: Path) -> None:
    noisy = _smooth(1).astype(int) + np.random.default_rng(0).integers(-2, 3, (48, 48, 3))
    frames = [_smooth(0), _smooth(1), _smooth(2), noisy.clip(0, 255), *(_smooth(seed) for seed in range(3, 7))]
    (warning,) = find_degenerate(tmp_path, _save(tmp_path, frames))
    assert warning == "2 of 8 images are copies of another (00001 and 00003, ...): a mode collapse"


def test_two_alike_in_a_hundred_are_none(tmp_path: Path) -> None:
    frames = [_smooth(seed) for seed in range(39)] + [_smooth(0)]
    assert find_degenerate(tmp_path, _save(tmp_path, frames)) == []


def test_sparse_drawings_are_no_copies_where_the_real_ones_are_as_sparse(tmp_path: Path) -> None:
    def drawings(name: str, seed: int) -> list[Path]:
        folder = tmp_path / name
        folder.mkdir()
        generator = np.random.default_rng(seed)
        frames = []
        for _ in range(10):
            frame = np.full((128, 128, 3), 255)
            x, y = generator.integers(8, 100, 2)
            frame[y, x : x + 2] = 0
            frames.append(frame)
        return _save(folder, frames)

    made, real = drawings("made", 1), drawings("real", 2)
    assert find_degenerate(tmp_path, made, real) == []
    (warning,) = find_degenerate(tmp_path, made)
    assert warning.startswith("10 of 10 images are copies of another")


def test_of_more_images_than_can_be_compared_each_one_is_looked_at_for_one_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(degenerate, "MOST_IMAGES", 4)
    frames = [_smooth(seed) for seed in range(10)]
    frames[5] = frames[6] = np.zeros((48, 48, 3))  # every third is compared: 0, 3, 6 and 9
    frames[9] = frames[3]
    one_colour, copies = find_degenerate(tmp_path, _save(tmp_path, frames))
    assert one_colour == "2 of 10 images are of one colour (00005, 00006)"
    assert copies == "2 of 4 images are copies of another (00003 and 00009, ...): a mode collapse"


def test_images_that_were_looked_at_are_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _save(tmp_path, [_smooth(1), _smooth(1), np.zeros((48, 48, 3))])
    told = find_degenerate(tmp_path, paths)
    assert len(told) == 2
    monkeypatch.delattr(Appearance, "extract")
    assert find_degenerate(tmp_path, paths) == told
