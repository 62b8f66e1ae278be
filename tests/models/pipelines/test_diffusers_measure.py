"""The measuring script runs through on a CPU with small networks, and keeps what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def test_wrappers_are_measured_beside_stock_and_strategies(tmp_path: Path) -> None:
    root = Path(__file__).parents[3]
    output = tmp_path / "models.json"
    command = [
        "scripts/measuring/measure_models.py",
        "--tiny",
        "--device",
        "cpu",
        "--image-size",
        "32",
        "--steps",
        "1",
        "--repeats",
        "1",
    ]
    command += ["--strategies", "sdxl:eager+fuse,pixart:eager+fuse+empty,sdxl:eager+empty", "--output", str(output)]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *command], cwd=root, env=environment, check=True, capture_output=True)
    found = json.loads(output.read_text())
    assert found["about"]["versions"]["torch"]
    sdxl, pixart = found["models"]
    assert (sdxl["model"], pixart["model"]) == ("sdxl", "pixart")
    assert sdxl["stock"]["ratio"] > 0
    assert "empty is none of" in sdxl["strategies"][1]["error"]
    for measured in (sdxl["strategies"][0], pixart["strategies"][0]):
        # bfloat16 with the products fused: rounding, no other image.
        assert measured["mean_difference_of_255"] < 4
        assert measured["median_s"] > 0
