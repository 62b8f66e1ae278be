"""The whole program, from settings to stdout and files, with a model that a test adds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import models
import run_inference
from benchmark.report.results import read_results
from benchmark.report.table import format_report
from benchmark.settings.command_line import parse_command
from metrics import METRICS
from metrics.base import Comparison, Score, Scoring
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
    assert [[len(found["latencies_s"]) for found in model["rounds"]] for model in content["models"]] == [[3], [3]]
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
    monkeypatch.setenv("BATCH_SIZE", "2")
    capsys.readouterr()
    assert run_inference.main([]) == 2
    refused = capsys.readouterr()
    assert refused.out == ""
    assert "made with BATCH_SIZE=1, now BATCH_SIZE=2" in refused.err
    monkeypatch.setenv("FRESH", "1")
    assert run_inference.main([]) == 0


def test_another_option_of_a_model_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_inference.main([]) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "Bright").rglob("*") if path.is_file()}
    monkeypatch.setenv("BRIGHT_LEVEL", "10")
    assert run_inference.main([]) == 0
    folder = Path(read_results(tmp_path / "out" / "results.json").models[1].folder)
    assert folder.name.startswith("Bright-")
    assert {path: path.read_bytes() for path in before} == before
    monkeypatch.setenv("BRIGHT_LEVEL", "250")
    assert run_inference.main([]) == 0
    assert read_results(tmp_path / "out" / "results.json").models[1].folder == str(tmp_path / "out" / "Bright")


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
        if calls == 4:  # the first is never timed
            signal.raise_signal(signal.SIGINT)
        return real(self, requests)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(Flat, "generate", interrupt)
    assert run_inference.main([]) == 130
    printed = capsys.readouterr().out
    assert "Flat: 3 of 150 images" in printed
    assert "Interrupted" in printed


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_other_signals_end_a_run_as_ctrl_c_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, status: int
) -> None:
    monkeypatch.setenv("NUM_SAMPLES", "20")
    monkeypatch.setenv("WARMUP", "0")
    real, calls = Flat.generate, []

    def interrupt(self: Flat, requests: Sequence[Request]) -> torch.Tensor:
        calls.append(requests)
        if len(calls) == 4:  # the first is never timed
            signal.raise_signal(getattr(signal, name))
        return real(self, requests)

    monkeypatch.setattr(Flat, "generate", interrupt)
    assert run_inference.main([]) == status
    printed = capsys.readouterr().out
    assert "Flat: 3 of 20 images" in printed
    assert "No psnr: interrupted" in printed
    results = read_results(tmp_path / "out" / "results.json")
    assert (results.interrupted, results.stop_status) == (True, status)


def test_a_second_signal_ends_at_once_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt_twice(_: Flat, _requests: Sequence[Request]) -> torch.Tensor:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not reached")

    monkeypatch.setattr(Flat, "generate", interrupt_twice)
    assert run_inference.main([]) == 130
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("run_inference.py: stopped; ")
    assert "Traceback" not in printed.err


def test_a_signal_while_data_is_prepared_is_one_line_and_its_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr("benchmark.run.phases.prepare_data", interrupt)
    assert run_inference.main([]) == 143
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "run_inference.py: stopped; the same command goes on from the last whole batch\n"


def test_a_signal_during_evaluation_gives_up_what_is_left_and_writes_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Counted:
        """A metric that counts its steps; a signal comes in the second column's."""

        def __init__(self, scoring: Scoring) -> None:
            self._scoring = scoring

        def score(self, comparison: Comparison) -> list[Score]:
            name = comparison.generated.name
            with self._scoring.progress(f"{name} counted", 10) as report:
                for step in range(10):
                    if (name, step) == ("Bright", 4):
                        signal.raise_signal(signal.SIGTERM)
                    report(step + 1)
                    assert (name, step) != ("Bright", 5), "the metric went on"
            return [Score("psnr", "PSNR", "PSNR", 1.0, "higher", 3, 0, "made up")]

    monkeypatch.setenv("METRICS", "psnr,kid")
    monkeypatch.setitem(METRICS, "psnr", Counted)
    monkeypatch.setattr(Counted, "label", "PSNR", raising=False)
    monkeypatch.setattr(Counted, "row", "", raising=False)
    assert run_inference.main([]) == 143
    printed = capsys.readouterr().out
    assert "No psnr, kid for Bright: interrupted" in printed
    results = read_results(tmp_path / "out" / "results.json")
    first, second = results.models
    assert second.scores == ()
    assert first.scores[0].value == 1.0
    assert second.unscored == {"psnr": "interrupted", "kid": "interrupted"}
    assert (tmp_path / "out" / "report.html").is_file()


