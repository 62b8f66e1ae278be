"""A run whose workers are processes: what ends it, what it prints then, and that the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import slow_noise

import models
import run_inference
from benchmark.report.results import read_results
from scripts.measuring.killing import started_with

ROOT = Path(__file__).parents[1]
PROGRAM = [sys.executable, "-c", "import slow_noise; slow_noise.main()"]
SETTINGS = {
    "WEIGHTS": "tiny", "MODELS": "slow", "NUM_SAMPLES": "28", "TIMED_SAMPLES": "12", "BULK_BATCH_SIZE": "2",
    "NUM_REFERENCES": "4", "METRICS": "psnr", "WARMUP": "0", "ROUNDS": "1", "DEVICE": "cpu",
}  # fmt: skip
SECONDS = 300  # at most; on an idle machine a run takes ten
SIGNALS = [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)]


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)


def made(output: Path, purpose: str) -> int:
    """Return how many batches of images, timed or in bulk, the column's journal has."""
    journal = output / "Slow" / "timings.jsonl"
    lines: list[dict[str, Any]] = []
    if journal.exists():
        lines = [json.loads(line) for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]
    return sum(line["kind"] == "batch" and line["purpose"] == purpose for line in lines)


def start(output: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        PROGRAM, env=os.environ | {"OUTPUT_DIR": str(output), "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def content_of(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.png"))}


def test_signals_in_rounds_and_in_bulk_end_every_process_and_the_same_command_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "interrupted"
    monkeypatch.setenv("SLOW_SECONDS", "0.2")  # of each call: a busy machine takes some to see the signal
    for purpose in ("timed", "bulk"):
        for name, status in SIGNALS:
            before = made(output, purpose)
            process = start(output)
            end = time.monotonic() + SECONDS
            while made(output, purpose) == before and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
            os.killpg(process.pid, getattr(signal, name))  # as a terminal does: workers have a group of their own
            printed, told = process.communicate(timeout=SECONDS)
            assert process.returncode == status, f"{name}: {told}"
            assert started_with("OUTPUT_DIR", str(output)) == []
            assert printed.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
            images = len(list((output / "Slow" / "output").glob("*.png")))
            assert f"Slow: {images} of 28 images" in printed
            assert "Interrupted" in printed
            assert "Traceback" not in told
            assert "failed" not in printed + told
            assert 0 < made(output, purpose) - before < {"timed": 12, "bulk": 8}[purpose]
    assert made(output, "timed") == 12, "bulk times nothing again"

    process = start(output)
    printed, told = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, told
    assert "Interrupted" not in printed
    whole = tmp_path / "whole"
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, *slow_noise.FAMILIES))
    monkeypatch.setenv("OUTPUT_DIR", str(whole))
    monkeypatch.setenv("SLOW_SECONDS", "0")
    assert run_inference.main([]) == 0
    interrupted, undisturbed = content_of(output), content_of(whole)
    assert len([name for name in undisturbed if name.startswith("Slow")]) == 28
    for content in (interrupted, undisturbed):
        del content["samples.png"]
    assert interrupted == undisturbed
    assert read_results(output / "results.json").models[0].rounds[0].complete


@pytest.mark.usefixtures("real_servers")
def test_a_worker_that_is_killed_costs_its_column_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, *slow_noise.FAMILIES))
    for name, value in {"MODELS": "dying,slow", "NUM_SAMPLES": "3", "OUTPUT_DIR": str(tmp_path / "out")}.items():
        monkeypatch.setenv(name, value)
    assert run_inference.main([]) == 1
    printed, results = capsys.readouterr().out, tmp_path / "out" / "results.json"
    assert "Dying: failed: its process was killed by SIGKILL" in printed
    assert "(round 1 of 1)" in printed
    assert "Dying: 1 of 3 images" in printed, "what it had made stays"
    assert "Slow: " not in printed.partition("Rounds: ")[2], "nothing is wrong with the other"
    found = [(model.name, model.images, model.rounds[0].complete) for model in read_results(results).models]
    assert found == [("Dying", 1, False), ("Slow", 3, True)]
