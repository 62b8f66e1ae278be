"""What score_folder takes beside plain folders: nested folders, arrays of images, arrays of features."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from metrics.inputs import unpack_images
from scripts import score_folder

ROOT = Path(__file__).parents[2]
Score = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def robots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `made` and `real`: 20 robots each."""
    from benchmark.data.preparation import prepare_reference
    from benchmark.data.sources import open_dataset

    root = tmp_path_factory.mktemp("robots")
    rows = prepare_reference(open_dataset("robots", assets=ROOT / "assets", seed=7), root / "all", 40).rows
    for row in rows:
        assert row.path is not None
        folder = root / ("made" if row.index < 20 else "real")
        folder.mkdir(exist_ok=True)
        shutil.copy(row.path, folder / f"{row.index:05d}.png")
    return root


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Score:
    """Return what runs score_folder in this process, and gives its status, stdout and stderr."""

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["score_folder.py", *map(str, arguments)])
        capsys.readouterr()
        status = score_folder.main()
        out, err = capsys.readouterr()
        return status, out, err

    return call


def values(outcome: tuple[int, str, str]) -> dict[str, float]:
    status, out, err = outcome
    assert status == 0, err
    return {score["key"]: score["value"] for score in json.loads(out)["scores"]}


def pixels(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in sorted(folder.glob("*.png"))])


@pytest.mark.parametrize("kind", ["npz", "npy"])
def test_an_array_of_images_scores_as_the_folder_of_them(robots: Path, tmp_path: Path, score: Score, kind: str) -> None:
    array = tmp_path / f"samples.{kind}"
    if kind == "npz":  # with labels, as guided-diffusion saves samples
        np.savez(array, pixels(robots / "made"), np.arange(20))
    else:
        np.save(array, pixels(robots / "made"))
    common = ("--metrics", "fid,kid", "--cache", tmp_path / "cache", "--json")
    plain = values(score(robots / "made", "--reference", robots / "real", *common))
    assert values(score(array, "--reference", robots / "real", *common)) == plain
    swapped = values(score(robots / "real", "--reference", array, *common))
    assert swapped["fid"] == pytest.approx(plain["fid"], rel=1e-6)


def test_an_array_is_unpacked_once(robots: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "samples.npy", pixels(robots / "made"))
    first = unpack_images(tmp_path / "samples.npy", tmp_path / "cache")
    times = [path.stat().st_mtime_ns for path in first.paths]
    again = unpack_images(tmp_path / "samples.npy", tmp_path / "cache")
    assert len(again) == 20
    assert [path.stat().st_mtime_ns for path in again.paths] == times


def test_features_are_a_reference_as_their_statistics_are(robots: Path, tmp_path: Path, score: Score) -> None:
    from metrics.base import ImageSet, Scoring
    from metrics.features import cached_features, choose_extractor

    real = ImageSet("real", tuple(sorted((robots / "real").glob("*.png"))))
    scoring = Scoring(device="cpu", assets=ROOT / "assets", cache=tmp_path / "cache")
    np.save(tmp_path / "real.npy", cached_features(real, choose_extractor(real, scoring), scoring).numpy())
    common = ("--metrics", "fid", "--cache", tmp_path / "cache", "--json")
    by_images = values(score(robots / "made", "--reference", robots / "real", *common))
    by_features = values(score(robots / "made", "--reference", tmp_path / "real.npy", *common))
    assert by_features["fid"] == pytest.approx(by_images["fid"], rel=1e-6)


def test_features_of_another_network_are_named_by_their_own_file(robots: Path, tmp_path: Path, score: Score) -> None:
    np.save(tmp_path / "real.npy", np.random.default_rng(0).normal(size=(8, 2048)))
    status, out, err = score(
        robots / "made", "--reference", tmp_path / "real.npy", "--metrics", "fid", "--cache", tmp_path / "cache"
    )
    assert (status, out) == (2, "")
    line = err.splitlines()[-1]
    assert "real.npy holds statistics of 2048 features (these are as many as the FID Inception's, which" in line


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 64), np.float32), "holds features of (4, 64), and the images themselves are scored"),
        (np.zeros((4, 8, 8, 3), np.float32), "expected uint8 of (N, H, W, 3)"),
        (np.zeros((4, 3, 8, 8), np.uint8), "expected uint8 of (N, H, W, 3)"),
        (np.asfortranarray(np.zeros((4, 8, 8, 3), np.uint8)), "in Fortran's order"),
        (np.array([object()]), "holds object"),
        (np.uint8(3), "expected numbers, row by row"),
    ],
)
def test_arrays_of_something_else_are_refused_in_one_line(
    robots: Path, tmp_path: Path, score: Score, array: np.ndarray, words: str
) -> None:
    np.save(tmp_path / "wrong.npy", array, allow_pickle=True)
    status, out, err = score(
        tmp_path / "wrong.npy", "--reference", robots / "real", "--metrics", "fid", "--cache", tmp_path / "cache"
    )
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert words in line
    assert line.count("wrong.npy") <= 2  # once as the file, once as the array in it
    assert "not a valid" not in line


