"""The stages of the embedded VAR are measured, and each of its scales; watched and unwatched calls take turns."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean, median

import pytest
import torch

from benchmark.measure.clock import Clock
from benchmark.measure.findings import Stages
from models.base import ImageGenerator, Mode, Request, Stage, StageWatch
from models.stages import inside
from scripts.measuring import measure_stages
from scripts.measuring.measure_stages import Turns, take_turns


def measure(output: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["measure_stages.py", "--tiny", *arguments, "--output", str(output)])
    for name, value in {"MODELS": "var", "MODE": "eager", "DEVICE": "cpu", "BATCH_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    assert measure_stages.main() == 0


def test_each_scale_is_printed_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "stages.json"
    measure(output, monkeypatch, "--repeats", "2")
    (column,) = json.loads(output.read_text())["columns"]
    backbone, decoder = column["stages"]
    assert (backbone["calls"], len(backbone["call_seconds"])) == (8, 8)
    assert (decoder["calls"], len(decoder["call_seconds"])) == (1, 1)
    assert column["watched_calls"] == 2
    assert column["ratio"] == (backbone["seconds"] + decoder["seconds"]) / column["unwatched_seconds"]
    whole, scales = capsys.readouterr().out.splitlines()
    assert "; backbone " in whole
    assert "sum / latency " in whole
    assert scales.startswith("  backbone, 8 calls, ms: ")
    assert len(scales.removeprefix("  backbone, 8 calls, ms: ").split()) == 8


def test_calls_that_take_turns_are_recorded_with_the_error_of_their_ratio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "stages.json"
    measure(output, monkeypatch, "--repeats", "4", "--seconds", "60")
    (column,) = json.loads(output.read_text())["columns"]
    assert column["watched_calls"] == len(column["sums_s"]) == len(column["unwatched_s"]) == 4
    assert column["ratio"] == pytest.approx(fmean(column["sums_s"]) / fmean(column["unwatched_s"]))
    assert column["ratio_of_medians"] == median(column["sums_s"]) / median(column["unwatched_s"])
    assert 0 < column["ratio_error"] < 1
    assert "(4 calls each)" in capsys.readouterr().out


class Calls(ImageGenerator):
    """Notes which of its calls were watched: "w"."""

    name, image_size, parameters = "calls", 8, 1

    def __init__(self) -> None:
        self.made = ""
        self.watch: StageWatch | None = None

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        self.made += "w" if self.watch else "."
        with inside(self.watch, "backbone"):
            return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)

    def stages(self) -> tuple[Stage, ...]:
        return (Stage("backbone", 1),)

    @contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        self.watch = watch
        yield
        self.watch = None


@pytest.mark.parametrize(("mode", "made"), [("eager", "w..ww..w"), ("compiled", "ww..wwww..ww")])
def test_pairs_of_calls_begin_with_either_kind_in_turn(mode: Mode, made: str) -> None:
    calls = Calls()
    turns = take_turns(calls, [Request(0, "a", 0)], Clock("cpu"), 1.0, 60.0, 4, mode)
    assert calls.made == made
    assert turns.stages.watched_calls == len(turns.sums_s) == len(turns.unwatched_s) == 4


def test_a_standard_error_needs_three_pairs_however_short_the_time() -> None:
    assert take_turns(Calls(), [Request(0, "a", 0)], Clock("cpu"), 1.0, 1e-9, 9, "eager").stages.watched_calls == 3


def test_what_drifts_for_both_kinds_is_no_error_of_their_ratio() -> None:
    stages = Stages((), 1.0, 1.0, 1.0, 4, 1)
    drifting = (1.0, 2.0, 3.0, 4.0)
    assert Turns(stages, drifting, drifting).ratio_error == 0.0
    # Differences of -1, 1, -1 and 1 have the deviation 2 / sqrt(3); the mean of four, half of it; over a mean of 2.5.
    noisy = Turns(stages, (2.0, 1.0, 4.0, 3.0), drifting)
    assert noisy.ratio_error == pytest.approx(2 / 3**0.5 / 2 / 2.5)


def test_a_call_that_the_host_delayed_does_not_move_the_ratio_of_medians() -> None:
    assert Turns(Stages((), 1.0, 1.0, 1.0, 3, 1), (1.0, 1.0, 9.0), (1.0, 1.0, 1.0)).ratio_of_medians == 1.0
