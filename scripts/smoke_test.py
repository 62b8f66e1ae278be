"""Runs the benchmark on two images a model with the embedded models, and checks the table that it prints.

NUM_SAMPLES=2 SKIP_SDXL=1 WEIGHTS=tiny python run_inference.py
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("VAR", "PixArt", "Infinity")
ROWS = (
    "Model Size (M params)", "Avg Inference Time (s)", "Min Inference Time (s)", "Max Inference Time (s)",
    "Throughput (images/sec)", "Median Inference Time (s)",
)  # fmt: skip
WINNERS = ("Speed Winner: ", "Quality Winner: ", "Efficiency Winner: ")


def find_faults(table: str) -> list[str]:
    """Return what is wrong with the table of a run of these models; empty if nothing is."""
    lines = table.splitlines()
    faults = [
        f"no line begins with {start!r}" for start in WINNERS if not any(line.startswith(start) for line in lines)
    ]
    if not lines or lines[0] != "COMPREHENSIVE BENCHMARK RESULTS":
        faults.append("the title is not the first line")
    header = next((line for line in lines if line.startswith("Metric ")), "")
    faults += [f"no column {model}" for model in MODELS if model not in header]
    for row in ROWS:
        line = next((line for line in lines if line.startswith(row)), "")
        figures = re.findall(r"\d+\.\d+", line[35:])
        if len(figures) != len(MODELS) or not all(float(figure) > 0 for figure in figures):
            faults.append(f"row {row!r} has no positive figure for each model: {line!r}")
    quality = next((line for line in lines if re.match(r"(FID Score|FD-robots) \(lower = better\)", line)), "")
    if len(re.findall(r"\d+\.\d+", quality[35:])) != len(MODELS):
        faults.append(f"no distance for each model: {quality!r}")
    return faults


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUM_SAMPLES": "2", "SKIP_SDXL": "1", "WEIGHTS": "tiny", "OUTPUT_DIR": folder}
        command = [sys.executable, str(ROOT / "run_inference.py")]
        run = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print(run.stdout)
    faults = find_faults(run.stdout) + ([f"exit status {run.returncode}"] if run.returncode else [])
    for fault in faults:
        print(f"smoke test: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    leave(exit_status_of(main, "smoke_test", "stopped"))
