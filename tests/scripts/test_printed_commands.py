"""The commands that README prints, in their order, against local data in the hub's layout and a small PixArt.

They run in a folder that holds the repository's parts as links, so that `local_repo/` is the test's own. Beside them
only the environment is another: where the data lie, a base of 32 px, few steps.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from local_wikiart import write_wikiart

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from diffusers_folders import build_pixart

ROOT = Path(__file__).parents[2]
LINKED = ("assets", "benchmark", "finetuning", "metrics", "models", "scripts", "run_inference.py")


class Checkout:
    """A folder to run commands in; `python` is this interpreter."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        programs = folder / "programs"
        programs.mkdir()
        (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        (programs / "python").chmod(0o755)
        build_pixart().save_pretrained(folder / "base")

    def run(self, command: str, **names: str) -> str:
        """Run a line as a person types it, and return what it printed."""
        environment = {
            "HOME": os.environ.get("HOME", "/"), "PATH": f"{self.folder / 'programs'}:{os.environ['PATH']}",
            "PYTHON_BIN": sys.executable, "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "COMBINED_BASE": str(self.folder / "base"),
            "STEPS": "2", "BS": "2", "LR": "1e-2", "LORA_RANK": "2", "ROUNDS": "1",
        }  # fmt: skip
        told = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=environment | names,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert told.returncode == 0, f"{command}\n{told.stdout}\n{told.stderr}"
        return told.stdout


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "checkout")


def test_wikiart_from_its_parquet_to_images(checkout: Checkout, tmp_path: Path) -> None:
    paintings = write_wikiart(tmp_path / "paintings", noise=False)
    checkout.run(
        "python scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py --num_samples 2000 --seed 42",
        WIKIART_DATASET=str(paintings),
    )
    checkout.run(
        "python scripts/pixart_scripts/common/make_imagefolder_metadata.py --input_dir local_repo/WikiArt/input/train"
    )
    wikiart = checkout.folder / "local_repo" / "WikiArt"
    lines = (wikiart / "input" / "train" / "metadata.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["text"].startswith("Artist: Unknown Artist, Style: ")
    checkout.run("bash scripts/pixart_scripts/wikiart/fine_tune_wikiart.sh --validate_every 0")
    assert (wikiart / "pixart_lora" / "adapter_model.safetensors").is_file()
    checkout.run(
        "python scripts/pixart_scripts/wikiart/infer_finetuned_on_wikiart.py --use_meta --num_samples 3 --cfg 4.0",
        PIXART_STEPS="2", IMAGE_SIZE="32",
    )  # fmt: skip
    assert len(list((wikiart / "finetuned" / "output").glob("*.png"))) == 3


def test_one_script_and_then_the_benchmark_has_a_column_more(checkout: Checkout, tmp_path: Path) -> None:
    gundam = write_wikiart(tmp_path / "Gundam", noise=False)
    script = "bash scripts/fine_tune_from_inference.sh --validate_every 0"
    assert "2 steps, loss" in checkout.run(script, DATASET=str(gundam))
    files = {path: path.stat().st_mtime_ns for path in (checkout.folder / "local_repo").rglob("*") if path.is_file()}
    assert "2 steps, finished already" in checkout.run(script, DATASET=str(gundam))
    assert {path: path.stat().st_mtime_ns for path in files} == files
    table = checkout.run(
        "NUM_SAMPLES=2 SKIP_SDXL=1 SKIP_INFINITY=1 RUN_PIXART=1 python run_inference.py",
        DATASET=str(gundam), SKIP_VAR="1", PIXART_MODEL=str(checkout.folder / "base"), PIXART_STEPS="2",
        IMAGE_SIZE="32", METRICS="psnr", WARMUP="0",
    )  # fmt: skip
    titles = next(line for line in table.splitlines() if line.startswith("Metric")).split()
    assert titles == ["Metric", "PixArt", "PixArt+LoRA"]
    # The benchmark read more rows into the same folder: the training that is there stays as it is.
    assert "2 steps, finished already" in checkout.run(script, DATASET=str(gundam))
