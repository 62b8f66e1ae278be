"""The whole program, from settings to stdout and files, with a model that a test adds."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import models
import run_inference
from benchmark.command_line import parse_command
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option


# What somebody writes to add a model: options, a generator, a family. The line in the registry is in the fixture.
@dataclass(frozen=True)
class FlatOptions:
    level: int = option(128, "brightness of every pixel")
    breaks: bool = option(False, "1: fails as a model without weights does")


class Flat(ImageGenerator):
    def __init__(self, options: FlatOptions, runtime: Runtime) -> None:
        if options.breaks:
            raise OSError("no weights for Flat: put them somewhere")
        self.name, self.image_size, self.parameters = "Flat", runtime.image_size, 2_000_000
        self._level = options.level

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), self._level, dtype=torch.uint8)


FLAT = ModelFamily("flat", FlatOptions, lambda _: "Flat", lambda *_: "made up", Flat)
BRIGHT = ModelFamily("bright", FlatOptions, lambda _: "Bright", lambda *_: "made up", Flat)


@pytest.fixture(autouse=True)
def _registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, FLAT, BRIGHT))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "flat,bright", "BRIGHT_LEVEL": "250", "NUM_SAMPLES": "3", "NUM_REFERENCES": "4",
        "METRICS": "psnr", "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)


def test_a_model_is_one_file_and_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main([]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
    assert "Metric                              Flat                 Bright" in printed.out
    assert "Model Size (M params)               2.0                  2.0" in printed.out
    assert "Speed Winner: " in printed.out
    content = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [len(model["latencies_s"]) for model in content["models"]] == [3, 3]
    assert content["models"][0]["scores"][0]["n_generated"] == 3
    assert (tmp_path / "out" / "samples.png").stat().st_size > 1000
    report = (tmp_path / "out" / "report.html").read_text()
    assert report.count("<circle ") == 6, "a dot for each timed batch"
    assert "<th>Bright</th>" in report
    assert "<th>floor</th>" in report
    assert "data:image/png;base64," in report
    assert len(list((tmp_path / "out" / "Bright" / "output").glob("*.png"))) == 3
    assert (tmp_path / "out" / "results.csv").read_text().count("\n") == 3


def test_its_options_are_settings_and_flags() -> None:
    settings = parse_command(["--flat-level", "7"], {}).settings
    assert [model.options.level for model in settings.selected_models()] == [7, 250]


def test_a_model_that_fails_is_named_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLAT_BREAKS", "1")
    assert run_inference.main([]) == 1
    printed = capsys.readouterr().out
    assert "Flat: failed: OSError: no weights for Flat: put them somewhere" in printed
    assert "Speed Winner: Bright (the only model)" in printed


def test_other_settings_in_the_same_folder_are_refused_and_fresh_starts_over(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main([]) == 0
    monkeypatch.setenv("BRIGHT_LEVEL", "10")
    capsys.readouterr()
    assert run_inference.main([]) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "BRIGHT_LEVEL=250, now BRIGHT_LEVEL=10" in refused.err
    monkeypatch.setenv("FRESH", "1")
    assert run_inference.main([]) == 0


def test_a_run_can_be_extended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_inference.main([]) == 0
    before = (tmp_path / "out" / "Flat" / "output" / "00000.png").stat().st_mtime_ns
    monkeypatch.setenv("NUM_SAMPLES", "5")
    assert run_inference.main([]) == 0
    assert (tmp_path / "out" / "Flat" / "output" / "00000.png").stat().st_mtime_ns == before
    assert len(list((tmp_path / "out" / "Flat" / "output").glob("*.png"))) == 5


def test_ctrl_c_ends_at_the_next_batch_and_prints_what_there_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NUM_SAMPLES", "150")
    monkeypatch.setenv("WARMUP", "0")
    calls = 0
    real = Flat.generate

    def interrupt(self: Flat, requests: Sequence[Request]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            signal.raise_signal(signal.SIGINT)
        return real(self, requests)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(Flat, "generate", interrupt)
    assert run_inference.main([]) == 130
    printed = capsys.readouterr().out
    assert "Flat: 3 of 150 images" in printed
    assert "Interrupted" in printed


def test_a_report_that_cannot_be_written_costs_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out" / "samples.png").mkdir(parents=True)
    assert run_inference.main([]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
    assert "samples.png: failed: " in printed


def test_a_damaged_picture_costs_its_score_and_not_the_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main([]) == 0
    (tmp_path / "out" / "Flat" / "output" / "00000.png").write_bytes(b"damaged")
    capsys.readouterr()
    assert run_inference.main([]) == 1
    printed = capsys.readouterr().out
    assert "00000.png cannot be read as an image" in printed
    assert "Speed Winner: " in printed


def test_a_metric_that_breaks_costs_its_row_and_not_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setenv("METRICS", "kid,psnr")
    monkeypatch.setattr("metrics.kernel.kernel_distance", broken)
    assert run_inference.main([]) == 0
    printed = capsys.readouterr()
    assert "No kid: RuntimeError: CUDA out of memory" in printed.out
    assert "Speed Winner: " in printed.out
    assert "Traceback" in printed.err


def test_a_damaged_fingerprint_is_named_with_its_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main([]) == 0
    (tmp_path / "out" / "Flat" / "fingerprint.json").write_text("{")
    assert run_inference.main([]) == 2
    assert "fingerprint.json is damaged" in capsys.readouterr().err


def test_an_output_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "file" / "out"))
    assert run_inference.main([]) == 2
    assert "OUTPUT_DIR=" in capsys.readouterr().err


def test_a_picture_that_does_not_decode_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    for index in range(3):
        Image.new("RGB", (64, 64), (40 * index, 0, 0)).save(tmp_path / f"{index}.png")
        (tmp_path / f"{index}.txt").write_text(f"picture {index}")
    (tmp_path / "1.png").write_bytes(b"not a picture")
    monkeypatch.setenv("DATASET", str(tmp_path))
    assert run_inference.main([]) == 0
    assert "1 of 3 rows have no picture that decodes" in capsys.readouterr().out
