"""A training in several processes of a launcher: one of them speaks, and one that dies ends the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import accelerate
import psutil
import pytest
import torch
from tiny_training import tiny_settings

from benchmark.measure.machine import Machine
from finetuning import trainer
from scripts.pixart_scripts.common import train_lora as program

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "pixart_scripts" / "common" / "train_lora.py"
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
          "--rdzv-endpoint", "localhost:0")  # fmt: skip
SECOND = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "localhost",
          "MASTER_PORT": "1"}  # fmt: skip
FIRST = SECOND | {"RANK": "0", "LOCAL_RANK": "0"}


def rank_of(process: psutil.Process) -> str:
    try:
        return process.environ().get("RANK", "")
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return ""


def has_two(checkpoints: Path) -> bool:
    return any(path.stem > "step-000002" for path in checkpoints.glob("step-*.pt"))


def test_a_process_that_is_killed_ends_the_training_in_one_line_and_a_checkpoint_is_kept(tmp_path: Path) -> None:
    settings = tiny_settings(tmp_path)
    given = {
        "train_dir": settings.train_dir, "base": settings.base, "output_dir": settings.output_dir, "device": "cpu",
        "batch_size": 1, "steps": 100_000, "rank": 4, "log_every": 1000, "checkpoint_every": 2, "validate_every": 0,
    }  # fmt: skip
    words = [word for name, value in given.items() for word in (f"--{name}", str(value))]
    launcher = subprocess.Popen(
        [*LAUNCH, str(SCRIPT), *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    checkpoints = settings.output_dir / "training" / "checkpoints"
    end = time.monotonic() + 300
    # The curve that is drawn after the first one imports for seconds, and a signal ends an import at once.
    while launcher.poll() is None and time.monotonic() < end and not has_two(checkpoints):
        time.sleep(0.01)
    (second,) = [child for child in psutil.Process(launcher.pid).children() if rank_of(child) == "1"]
    os.kill(second.pid, signal.SIGKILL)
    out, err = launcher.communicate(timeout=300)
    assert launcher.returncode == 1, err
    assert out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("train_lora")]
    assert line.startswith("train_lora: rank 1 on ")
    assert f"its process {second.pid} has ended" in line
    assert line.endswith("; run the same command to resume from the last checkpoint")
    assert "RuntimeError" not in err
    assert list(checkpoints.glob("step-*.pt"))
    assert json.loads((settings.output_dir / "training" / "settings.json").read_text())["settings"]["processes"] == "2"


def test_one_gpu_by_number_is_refused_for_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in FIRST.items():
        monkeypatch.setenv(name, value)
    assert program.main(["--train_dir", str(tmp_path), "--device", "cuda:1"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert told.err.startswith("train_lora: DEVICE=cuda:1 is one GPU, and the launcher started 2 processes")


def test_a_lora_rank_in_rank_is_no_launchers_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in SECOND:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RANK", "8")
    assert program.main(["--train_dir", str(tmp_path / "none"), "--device", "cpu"]) == 2
    assert "no folder" in capsys.readouterr().err


def test_a_gpu_by_number_is_the_one_that_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """accelerate takes the current device of a process that is alone."""
    current = ["cuda:0"]

    class Accelerator:
        def __init__(self, **_: Any) -> None:
            self.device = current[-1]

    monkeypatch.setattr(trainer, "choose_machine", lambda device, dtype: Machine(device, "bfloat16", "a GPU", {}))  # noqa: ARG005
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(accelerate, "Accelerator", Accelerator)
    assert trainer._open_accelerator(tiny_settings(tmp_path, device="cuda:1")).device == "cuda:1"
