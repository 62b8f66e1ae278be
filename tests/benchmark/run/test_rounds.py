"""Rounds through the whole program: which processes time what, in which order, and what more rounds add."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import models
import run_inference
from benchmark.report.results import read_results
from benchmark.run import rounds
from benchmark.run.bulk import BulkJob
from benchmark.run.rounds import in_order
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option


@dataclass(frozen=True)
class NoOptions:
    level: int = option(0, "unused")


LOADED: list[str] = []  # the names of the models in the order in which they were loaded
CALLS: dict[str, list[list[int]]] = {}
PREPARED: dict[str, list[int]] = {}  # for how many requests each process of a model was prepared


class Noise(ImageGenerator):
    """Draws noise from each request's seed; "Moody" draws other noise in each process that loads it."""

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = name, 8, 1_000_000
        LOADED.append(name)
        self._offset = len(LOADED) if name == "Moody" else 0
        self._fails = name == "Broken" and LOADED.count("Broken") > 1
        self.mode = runtime.mode

    def prepare(self, requests: Sequence[Request]) -> list[Request]:
        PREPARED.setdefault(self.name, []).append(len(requests))
        return list(requests)

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        CALLS.setdefault(self.name, []).append([request.index for request in requests])
        if self._fails:
            raise RuntimeError("out of luck")
        draws = [torch.Generator().manual_seed(request.seed + self._offset) for request in requests]
        return torch.stack([torch.randint(0, 256, (3, 8, 8), generator=draw, dtype=torch.uint8) for draw in draws])


def family(name: str) -> ModelFamily:
    return ModelFamily(
        name.lower(), NoOptions, lambda _: name, lambda *_: "made up", lambda _, runtime: Noise(name, runtime)
    )


@pytest.fixture(autouse=True)
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, *map(family, ("One", "Two", "Moody", "Broken"))))
    LOADED.clear()
    CALLS.clear()
    PREPARED.clear()
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "one,two", "NUM_SAMPLES": "5", "NUM_REFERENCES": "6", "METRICS": "psnr",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "0", "ROUNDS": "3",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "out"


