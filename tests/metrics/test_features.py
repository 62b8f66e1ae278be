"""Features: which extractor is chosen and what its rows are called, streaming, the cache, the FID Inception itself."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_assets import write_assets
from torch import Tensor

from metrics import METRICS, entries, features
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.extractors.inception import InceptionFeatures
from metrics.extractors.precision import full_float32
from metrics.features import cached_features, choose_extractor, extract_features, halves_of
from metrics.frechet import fit_gaussian, frechet_distance
from metrics.needed import INCEPTION_NAME
from scripts.measuring.measure_features import random_inception

CLASS_NAME = "a blue robot with a round head"


class MeanColour:
    """An extractor of three features that counts the images it has seen."""

    key = name = "mean colour"
    distance_label = distance_short = kernel_label = kernel_short = "none"

    def __init__(self, identity: str = "mean colour") -> None:
        self.identity = identity
        self.seen = 0

    def extract(self, images: Sequence[Tensor]) -> Tensor:
        self.seen += len(images)
        return torch.stack([image_CHW.float().mean(dim=(1, 2)) for image_CHW in images])


def _images(folder: Path, count: int, seed: int = 0, sides: tuple[int, ...] = (40, 64)) -> tuple[Path, ...]:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(count):
        side = sides[index % len(sides)]
        Image.fromarray(generator.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(folder / f"{index:05d}.png")
    return tuple(sorted(folder.glob("*.png")))


@pytest.fixture
def scoring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scoring:
    """Return a scoring whose assets hold an attribute network of random weights, and no downloaded Inception."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))  # torch keeps its downloads in hub/checkpoints there
    assets = write_assets(tmp_path / "assets")
    return Scoring(device="cpu", assets=assets, cache=tmp_path / "cache", batch_size=4)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights in the layout that torch-fidelity publishes."""
    path: Path = tmp_path_factory.mktemp("inception") / "weights.pth"
    random_inception(path)
    return path


def test_robots_without_inception_weights_are_scored_by_the_embedded_network_and_never_as_fid(
    tmp_path: Path, scoring: Scoring
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 8), (CLASS_NAME,) * 8)
    (fid,) = METRICS["fid"](scoring).score(Comparison(images, images))
    (kid,) = METRICS["kid"](scoring).score(Comparison(images, images))
    assert (fid.label, fid.short) == ("FD-robots (lower = better)", "FD-robots")
    assert (kid.label, kid.short) == ("KD-robots (lower = better)", "KD-robots")
    assert "FID" not in fid.identity
    assert fid.value == pytest.approx(0, abs=1e-9)
    assert fid.floor_count == 4  # eight images make two disjoint fours


def test_other_images_without_inception_weights_get_the_remedy(
    tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.extractors.efficientnet.EFFICIENTNET_PACKAGES", ("not_installed_a", "not_installed_b"))
    images = ImageSet("x", _images(tmp_path / "x", 4), ("RX-78-2 Gundam, a white robot with a shield",) * 4)
    with pytest.raises(MetricUnavailable) as caught:
        METRICS["fid"](scoring).score(Comparison(images, images))
    for word in (INCEPTION_NAME, "INCEPTION_WEIGHTS", str(tmp_path / "hub" / "hub" / "checkpoints"), "pip install"):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_named_weights_file_that_is_missing_is_an_error_and_not_a_fallback(tmp_path: Path, scoring: Scoring) -> None:
    named = Scoring("cpu", scoring.assets, scoring.cache, inception_weights=tmp_path / "nowhere.pth")
    with pytest.raises(OSError, match=r"INCEPTION_WEIGHTS: no file .*nowhere\.pth"):
        choose_extractor(ImageSet("x", (), (CLASS_NAME,)), named)


def test_weights_that_torch_fidelity_once_downloaded_are_found(tmp_path: Path, scoring: Scoring) -> None:
    downloads = tmp_path / "hub" / "hub" / "checkpoints"
    downloads.mkdir(parents=True)
    torch.save({}, downloads / INCEPTION_NAME)
    chosen = choose_extractor(ImageSet("x", ()), scoring)
    assert chosen.distance_label == "FID Score (lower = better)"
    assert "not the published file" in chosen.identity


def test_inception_features_are_torch_fidelitys_own_and_their_distance_is_called_fid(
    tmp_path: Path, scoring: Scoring, inception_file: Path
) -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(inception_file))

    def by_torch_fidelity(paths: Sequence[Path]) -> Tensor:
        pixels = [torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)[None] for path in paths]
        return torch.cat([network(image_BCHW)[0] for image_BCHW in pixels])

    images = ImageSet("x", _images(tmp_path / "x", 2, 1, (40, 310)))
    reference = ImageSet("y", _images(tmp_path / "y", 2, 2, (64,)))
    theirs_ND, reference_ND = by_torch_fidelity(images.paths), by_torch_fidelity(reference.paths)
    assert theirs_ND.std() > 1e-3  # else any two would agree

    named = Scoring(
        "cpu", scoring.assets, scoring.cache, batch_size=3, inception_weights=inception_file,
        fid_protocol="torch-fidelity",
    )  # fmt: skip
    (fid,) = METRICS["fid"](named).score(Comparison(images, reference))
    assert (fid.label, fid.short) == ("FID Score (lower = better)", "FID")
    expected = frechet_distance(fit_gaussian(theirs_ND), fit_gaussian(reference_ND))
    assert fid.value == pytest.approx(expected, rel=1e-4)

    extractor = choose_extractor(reference, named)
    ours_ND = cached_features(images, extractor, named)
    assert torch.allclose(ours_ND, theirs_ND, rtol=1e-4, atol=1e-4 * float(theirs_ND.std()))


@pytest.mark.parametrize("content", ["other network", "list", "text", "t"])
def test_a_file_of_other_weights_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    weights = tmp_path / "wrong.pth"
    if content in ("text", "t"):
        weights.write_text("not weights" if content == "text" else "t")
    else:
        torch.save({"layer.weight": torch.zeros(2)} if content == "other network" else [1, 2], weights)
    with pytest.raises(ValueError, match=r"INCEPTION_WEIGHTS: .*wrong\.pth") as caught:
        InceptionFeatures(weights, "cpu").extract([torch.zeros(3, 8, 8, dtype=torch.uint8)])
    assert "\n" not in str(caught.value)


def test_features_do_not_depend_on_the_batch_size(tmp_path: Path, scoring: Scoring) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 11, sides=(40, 64, 100)), (CLASS_NAME,) * 11)
    extractor = choose_extractor(images, scoring)
    by_one = extract_features(images.paths, extractor, 1)
    assert torch.allclose(by_one, extract_features(images.paths, extractor, 7), atol=1e-6)


def test_features_that_are_not_finite_name_the_image(tmp_path: Path) -> None:
    class Broken(MeanColour):
        def extract(self, images: Sequence[Tensor]) -> Tensor:
            rows = super().extract(images)
            return rows / 0 if self.seen > 4 else rows

    with pytest.raises(ValueError, match=r"00004\.png"):
        extract_features(_images(tmp_path / "x", 6), Broken(), 4)


def test_a_second_run_decodes_no_image(tmp_path: Path, scoring: Scoring, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 6))
    first = cached_features(images, MeanColour(), scoring)
    monkeypatch.setattr(features, "stream_batches", None)
    again = MeanColour()
    assert torch.equal(cached_features(images, again, scoring), first)
    assert again.seen == 0


def test_copies_under_other_names_share_the_entry_and_a_changed_image_does_not(
    tmp_path: Path, scoring: Scoring
) -> None:
    paths = _images(tmp_path / "x", 4)
    cached_features(ImageSet("x", paths), MeanColour(), scoring)
    shutil.copytree(tmp_path / "x", tmp_path / "copy")
    copies = tuple(sorted((tmp_path / "copy").iterdir()))
    extractor = MeanColour()
    cached_features(ImageSet("copy", copies), extractor, scoring)
    assert extractor.seen == 0
    Image.new("RGB", (9, 9), "red").save(copies[2])
    cached_features(ImageSet("copy", copies), extractor, scoring)
    assert extractor.seen == 4


def test_another_identity_or_order_has_an_entry_of_its_own(tmp_path: Path, scoring: Scoring) -> None:
    paths = _images(tmp_path / "x", 4)
    first = cached_features(ImageSet("x", paths), MeanColour(), scoring)
    other = MeanColour("mean colour, bf16")
    cached_features(ImageSet("x", paths), other, scoring)
    assert other.seen == 4
    assert torch.equal(cached_features(ImageSet("x", paths[::-1]), MeanColour(), scoring), first.flip(0))


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_entry_is_computed_again_and_told(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 4))
    first = cached_features(images, MeanColour(), scoring)
    (entry,) = (scoring.cache / "features").iterdir()
    content = bytearray(entry.read_bytes())
    content[-3] ^= 1
    entry.write_bytes({"truncated": content[:-9], "flipped": content, "empty": b""}[damage])
    assert torch.equal(cached_features(images, MeanColour(), scoring), first)
    assert "damaged" in capsys.readouterr().err
    again = MeanColour()
    cached_features(images, again, scoring)
    assert again.seen == 0


@pytest.mark.parametrize(
    "tensors",
    [
        {"features": torch.zeros(3, 3)},
        {"features": torch.zeros(4)},
        {"features": torch.zeros(4, 3, dtype=torch.float64)},
        {"features": torch.full((4, 3), float("nan"))},
        {"other": torch.zeros(4, 3)},
    ],
)
def test_an_entry_that_cannot_be_of_these_images_is_computed_again_and_told(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str], tensors: dict[str, Tensor]
) -> None:
    """Its own digest is right: it was written so."""
    images = ImageSet("x", _images(tmp_path / "x", 4))
    first = cached_features(images, MeanColour(), scoring)
    (entry,) = (scoring.cache / "features").iterdir()
    entries.write_entry(entry, tensors)
    assert torch.equal(cached_features(images, MeanColour(), scoring), first)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"{entry} is damaged (")


def test_an_entry_under_another_ones_name_is_not_taken_for_it(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 4))
    cached_features(images, MeanColour("one"), scoring)
    (one,) = (scoring.cache / "features").iterdir()
    cached_features(images, MeanColour("other"), scoring)
    (other,) = set((scoring.cache / "features").iterdir()) - {one}
    shutil.copy(one, other)
    extractor = MeanColour("other")
    cached_features(images, extractor, scoring)
    assert extractor.seen == 4
    assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize("obstacle", ["file for a folder", "folder for an entry", "full disk"])
def test_a_cache_that_cannot_be_written_costs_a_warning_and_no_features(
    tmp_path: Path,
    scoring: Scoring,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    obstacle: str,
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 4))
    if obstacle == "file for a folder":
        scoring.cache.write_text("not a folder")
    elif obstacle == "folder for an entry":
        entries.entry_of(images, MeanColour().identity, scoring).mkdir(parents=True)
    else:

        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("files.writing.publish", full)
    extractor = MeanColour()
    assert cached_features(images, extractor, scoring).shape == (4, 3)
    assert extractor.seen == 4
    warnings = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert len(warnings) == 1
    assert str(scoring.cache) in warnings[0]
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith(".t2i-partial")]


def test_damaged_bytes_anywhere_in_an_entry_never_give_other_features(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 4))
    first = cached_features(images, MeanColour(), scoring)
    (entry,) = (scoring.cache / "features").iterdir()
    whole = entry.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        for place in generator.integers(0, len(whole), generator.integers(1, 4)):
            content[place] ^= int(generator.integers(1, 256))
        entry.write_bytes(content[: generator.integers(0, len(whole) + 1)] if generator.random() < 0.3 else content)
        assert torch.equal(cached_features(images, MeanColour(), scoring), first)
    assert "Traceback" not in capsys.readouterr().err


def test_a_corrupt_image_leaves_no_entry(tmp_path: Path, scoring: Scoring) -> None:
    paths = _images(tmp_path / "x", 4)
    paths[3].write_bytes(b"")
    with pytest.raises(OSError, match=r"00003\.png"):
        cached_features(ImageSet("x", paths), MeanColour(), scoring)
    assert not (scoring.cache / "features").exists()


def test_the_floor_is_drawn_from_disjoint_images_half_of_them_at_most() -> None:
    halves = halves_of(10, 4)
    assert halves is not None
    assert [len(half) for half in halves] == [4, 6]
    assert torch.cat(halves).sort().values.tolist() == list(range(10))
    fewer = halves_of(10, 6)
    assert fewer is not None
    assert [len(half) for half in fewer] == [5, 5]
    assert halves_of(3, 2) is None


def test_scores_of_enough_references_have_a_floor(tmp_path: Path, scoring: Scoring) -> None:
    reference = ImageSet("reference", _images(tmp_path / "r", 24, 3), (CLASS_NAME,) * 24)
    generated = ImageSet("x", _images(tmp_path / "x", 6, 4))
    for name in ("fid", "kid"):
        (score,) = METRICS[name](scoring).score(Comparison(generated, reference))
        assert score.floor is not None
        assert (score.n_generated, score.n_reference, score.floor_count) == (6, 24, 6)
        json.dumps(score.floor)


def test_full_float32_puts_the_process_choice_back() -> None:
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    with full_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
    assert (torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()) == before


def test_a_substitute_for_inception_is_told_once(
    tmp_path: Path, scoring: Scoring, capsys: pytest.CaptureFixture[str]
) -> None:
    images = ImageSet("x", _images(tmp_path / "x", 2), (CLASS_NAME,) * 2)
    features._tell_once.cache_clear()
    for _ in range(2):
        choose_extractor(images, scoring)
    told = capsys.readouterr().err
    assert told.count("INCEPTION_WEIGHTS") == 1
    assert "until then the rows are FD-robots and KD-robots" in told
