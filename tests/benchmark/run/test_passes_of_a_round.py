"""Passes follow the timed calls of a round: what is recorded of them, what a failure costs, what the result holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from noise_model import Noise, time_slices

from benchmark.measure import passes
from benchmark.measure.findings import PASSES, Energy, Finding, Memory, NotMeasured, Roofline
from benchmark.run import worker
from models.base import ImageGenerator

ENERGY = Energy(3.5, 100.0, 5.0, 70.0, 40.0, "counter")
MEMORY = Memory(10, 20, "call", False)
ROOFLINE = Roofline(1e12, 1e9, 1e14, 1e12, "float32")


def replace_passes(monkeypatch: pytest.MonkeyPatch, **found: Callable[[ImageGenerator], Any]) -> None:
    """Let each pass give what its function returns for the model."""
    table = {name: (lambda model, _, __, find=find: find(model)) for name, find in found.items()}
    monkeypatch.setattr(passes, "_PASSES", passes._PASSES | table)


def test_passes_follow_the_timed_calls_and_know_round_and_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Noise()
    calls: list[int] = []

    def find(_: ImageGenerator) -> Energy:
        calls.append(len(generator.calls))
        return ENERGY

    replace_passes(monkeypatch, energy=find)
    found = time_slices(tmp_path, generator, range(0, 2), range(2, 4), batch_size=2, round_=1, passes=("energy",))
    assert calls == [3], "one untimed call, two timed ones"
    (measured,) = found.measured
    assert measured.finding == ENERGY
    assert (measured.round, measured.process) == (1, found.timed[0].process)
    assert [state.edge for state in found.states] == ["start", "end"]
    assert {state.process for state in found.states} == {measured.process}


def test_a_pass_that_fails_costs_no_other_and_its_reason_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: ImageGenerator) -> Energy:
        raise RuntimeError("CUDA error:\n the card fell off")

    def no_stages(_: ImageGenerator) -> Energy:
        raise NotMeasured("the model does not tell its stages apart")

    replace_passes(monkeypatch, memory=lambda _: MEMORY, stages=no_stages, energy=fail)
    found = time_slices(tmp_path, Noise(), range(0, 1), passes=("energy", "memory", "stages"))
    assert {line.name: line.finding or line.reason for line in found.measured} == {
        "memory": MEMORY, "stages": "the model does not tell its stages apart",
        "energy": "RuntimeError: CUDA error: the card fell off",
    }  # fmt: skip
    assert "the card fell off" in capsys.readouterr().err, "an unexpected error shows where it arose"
    assert len(found.timed) == 1


def test_a_round_without_slices_or_that_was_stopped_has_no_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_passes(monkeypatch, memory=lambda _: MEMORY)
    assert time_slices(tmp_path / "none", Noise(), passes=("memory",)).measured == ()
    generator = Noise()
    stopped = time_slices(
        tmp_path / "stopped", generator, range(0, 1), range(1, 2), passes=("memory",),
        stopped=lambda: len(generator.calls) > 1,
    )  # fmt: skip
    assert len(stopped.timed) == 1
    assert stopped.measured == ()


def test_what_a_stopped_pass_found_is_not_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_stopped = []

    def find(_: ImageGenerator) -> Memory:
        is_stopped.append(True)
        return MEMORY

    replace_passes(monkeypatch, memory=find, stages=find)
    found = time_slices(
        tmp_path, Noise(), range(0, 1), passes=("memory", "stages"), stopped=lambda: bool(is_stopped)
    )  # fmt: skip
    assert found.measured == ()
    assert len(is_stopped) == 1


def test_a_compiled_models_operations_are_counted_on_an_eager_one_after_it_was_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, eager, order = Noise(), Noise(), []

    def load_eager() -> Noise:
        order.append("eager is loaded")
        return eager

    def find(name: str, finding: Finding) -> Callable[[ImageGenerator], Finding]:
        def found(model: ImageGenerator) -> Finding:
            order.append(f"{name} of {'eager' if model is eager else 'compiled'}")
            return finding

        return found

    monkeypatch.setattr(worker.Clock, "release_memory", lambda _: order.append("released"))
    replace_passes(monkeypatch, memory=find("memory", MEMORY), roofline=find("roofline", ROOFLINE))
    time_slices(tmp_path, compiled, range(0, 1), passes=PASSES[1:2] + PASSES[3:], load_eager=load_eager)
    assert order == ["released", "memory of compiled", "released", "eager is loaded", "roofline of eager", "released"]


def test_an_eager_models_operations_are_counted_on_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, seen = Noise(), []
    replace_passes(monkeypatch, roofline=lambda model: seen.append(model) or ROOFLINE)
    time_slices(tmp_path, generator, range(0, 1), passes=("roofline",))
    assert seen == [generator]
    assert generator.loads == 1


def test_on_a_cpu_memory_and_energy_say_that_there_is_no_gpu(tmp_path: Path) -> None:
    found = time_slices(tmp_path, Noise(), range(0, 2), batch_size=2, passes=("memory", "energy", "stages"))
    assert {line.name: line.reason for line in found.measured} == {
        "memory": "no GPU", "energy": "no GPU", "stages": "the model does not tell its stages apart",
    }  # fmt: skip


def test_every_pass_is_known_to_the_runner_and_has_its_place() -> None:
    assert set(passes._PASSES) == set(passes.ORDER) == set(PASSES)
    assert passes.ORDER[0] == "memory", "what stages capture for themselves would count into it"