def test_a_truncated_array_is_refused_in_one_line(robots: Path, tmp_path: Path, score: Score) -> None:
    np.save(tmp_path / "cut.npy", pixels(robots / "made"))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    status, out, err = score(
        tmp_path / "cut.npy", "--reference", robots / "real", "--metrics", "fid", "--cache", tmp_path / "cache"
    )
    assert (status, out) == (2, "")
    assert "ends in row 19 of 20; copy it again" in err


@pytest.fixture
def nested(robots: Path, tmp_path: Path) -> Path:
    """Return the layout of geneval: a grid and samples in a folder for each prompt."""
    root = tmp_path / "geneval"
    for place, path in enumerate(sorted((robots / "made").glob("*.png"))):
        samples = root / f"{place // 4:05d}" / "samples"
        samples.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, samples / f"{place % 4:04d}.png")
        shutil.copy(path, samples.parent / "grid.png")
    return root


def test_nested_samples_score_as_a_flat_folder_of_them(
    robots: Path, nested: Path, tmp_path: Path, score: Score
) -> None:
    common = ("--reference", robots / "real", "--metrics", "fid,kid", "--cache", tmp_path / "cache", "--json")
    plain = values(score(robots / "made", *common))
    assert values(score(nested, "--nested", "*/samples/*", *common)) == pytest.approx(plain, rel=1e-6)


def test_a_folder_of_folders_is_refused_with_the_flag_that_enters_them(
    robots: Path, nested: Path, tmp_path: Path, score: Score
) -> None:
    status, _, err = score(nested, "--reference", robots / "real", "--cache", tmp_path / "cache")
    assert status == 2
    assert "--nested takes the 25 images of its subfolders" in err


def test_a_pattern_that_fits_nothing_is_named(robots: Path, nested: Path, tmp_path: Path, score: Score) -> None:
    told = score(nested, "--reference", robots / "real", "--nested", "*/nope/*", "--cache", tmp_path / "cache")
    assert told[0] == 2
    assert "no path below it fits --nested */nope/*" in told[2]


def test_nested_images_pair_by_their_path(nested: Path, tmp_path: Path, score: Score) -> None:
    told = score(
        nested, "--reference", nested, "--nested", "*/samples/*", "--paired", "--metrics", "psnr", "--cache",
        tmp_path / "cache", "--json",
    )  # fmt: skip
    assert told[0] == 0, told[2]
    assert json.loads(told[1])["scores"][0]["n_generated"] == 20


def test_images_that_a_pattern_leaves_out_are_counted(robots: Path, nested: Path, tmp_path: Path, score: Score) -> None:
    _, _, err = score(
        nested, "--reference", robots / "real", "--nested", "*/samples/*", "--metrics", "kid", "--cache",
        tmp_path / "cache",
    )  # fmt: skip
    told = "not looked at: 5 (00000/grid.png, 00001/grid.png, 00002/grid.png, ...): its path does not fit --nested */s"
    assert f"{nested}: 20 images; {told}" in err


def test_captions_are_those_that_a_run_would_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("0.TXT", "1.caption", "2.png.txt", "3_caption.txt")):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{number}.png")
        (tmp_path / name).write_text(f"caption {number}")
    found = score_folder.read_images(tmp_path, tmp_path)
    assert found.captions == tuple(f"caption {number}" for number in range(4))
    assert capsys.readouterr().err == ""
    (tmp_path / "2.png.txt").unlink()
    assert score_folder.read_images(tmp_path, tmp_path).captions == ()
    assert "4 images; no captions are used, since 1 has none, first 2.png" in capsys.readouterr().err