def lines(output: Path, column: str, kind: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (output / column / "timings.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def test_the_order_of_the_columns_is_reversed_from_round_to_round() -> None:
    assert run_inference.main([]) == 0
    assert LOADED == ["One", "Two", "Two", "One", "One", "Two"]


def test_no_column_always_has_the_same_place_in_a_round() -> None:
    orders = ["".join(in_order("ABC", number)) for number in range(6)]
    assert orders == ["ABC", "CBA", "BCA", "ACB", "CAB", "BAC"]


def test_every_round_times_the_same_requests_in_a_process_of_its_own(output: Path) -> None:
    assert run_inference.main(["--timed-samples", "4", "--batch-size", "2"]) == 0
    timed = lines(output, "One", "timed")
    assert [(line["round"], line["indices"]) for line in timed] == [
        (number, indices) for number in range(3) for indices in ([0, 1], [2, 3])
    ]
    assert len({line["process"] for line in timed}) == 3
    assert len(lines(output, "One", "loaded")) >= 3


def test_the_first_round_keeps_its_images_and_later_ones_are_compared_with_them(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main(["--models", "one,moody"]) == 0
    assert {line["round"] for line in lines(output, "One", "batch")} == {0}
    one, moody = read_results(output / "results.json").models
    assert [(found.equal, found.compared) for found in one.rounds] == [(0, 0), (5, 5), (5, 5)]
    assert [(found.equal, found.compared) for found in moody.rounds] == [(0, 0), (0, 5), (0, 5)]
    assert "0 of 10" in capsys.readouterr().out


def test_more_rounds_are_added_to_those_that_are_there_and_make_no_image(output: Path) -> None:
    assert run_inference.main([]) == 0
    before = {path: path.stat().st_mtime_ns for path in (output / "One" / "output").iterdir()}
    LOADED.clear()
    assert run_inference.main(["--rounds", "5"]) == 0
    assert LOADED == ["Two", "One", "One", "Two"], "rounds 4 and 5"
    assert {path: path.stat().st_mtime_ns for path in (output / "One" / "output").iterdir()} == before
    (one, _) = read_results(output / "results.json").models
    assert [found.number for found in one.rounds] == [0, 1, 2, 3, 4]
    assert len({process for found in one.rounds for process in found.processes}) == 5


def test_a_finished_run_loads_nothing_and_keeps_its_verdict(output: Path) -> None:
    assert run_inference.main([]) == 0
    first = read_results(output / "results.json")
    LOADED.clear()
    assert run_inference.main([]) == 0
    assert LOADED == []
    assert read_results(output / "results.json").verdicts == first.verdicts


def test_fewer_rounds_than_are_recorded_use_the_first_ones(output: Path) -> None:
    assert run_inference.main(["--rounds", "4"]) == 0
    (four, _) = read_results(output / "results.json").models
    LOADED.clear()
    assert run_inference.main(["--rounds", "3"]) == 0
    assert LOADED == []
    (three, _) = read_results(output / "results.json").models
    assert three.rounds == four.rounds[:3]


def test_a_verdict_after_more_rounds_is_a_later_look(output: Path) -> None:
    assert run_inference.main([]) == 0
    assert [model.looks for model in read_results(output / "results.json").models] == [(), ()]
    first = next(one for one in read_results(output / "results.json").verdicts if one.question == "speed")
    assert run_inference.main(["--rounds", "4"]) == 0
    second = next(one for one in read_results(output / "results.json").verdicts if one.question == "speed")
    assert [model.looks for model in read_results(output / "results.json").models] == [(3,), (3,)]
    assert (first.confidence, second.confidence) == (0.96, 0.99)


def test_images_beyond_the_timed_ones_are_made_in_bulk(output: Path) -> None:
    assert run_inference.main(["--timed-samples", "2", "--bulk-batch-size", "2"]) == 0
    assert [(line["purpose"], line["indices"], line["batch_size"]) for line in lines(output, "One", "batch")] == [
        ("timed", [0], 1), ("timed", [1], 1), ("bulk", [2, 3], 2), ("bulk", [4], 2)
    ]  # fmt: skip
    assert {line["indices"][0] for line in lines(output, "One", "timed")} == {0, 1}
    (one, _) = read_results(output / "results.json").models
    assert one.bulk is not None
    assert (one.images, one.timed_images, one.bulk.batch_sizes) == (5, 2, (2,))


def test_a_longer_run_adds_bulk_images_at_the_recorded_size_and_times_nothing(output: Path) -> None:
    given = ["--models", "one", "--timed-samples", "2", "--bulk-batch-size", "2"]
    assert run_inference.main(given) == 0
    LOADED.clear()
    assert run_inference.main([*given, "--num-samples", "7"]) == 0
    assert LOADED == ["One"], "for bulk alone"
    batches = lines(output, "One", "batch")
    assert [line["indices"] for line in batches if line["purpose"] == "bulk"] == [[2, 3], [4], [4, 5], [6]]
    assert len(lines(output, "One", "timed")) == 2 * 3


def test_other_timed_requests_are_another_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main(["--timed-samples", "2"]) == 0
    assert run_inference.main(["--timed-samples", "3"]) == 2
    assert "made with TIMED_SAMPLES=2, now TIMED_SAMPLES=3" in capsys.readouterr().err


def test_a_column_that_fails_in_a_round_costs_no_other_and_has_no_more_rounds(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main(["--models", "broken,one"]) == 1
    assert LOADED == ["Broken", "One", "One", "Broken", "One"]
    told = capsys.readouterr()
    assert "Broken: failed: RuntimeError: out of luck (round 2 of 3)" in told.out
    assert "Broken: 1 of 3 rounds complete" in told.out, "what there is of it is shown"
    broken, one = read_results(output / "results.json").models
    assert [len(broken.rounds), len(one.rounds)] == [1, 3]


def test_a_lost_image_is_made_again_by_the_first_round_alone(output: Path) -> None:
    assert run_inference.main(["--models", "one"]) == 0
    (output / "One" / "output" / "00001.png").unlink()
    LOADED.clear()
    CALLS.clear()
    assert run_inference.main(["--models", "one"]) == 0
    assert LOADED == ["One"]
    assert CALLS["One"][1:] == [[1]], "after the first call, which is never timed"
    (one,) = read_results(output / "results.json").models
    assert len(one.rounds[0].processes) == 2


def test_a_round_that_was_cut_short_is_completed_by_another_process(output: Path) -> None:
    assert run_inference.main(["--models", "one"]) == 0
    journal = output / "One" / "timings.jsonl"
    kept = [
        line
        for line in journal.read_text().splitlines(keepends=True)
        if '"round": 2' not in line or '"indices": [0]' in line
    ]
    journal.write_text("".join(kept))
    LOADED.clear()
    assert run_inference.main(["--models", "one"]) == 0
    assert LOADED == ["One"]
    (one,) = read_results(output / "results.json").models
    assert [found.complete for found in one.rounds] == [True, True, True]


def test_what_a_lost_line_told_of_a_process_is_told_again_and_its_calls_stay(output: Path) -> None:
    assert run_inference.main(["--models", "one"]) == 0
    (whole,) = read_results(output / "results.json").models
    journal = output / "One" / "timings.jsonl"
    journal.write_text("".join(
        line for line in journal.read_text().splitlines(keepends=True)
        if not ('"kind": "loaded"' in line and '"round": 1' in line)
    ))  # fmt: skip
    LOADED.clear()
    CALLS.clear()
    assert run_inference.main(["--models", "one"]) == 0
    assert (LOADED, CALLS["One"]) == (["One"], [[0]]), "the first call alone"
    (one,) = read_results(output / "results.json").models
    assert one.latencies_s == whole.latencies_s
    assert [found.processes for found in one.rounds] == [found.processes for found in whole.rounds]
    assert [found.complete for found in one.rounds] == [True, True, True]


def test_a_first_run_knows_what_its_rounds_took_when_it_makes_the_rest(
    monkeypatch: pytest.MonkeyPatch, output: Path
) -> None:
    found: list[BulkJob] = []
    monkeypatch.setattr(rounds, "make_bulk", lambda job, *_: found.append(job))
    assert run_inference.main(["--models", "one", "--timed-samples", "2"]) == 0
    (job,) = found
    assert 0 < job.image_s < 10
    assert job.first_call_s > 0
    assert output.is_dir()


def test_one_round_alone_is_no_look(output: Path) -> None:
    assert run_inference.main(["--rounds", "1", "--metrics", "kid"]) == 0
    assert not (output / "One" / "timings-looks.jsonl").exists()


def test_another_bulk_batch_size_is_refused_where_there_are_images_in_bulk(
    output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--models", "one", "--timed-samples", "2"]
    assert run_inference.main([*given, "--num-samples", "2", "--bulk-batch-size", "4"]) == 0
    assert run_inference.main([*given, "--bulk-batch-size", "2"]) == 0, "there was none yet"
    LOADED.clear()
    assert run_inference.main([*given, "--num-samples", "9", "--bulk-batch-size", "3"]) == 2
    assert "made with BULK_BATCH_SIZE=2, now BULK_BATCH_SIZE=3: set it back" in capsys.readouterr().err
    assert LOADED == []
    assert {line["batch_size"] for line in lines(output, "One", "batch")} == {1, 2}


def test_a_round_is_prepared_for_its_own_requests_whatever_the_length_of_the_run() -> None:
    assert run_inference.main(["--models", "one", "--timed-samples", "2"]) == 0
    assert run_inference.main(["--models", "one", "--timed-samples", "2", "--num-samples", "9", "--rounds", "4"]) == 0
    assert PREPARED["One"] == [2, 2, 2, 5, 2, 9], "three rounds, bulk, a round, bulk"


def test_a_round_knows_in_which_run_it_was_timed(output: Path) -> None:
    assert run_inference.main(["--models", "one"]) == 0
    assert run_inference.main(["--models", "one", "--rounds", "5"]) == 0
    (one,) = read_results(output / "results.json").models
    sessions = [found.sessions for found in one.rounds]
    assert sessions[0] == sessions[1] == sessions[2] != sessions[3] == sessions[4]


def test_models_that_an_interrupted_run_did_not_come_to_are_named_and_nothing_is_won(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def generate(noise: Noise, requests: Sequence[Request], own: Any = Noise.generate) -> torch.Tensor:
        if len(CALLS.get("One", ())) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        images: torch.Tensor = own(noise, requests)
        return images

    monkeypatch.setattr(Noise, "generate", generate)
    assert run_inference.main([]) == 143
    told = capsys.readouterr().out
    assert "Speed Winner: none (Two has 0 of 3 rounds)" in told
    assert "\nTwo: not started\n" in told
