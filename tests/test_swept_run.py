"""A run with SWEEP: its columns, what is made again, which of them winner lines compare, and a list of dtypes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import models
import run_inference
from benchmark.report.results import RunResult, read_results
from models.base import ImageGenerator, ModelFamily, Request, Runtime


@dataclass(frozen=True)
class NoOptions:
    """A model without a choice."""


class Grey(ImageGenerator):
    def __init__(self, _: NoOptions, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = "Grey", runtime.image_size, 1_000_000

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), 128, dtype=torch.uint8)


GREY = ModelFamily("grey", NoOptions, lambda _: "Grey", lambda *_: "made up", Grey)


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, GREY))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "sdxl,grey", "NUM_SAMPLES": "2", "NUM_REFERENCES": "4", "METRICS": "psnr",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "1", "SDXL_STEPS": "2",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "out"


def run(output: Path, *arguments: str) -> RunResult:
    assert run_inference.main(list(arguments)) == 0
    return read_results(output / "results.json")


def written(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.glob("SDXL*/output/*.png")}


def test_a_sweep_makes_what_is_not_there_and_compares_the_defaults(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(output, "--models", "sdxl")
    assert [(model.name, model.is_default) for model in plain.models] == [("SDXL", True)]
    swept = run(output, "--sweep", "sdxl.steps=1,2")
    assert [(model.name, model.model, model.is_default) for model in swept.models] == [
        ("SDXL (steps 1)", "SDXL", False), ("SDXL (steps 2)", "SDXL", True), ("Grey", "Grey", True),
    ]  # fmt: skip
    assert [Path(model.folder).name for model in swept.models] == ["SDXL-steps-1", "SDXL", "Grey"]
    assert swept.models[1].rounds == plain.models[0].rounds, "of the plain run"
    assert {name for verdict in swept.verdicts for name in verdict.ranked} == {"SDXL (steps 2)", "Grey"}
    printed = capsys.readouterr().out
    assert "SDXL (steps 1)       SDXL (steps 2)       Grey" in printed
    assert "Winner lines compare" not in printed

    before = written(output)
    more = run(output, "--sweep", "sdxl.steps=1,4", "--models", "sdxl")
    assert {path: at for path, at in written(output).items() if path in before} == before
    assert {path.parts[-3] for path in written(output).keys() - before.keys()} == {"SDXL-steps-4"}
    assert more.models[0].rounds == swept.models[0].rounds
    assert [model.is_default for model in more.models] == [True, False]
    assert more.notes == ("Winner lines compare SDXL at steps 1: SWEEP lacks the run's own steps 2",)
    assert more.notes[0] in capsys.readouterr().out.splitlines()


def test_check_lists_the_columns_of_a_sweep_and_what_is_left(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(output, "--models", "sdxl")
    capsys.readouterr()
    assert run_inference.main(["--check", "--models", "sdxl", "--sweep", "sdxl.steps=2,8", "--num-samples", "3"]) == 0
    told = capsys.readouterr().out
    assert "SDXL (steps 2): " in told
    assert "; 2 images already there, of 3" in told
    assert "; 0 images already there, of 3" in told
    assert (
        "left to do: 4 images and 2 timed rounds, less than a minute for the 1 column with records; 1 has none" in told
    )
    assert not (output / "SDXL-steps-8").exists()


def test_dtypes_have_columns_and_winners_of_their_own(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(output, "--models", "sdxl", "--dtype", "float32,bfloat16")
    assert [(model.name, model.axes["DTYPE"], model.is_default) for model in found.models] == [
        ("SDXL (float32)", "float32", True), ("SDXL (bfloat16)", "bfloat16", True),
    ]  # fmt: skip
    assert (found.dtype, found.settings["DTYPE"]) == ("float32, bfloat16", "float32,bfloat16")
    assert [verdict.group for verdict in found.verdicts] == ["float32"] * 3 + ["bfloat16"] * 3
    printed = capsys.readouterr().out
    assert "Speed Winner [bfloat16]: SDXL (bfloat16) (the only model)" in printed
    assert ", float32, bfloat16; " in next(line for line in printed.splitlines() if line.startswith("Device: "))
    assert not any(model.name in found.failures for model in found.models)
    # A plain run in one of them finds its column.
    alone = run(output, "--models", "sdxl", "--dtype", "bfloat16")
    assert alone.models[0].folder == found.models[1].folder