# Two runs of the real program: what it does with its streams and signals is done before anything is imported.
TINY = {
    "WEIGHTS": "tiny", "MODELS": "pixart", "NUM_SAMPLES": "2", "NUM_REFERENCES": "40", "PIXART_STEPS": "2",
    "WARMUP": "0", "METRICS": "psnr",
}  # fmt: skip
PROGRAM = [sys.executable, str(Path(run_inference.__file__))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_stdout_and_a_closed_stderr_cost_neither_results_nor_status(tmp_path: Path) -> None:
    environment = os.environ | TINY | {"OUTPUT_DIR": str(tmp_path)}
    del environment["BRIGHT_LEVEL"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(PROGRAM, env=environment, stdout=full, preexec_fn=lambda: os.close(2), check=False)
    assert done.returncode == 0
    assert read_results(tmp_path / "results.json").models[0].images == 2
    assert len(list((tmp_path / "PixArt" / "output").glob("*.png"))) == 2


def test_sigterm_while_the_program_generates_prints_the_table_and_ends_with_143(tmp_path: Path) -> None:
    environment = os.environ | TINY | {"OUTPUT_DIR": str(tmp_path), "NUM_SAMPLES": "4000"}
    del environment["BRIGHT_LEVEL"]
    process = subprocess.Popen(
        PROGRAM, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    second = tmp_path / "PixArt" / "output" / "00001.png"
    deadline = time.monotonic() + 120
    while not second.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.terminate()
    printed, told = process.communicate(timeout=120)
    assert process.returncode == 143, told
    assert printed.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
    assert "Interrupted" in printed
    assert "Traceback" not in told


def test_a_report_that_cannot_be_written_costs_no_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    real = Flat.generate

    def obstruct(self: Flat, requests: Sequence[Request]) -> torch.Tensor:
        (out / "samples.png").mkdir(exist_ok=True)  # after the check that no such name is taken
        return real(self, requests)

    monkeypatch.setattr(Flat, "generate", obstruct)
    assert run_inference.main([]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("COMPREHENSIVE BENCHMARK RESULTS\n")
    assert "samples.png: failed: " in printed
    assert str(out / "samples.png") in read_results(out / "results.json").failures["samples.png"]
    assert "samples.png: failed: " in (out / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ["all well", "one batch", "a model fails", "interrupted", "no sheet"])
def test_results_json_prints_the_table_of_the_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    out = tmp_path / "out"
    real = Flat.generate

    def generate(self: Flat, requests: Sequence[Request]) -> torch.Tensor:
        if case == "interrupted" and requests[0].index == 1:
            signal.raise_signal(signal.SIGINT)
        if case == "no sheet":
            (out / "samples.png").mkdir(exist_ok=True)
        return real(self, requests)

    monkeypatch.setattr(Flat, "generate", generate)
    monkeypatch.setenv("METRICS", "psnr,kid,fidelity")
    monkeypatch.setenv("FLAT_BREAKS", "1" if case == "a model fails" else "0")
    run_inference.main(["--num-samples", "1"] if case == "one batch" else [])
    printed = capsys.readouterr().out
    assert printed == format_report(read_results(out / "results.json")) + "\n"
    expected = {"a model fails": "Flat: failed", "interrupted": "Interrupted", "no sheet": "samples.png: failed"}
    assert expected.get(case, "Quality Winner: ") in printed


def test_an_image_that_changed_is_named_and_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main([]) == 0
    image = tmp_path / "out" / "Flat" / "output" / "00000.png"
    whole = image.read_bytes()
    image.write_bytes(b"damaged")
    capsys.readouterr()
    assert run_inference.main([]) == 0
    assert "00000.png changed since this program wrote it" in capsys.readouterr().err
    assert image.read_bytes() == whole


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


def test_a_damaged_fingerprint_is_named_and_written_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main([]) == 0
    mark = tmp_path / "out" / "Flat" / "fingerprint.json"
    whole = mark.read_bytes()
    mark.write_text("{")
    assert run_inference.main([]) == 0
    assert "fingerprint.json is damaged" in capsys.readouterr().err
    assert mark.read_bytes() == whole


def test_a_folder_that_cannot_be_told_any_more_costs_its_column_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main([]) == 0
    (tmp_path / "out" / "Flat" / "fingerprint.json").write_text("{")
    with (tmp_path / "out" / "Flat" / "timings.jsonl").open("a") as file:
        file.write("{}\n")
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "Flat").rglob("*.*")}
    capsys.readouterr()
    assert run_inference.main([]) == 1
    printed = capsys.readouterr().out
    assert "Speed Winner: Bright (the only model)" in printed
    assert "Flat: failed: " in printed
    assert {path: path.read_bytes() for path in (tmp_path / "out" / "Flat").rglob("*.*")} == before


def test_an_output_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("OUTPUT_DIR", str(tmp_path / "file" / "out"))
    assert run_inference.main([]) == 2
    assert "OUTPUT_DIR=" in capsys.readouterr().err


def test_an_image_that_does_not_decode_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    mine = tmp_path / "mine"
    mine.mkdir()
    for index in range(3):
        Image.new("RGB", (64, 64), (40 * index, 0, 0)).save(mine / f"{index}.png")
        (mine / f"{index}.txt").write_text(f"image {index}")
    (mine / "1.png").write_bytes(b"not an image")
    monkeypatch.setenv("DATASET", str(mine))
    assert run_inference.main([]) == 0
    assert "1 of 3 rows have no image that decodes" in capsys.readouterr().out
