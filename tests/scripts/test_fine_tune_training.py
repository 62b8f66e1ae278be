"""fine_tune.sh from end to end: the embedded model is really trained on a few emoji, alone and in two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from free_ports import free_port

from benchmark.data.preparation import prepare_reference
from benchmark.data.sources import open_dataset

ROOT = Path(__file__).parents[2]
FINE_TUNE = ROOT / "scripts" / "pixart_scripts" / "common" / "fine_tune.sh"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a data set of six emoji; training and the combined base are shared by the tests."""
    folder = tmp_path_factory.mktemp("a folder") / "with spaces"
    prepare_reference(open_dataset("emoji", assets=ROOT / "assets", seed=42), folder / "My Emoji", 6)
    return folder


def fine_tune(folder: Path, **names: str) -> subprocess.CompletedProcess[str]:
    ours = {"HOME": os.environ.get("HOME", "/"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    paths = {"PYTHON_BIN": sys.executable, "BASE_DIR": str(folder / "My Emoji"), "COMBINED_BASE": str(folder / "base")}
    # What is tested is the same with and without a GPU, which a machine may have.
    given = ours | paths | {"WEIGHTS": "tiny", "STEPS": "2", "BS": "2", "CUDA_VISIBLE_DEVICES": ""} | names
    command = ["bash", str(FINE_TUNE), "--validate_every", "0"]
    return subprocess.run(command, cwd=folder, env=given, capture_output=True, text=True, timeout=300, check=False)


def test_a_lora_is_trained_and_a_second_call_leaves_it(folder: Path) -> None:
    told = fine_tune(folder)
    assert told.returncode == 0, told.stderr
    lora = folder / "My Emoji" / "pixart_lora"
    assert json.loads((lora / "adapter_config.json").read_text())["peft_type"] == "LORA"
    before = {path: path.stat().st_mtime_ns for path in lora.rglob("*")}
    again = fine_tune(folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith(f"{lora}: 2 steps, finished already\n")
    assert {path: path.stat().st_mtime_ns for path in lora.rglob("*")} == before


def test_two_processes_train_one_lora(folder: Path) -> None:
    lora = folder / "two"
    told = fine_tune(folder, NUM_PROCESSES="2", PORT=str(free_port()), OUTPUT_DIR=str(lora))
    assert told.returncode == 0, told.stderr
    assert (lora / "adapter_config.json").is_file()
    # Two trainings of one process each would write two records.
    steps = [json.loads(line).get("step") for line in (lora / "training" / "metrics.jsonl").read_text().splitlines()]
    assert len(steps) == len(set(steps))
    assert told.stderr.count("step 2/2") == 1


def test_without_images_it_is_one_line_and_status_2(folder: Path) -> None:
    told = fine_tune(folder, BASE_DIR=str(folder / "No Emoji"))
    assert told.returncode == 2
    assert told.stderr.count("\n") == 1
    assert "no images in" in told.stderr
    assert "prepare_inputs.py" in told.stderr
    assert not (folder / "No Emoji").exists()
