"""Passes through the whole program: which rounds have them, what another run adds, and what a worker's death costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import in_process
import pytest
import torch

import models
import run_inference
from benchmark.measure import passes
from benchmark.measure.findings import Energy, MachineState, Memory, Roofline
from benchmark.report.results import ModelResult, read_results
from benchmark.run import worker
from benchmark.run.servers import WorkerDied
from models.base import ImageGenerator, ModelFamily, Request, option

ROOFLINE = Roofline(1e12, 1e9, 1e14, 1e12, "float32")
MEMORY = Memory(10, 20, "call", False)
ENERGY = Energy(3.5, 100.0, 5.0, 70.0, 40.0, "counter")


@dataclass(frozen=True)
class NoOptions:
    level: int = option(0, "unused")


class Grey(ImageGenerator):
    """Makes grey images."""

    name, image_size, parameters = "Grey", 8, 1_000_000

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, 8, 8), 128, dtype=torch.uint8)


@pytest.fixture(autouse=True)
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    names = ("Grey", "Other")
    families = [
        ModelFamily(name.lower(), NoOptions, lambda _, name=name: name, lambda *_: "made up", lambda *_: Grey())  # type: ignore[misc]
        for name in names
    ]
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, *families))
    table: dict[str, Callable[..., Any]] = {"memory": lambda *_: MEMORY, "roofline": lambda *_: ROOFLINE}
    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | table)
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "grey", "NUM_SAMPLES": "3", "NUM_REFERENCES": "6", "METRICS": "psnr",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "0", "ROUNDS": "3", "PASSES": "memory,roofline",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "out"


def results(output: Path) -> tuple[ModelResult, ...]:
    return read_results(output / "results.json").models


def test_the_first_and_the_last_round_have_passes_and_one_counts_what_a_call_costs(output: Path) -> None:
    assert run_inference.main([]) == 0
    (model,) = results(output)
    assert [found.findings.memory for found in model.rounds] == [MEMORY, None, MEMORY]
    assert [found.findings.roofline for found in model.rounds] == [ROOFLINE, None, None]
    assert all(found.findings.unmeasured == {} for found in model.rounds)
    assert [len(found.states) for found in model.rounds] == [2, 2, 2]
    assert [set(found.findings.pass_seconds) for found in model.rounds] == [{"memory", "roofline"}, set(), {"memory"}]
    assert all(seconds > 0 for found in model.rounds for seconds in found.findings.pass_seconds.values())


def test_added_rounds_have_passes_too_and_those_that_were_timed_stay_as_they_are(output: Path) -> None:
    assert run_inference.main(["--passes", "none"]) == 0
    assert run_inference.main(["--rounds", "5"]) == 0
    (model,) = results(output)
    assert [found.findings.memory for found in model.rounds] == [None] * 3 + [MEMORY] * 2
    assert [found.findings.roofline for found in model.rounds] == [None] * 3 + [ROOFLINE, None]
    assert run_inference.main(["--rounds", "6"]) == 0
    (model,) = results(output)
    assert model.rounds[5].findings.memory == MEMORY
    assert model.rounds[5].findings.roofline is None, "it was counted before"


def test_the_idle_power_is_measured_once_for_a_column(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def energy(_: ImageGenerator, timing: passes.Timing, __: object) -> Energy:
        asked.append(timing.with_idle)
        return ENERGY

    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | {"energy": energy})
    assert run_inference.main(["--passes", "energy"]) == 0
    assert run_inference.main(["--passes", "energy", "--rounds", "4"]) == 0
    assert asked == [True, False, False]
    (model,) = results(output)
    assert [found.findings.energy for found in model.rounds] == [ENERGY, None, ENERGY, ENERGY]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("speed", "PASSES"),
        ("energy,energy", "PASSES=energy,energy: each pass at most once"),
        ("none,energy", "PASSES=none,energy: none must stand alone"),
        ("stages,all", "PASSES=stages,all: all must stand alone"),
    ],
)
def test_bad_passes_are_refused(value: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main(["--passes", value]) == 2
    assert told in capsys.readouterr().err


def test_a_worker_that_dies_in_a_pass_costs_the_pass_and_not_the_column(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die_after(server: in_process.InProcess, *given: Any, own: Any = in_process.InProcess.run) -> None:
        own(server, *given)
        raise WorkerDied("its process was killed by SIGSEGV")

    monkeypatch.setattr(passes, "ORDER", ("memory",))  # roofline was the one
    monkeypatch.setattr(in_process.InProcess, "run", die_after)
    assert run_inference.main([]) == 0
    (model,) = results(output)
    assert len(model.rounds) == 3
    assert model.rounds[0].findings.memory == MEMORY
    assert model.rounds[0].findings.unmeasured == {"roofline": "its process was killed by SIGSEGV"}
    told = capsys.readouterr().err
    assert (
        "Grey: its process was killed by SIGSEGV after its timed calls; what passes lack is n/a (round 1 of 3)" in told
    )


def test_a_worker_that_dies_before_its_round_is_complete_costs_the_column(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def die(*_: Any) -> None:
        raise WorkerDied("its process was killed by SIGKILL")

    monkeypatch.setattr(in_process.InProcess, "run", die)
    assert run_inference.main([]) == 1
    assert "Grey failed: its process was killed by SIGKILL (round 1 of 3)" in capsys.readouterr().err


def test_a_round_with_another_process_on_the_card_decides_nothing(
    output: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    class Reader:
        def __init__(self, _: str) -> None:
            seen.append("")

        def start(self, _: tuple[str, ...] = ()) -> MachineState:
            return MachineState(1.0, card_uuid="GPU-1")

        def end(self) -> MachineState:
            return MachineState(2.0, card_uuid="GPU-1", other_processes=("4711 python",) if len(seen) == 1 else ())

    monkeypatch.setattr(worker, "StateReader", Reader)
    assert run_inference.main(["--models", "grey,other"]) == 0
    grey, other = results(output)
    assert [found.counts for found in grey.rounds] == [False, True, True]
    assert all(found.counts for found in other.rounds)
    told = capsys.readouterr().out
    assert "4711 python" in told
    assert (
        "Speed Winner: none (Grey and Other have only 2 of 3 rounds in common without another process on the card; "
        "ROUNDS=4 would give enough)"
    ) in told.replace("Other and Grey", "Grey and Other")
