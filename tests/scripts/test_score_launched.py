"""score_folder under a launcher: the scores of one process, printed once, and one line for what cannot be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scripts import score_folder

ROOT = Path(__file__).parents[2]
LAUNCH = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint",
          "localhost:0")  # fmt: skip


def run(*arguments: str | Path, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(home)}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Draw noise into two folders, with captions of robots beside."""
    root = tmp_path_factory.mktemp("noise")
    generator = np.random.default_rng(0)
    for name, count in (("made", 40), ("real", 52)):
        (root / name).mkdir()
        for index in range(count):
            pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{index:05d}.png")
            (root / name / f"{index:05d}_caption.txt").write_text("a blue robot with a round head")
    return root / "made", root / "real"


def test_two_processes_print_the_scores_of_one_once(folders: tuple[Path, Path], tmp_path: Path) -> None:
    command = ("scripts/score_folder.py", folders[0], "--reference", folders[1], "--metrics", "fid,kid,fidelity",
               "--device", "cpu", "--batch-size", "8", "--cache")  # fmt: skip
    alone = run(*command, tmp_path / "one", home=tmp_path)
    launched = run(*LAUNCH, *command, tmp_path / "two", home=tmp_path)
    assert launched.returncode == alone.returncode == 0, launched.stderr
    assert launched.stdout == alone.stdout
    assert "FD-robots" in alone.stdout
    assert "made, share 1 of 2 through robots: 16/16" in launched.stderr
    assert "share 2 of 2" not in launched.stderr  # the other process's; it would be extracted here if that had failed
    kept = [{entry.name for entry in (tmp_path / cache / "features").iterdir()} for cache in ("one", "two")]
    assert kept[0] == kept[1]


def test_what_cannot_be_scored_is_one_line_of_the_first_process(folders: tuple[Path, Path], tmp_path: Path) -> None:
    command = ("scripts/score_folder.py", tmp_path / "nowhere", "--reference", folders[1], "--device", "cpu")
    told = run(*LAUNCH, *command, home=tmp_path)
    assert told.returncode != 0
    assert told.stdout == ""
    (line,) = [line for line in told.stderr.splitlines() if line.startswith("score_folder")]
    assert line.startswith(f"score_folder: no folder {tmp_path / 'nowhere'}")
    assert 'Traceback (most recent call last):\n  File "scripts' not in told.stderr


def test_one_gpu_by_number_is_refused_for_several_processes(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}  # fmt: skip
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    given = [str(folders[0]), "--reference", str(folders[1]), "--device", "cuda:1"]
    monkeypatch.setattr(sys, "argv", ["score_folder.py", *given])
    assert score_folder.main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("score_folder: DEVICE=cuda:1 is one GPU, and the launcher started 2 processes")
