"""PSNR to the exact image: closed forms, which pairs count, and agreement with torchmetrics."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.images import as_tensor
from metrics.paired import (
    ColourDifference,
    PairedMetric,
    PeakSignalToNoise,
    PerceptualDistance,
    StructuralSimilarity,
    exact_pairs,
    load_lpips,
    read_pair,
)

ASSETS = Path(__file__).parents[2] / "assets"
# Captions that name every part, so that their image is known.
WHOLE = [
    f"a {colour} robot with a round head, one red eye, a speaker mouth, a moustache and an open barrel body, "
    "in a forest"
    for colour in ("pink", "blue", "green", "red", "white", "grey")
]


def _image(seed: int, size: tuple[int, int] = (16, 16)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def _set(folder: Path, name: str, captions: list[str], seed: int) -> ImageSet:
    paths = []
    for index in range(len(captions)):
        paths.append(folder / f"{name}{index}.png")
        _image(seed + index).save(paths[-1])
    return ImageSet(name, tuple(paths), tuple(captions))


def _comparison(folder: Path, asked: list[str], exact: list[str]) -> Comparison:
    targets = _set(folder, "target", exact, 100)
    return Comparison(_set(folder, "generated", asked, 0), targets, targets.paths)


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    return Scoring(device="cpu", assets=ASSETS, cache=tmp_path / "cache")


def value(metric: type[PairedMetric], one: Image.Image, other: Image.Image) -> float:
    scoring = Scoring(device="cpu", assets=ASSETS, cache=Path())
    return metric(scoring).value_of(as_tensor(one), as_tensor(other))


def test_a_difference_of_one_level_is_48_decibels() -> None:
    black, dark = Image.new("RGB", (4, 4), (0, 0, 0)), Image.new("RGB", (4, 4), (1, 1, 1))
    assert value(PeakSignalToNoise, black, dark) == pytest.approx(20 * math.log10(255))


def test_equal_images_score_what_8_bits_can_tell() -> None:
    assert value(PeakSignalToNoise, _image(0), _image(0)) == pytest.approx(10 * math.log10(255**2 * 12))
    assert value(StructuralSimilarity, _image(0), _image(0)) == pytest.approx(1)
    assert value(ColourDifference, _image(0), _image(0)) == 0


def test_decibels_are_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    one, other = _image(0, (20, 30)), _image(1, (20, 30))
    theirs = peak_signal_noise_ratio(as_tensor(one).double(), as_tensor(other).double(), data_range=255.0)
    assert value(PeakSignalToNoise, one, other) == pytest.approx(float(theirs), rel=1e-6)


def test_similarity_is_scikit_images() -> None:
    from skimage.metrics import structural_similarity

    one = _image(0, (200, 200))
    other = one.resize((190, 190)).resize((200, 200))
    theirs = structural_similarity(
        np.asarray(one), np.asarray(other), channel_axis=2, data_range=255, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False,
    )  # fmt: skip
    assert value(StructuralSimilarity, one, other) == pytest.approx(theirs, abs=0.02)  # borders are treated otherwise


def test_black_and_white_are_a_hundred_apart() -> None:
    black, white = Image.new("RGB", (2, 2), "black"), Image.new("RGB", (2, 2), "white")
    assert value(ColourDifference, black, white) == pytest.approx(100, abs=0.01)


def test_lpips_without_its_backbone_says_which_file_to_put_where(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    with pytest.raises(MetricUnavailable, match=r"alexnet-owt-7be5be79\.pth"):
        METRICS["lpips"](scoring).score(_comparison(tmp_path, WHOLE, WHOLE))


def test_lpips_runs_with_a_backbone_in_torchs_cache(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torchvision.models import alexnet

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    downloads = tmp_path / "hub" / "hub" / "checkpoints"
    downloads.mkdir(parents=True)
    torch.manual_seed(0)
    torch.save(alexnet(weights=None).state_dict(), downloads / "alexnet-owt-7be5be79.pth")
    targets = [_image(seed, (64, 64)) for seed in range(2)]
    metric = PerceptualDistance(scoring)
    metric.prepare()
    same = metric.value_of(as_tensor(targets[0]), as_tensor(targets[0]))
    assert same == pytest.approx(0, abs=1e-6)
    value = metric.value_of(as_tensor(targets[0]), as_tensor(targets[1]))
    assert value > 1e-4
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    pixels = [as_tensor(target)[None].float() / 127.5 - 1 for target in targets]
    assert value == pytest.approx(float(LearnedPerceptualImagePatchSimilarity("alex")(*pixels)), abs=1e-7)


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("ran",))


@pytest.mark.parametrize("content", [Payload(), [1], {"features.0.weight": torch.zeros(1)}, {}])
def test_a_backbone_that_is_none_is_refused_and_nothing_in_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match=r"alexnet-owt-7be5be79\.pth") as caught:
        load_lpips(tmp_path / "alexnet-owt-7be5be79.pth")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_a_target_of_another_shape_is_cropped_about_its_centre(tmp_path: Path) -> None:
    target = Image.new("RGB", (64, 32), "red")
    target.paste((0, 0, 255), (12, 0, 52, 32))  # the filter reaches a little over the crop
    target.save(tmp_path / "target.png")
    Image.new("RGB", (16, 16), "blue").save(tmp_path / "made.png")
    made, real = read_pair(tmp_path / "made.png", tmp_path / "target.png")
    assert (made.int() - real.int()).abs().max() <= 1


def test_only_images_asked_for_every_part_count(tmp_path: Path, scoring: Scoring) -> None:
    comparison = _comparison(tmp_path, [WHOLE[0], "a blue robot with a round head", *WHOLE[2:]], WHOLE)
    (score,) = METRICS["psnr"](scoring).score(comparison)
    expected = [value(PeakSignalToNoise, _image(i), _image(100 + i)) for i in (0, 2, 3, 4, 5)]
    assert score.value == pytest.approx(sum(expected) / 5)
    assert (score.n_generated, score.better, score.label) == (5, "higher", "PSNR dB (higher = better)")
    assert score.interval is not None
    assert score.interval[0] < score.value < score.interval[1]
    assert score.floor == pytest.approx(score.value, abs=1)  # noise is as far from other noise
    assert score.floor_count == 3


def test_images_of_classes_have_no_exact_image(tmp_path: Path, scoring: Scoring) -> None:
    comparison = _comparison(tmp_path, ["a pink robot", "a blue robot"], WHOLE[:2])
    with pytest.raises(MetricUnavailable, match="asked for a class, not for a caption"):
        METRICS["psnr"](scoring).score(replace(comparison, unpaired="asked for a class, not for a caption"))


def test_without_targets_there_is_no_score(tmp_path: Path, scoring: Scoring) -> None:
    images = _set(tmp_path, "generated", ["a", "b"], 0)
    with pytest.raises(MetricUnavailable, match="not known which real image"):
        METRICS["psnr"](scoring).score(Comparison(images, images))


def test_without_references_there_are_no_pairs(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(MetricUnavailable, match=r"^no reference images$"):
        METRICS["psnr"](scoring).score(Comparison(_set(tmp_path, "generated", WHOLE, 0), ImageSet("none", ())))


def test_rows_of_one_caption_pair_by_their_place(tmp_path: Path, scoring: Scoring) -> None:
    comparison = _comparison(tmp_path, [WHOLE[0]] * 2, [WHOLE[0]] * 2)
    assert comparison.targets is not None
    assert exact_pairs(comparison, ASSETS) == list(zip(comparison.generated.paths, comparison.targets, strict=True))
    for target, made in zip(comparison.targets, comparison.generated.paths, strict=True):
        assert target is not None
        target.write_bytes(made.read_bytes())
    (score,) = METRICS["delta-e"](scoring).score(comparison)
    assert (score.value, score.n_generated) == (0, 2)
    (crossed,) = METRICS["delta-e"](scoring).score(replace(comparison, targets=comparison.targets[::-1]))
    assert crossed.value > 10


def test_an_image_whose_request_has_no_target_is_left_out(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path, WHOLE[:3], WHOLE[:3])
    assert comparison.targets is not None
    first, _, third = comparison.targets
    kept = exact_pairs(replace(comparison, targets=(first, None, third)), ASSETS)
    assert [made.name for made, _ in kept] == ["generated0.png", "generated2.png"]
    assert [target for _, target in kept] == [first, third]
    with pytest.raises(MetricUnavailable, match="none of the prompts has a reference image"):
        exact_pairs(replace(comparison, targets=(None, None, None)), ASSETS)


def test_targets_that_are_exact_count_whatever_was_asked(tmp_path: Path) -> None:
    comparison = _comparison(tmp_path, ["hedgehog, twemoji style"] * 2, ["anything"] * 2)
    assert len(exact_pairs(replace(comparison, exact_targets=True), ASSETS)) == 2


def test_captions_that_do_not_fix_an_image_have_no_score(tmp_path: Path, scoring: Scoring) -> None:
    with pytest.raises(MetricUnavailable, match="do not fix an image"):
        METRICS["psnr"](scoring).score(
            _comparison(tmp_path, ["hedgehog, twemoji style"] * 2, ["hedgehog, twemoji style"] * 2)
        )
