"""Every program of fine-tuning ends on a signal as the benchmark does: in one line, with a status that says which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "scripts" / "finetune_report.py", *sorted((ROOT / "scripts" / "pixart_scripts").rglob("*.py"))]
PROGRAMS = [path for path in SCRIPTS if '__name__ == "__main__"' in path.read_text(encoding="utf-8")]


def test_every_program_leaves_through_the_one_helper() -> None:
    assert len(PROGRAMS) >= 10
    for path in PROGRAMS:
        end = path.read_text(encoding="utf-8").partition('if __name__ == "__main__":')[2]
        assert "leave(exit_status_of(" in end, path
        assert "sys.exit(" not in end, path


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_prepare_inputs_says_that_the_same_command_goes_on(tmp_path: Path, number: int, status: int) -> None:
    script = ROOT / "scripts" / "pixart_scripts" / "common" / "prepare_inputs.py"
    command = [sys.executable, str(script), "--dataset", "robots", "--num_samples", "100000", "--output_dir", "."]
    process = subprocess.Popen(
        command, cwd=tmp_path, text=True, stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    manifest = tmp_path / "Robots" / "input" / "manifest.jsonl"
    while process.poll() is None and not (manifest.is_file() and manifest.read_bytes().count(b"\n") > 3):
        time.sleep(0.01)
    process.send_signal(number)
    _, told = process.communicate()
    assert process.returncode == status, told
    assert told.splitlines()[-1] == "prepare_inputs: stopped; run the same command to resume"
    assert "Traceback" not in told
