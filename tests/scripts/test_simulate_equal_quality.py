"""The simulation of equal quality decides as the benchmark does, and its scores have the spread that they are given."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmark.report.equal_quality import find_equal_quality
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.results import RunResult, write_results
from metrics.base import Score
from metrics.replicates import score_difference
from scripts.measuring import simulate_equal_quality as simulation
from scripts.measuring.simulate_verdicts import SHAPES

NOISE = simulation.Noise(0.001, 0.5, 0.0005, 0.9, 0.002)


def column_of(at: int, score: Score) -> ModelResult:
    rounds = tuple(Round(number, ("0",), (10.0 / (at + 1),), 1, True, 0, 0, 0.0, 0.0, 0.0, True) for number in range(4))
    return ModelResult(
        str(at), "eager", 10**6, 64, 1, 1, 1, rounds, None, (), "", model="one", options={"STEPS": str(at)},
        scores=(replace(score, floor=0.0, floor_interval=(-NOISE.floor, NOISE.floor)),),
    )  # fmt: skip


def test_the_simulation_decides_as_the_benchmark_does() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for case in simulation.CASES.values():
        for _ in range(25):
            scores = simulation.draw_scores([NOISE.margin * worse for worse in case], NOISE, SHAPES["normal"], random)
            answer, judged = simulation.judge_run(scores, NOISE.margin)
            (found,) = find_equal_quality([column_of(at, score) for at, score in enumerate(scores)], 4)
            assert found.margin == pytest.approx(NOISE.margin)
            assert {each.name: each.quality.outcome for each in found.alternatives} == {
                str(at): each.outcome for at, each in judged.items() if str(at) != found.best
            }
            if found.outcome in ("FOUND", "BEST"):
                assert str(answer) == (found.chosen or found.best)
            seen.add(found.outcome)
    assert seen >= {"FOUND", "UNDECIDED"}


def test_scores_have_the_spread_and_the_correlation_that_were_asked_for() -> None:
    random = np.random.default_rng(1)
    for name in simulation.SHAPE_NAMES:
        runs = [simulation.draw_scores((0.0, 0.0), NOISE, SHAPES[name], random) for _ in range(4000)]
        values = np.array([[score.value for score in scores] for scores in runs])
        expected = (NOISE.generated**2 + NOISE.reference**2) ** 0.5
        assert values.mean() == pytest.approx(0.0, abs=expected / 20)
        assert values.std(axis=0) == pytest.approx(expected, rel=0.1)
        differences = [score_difference(scores[0], scores[1]) for scores in runs]
        true = (2 * (0.5 * NOISE.generated**2 + 0.1 * NOISE.reference**2)) ** 0.5
        assert (values[:, 0] - values[:, 1]).std() == pytest.approx(true, rel=0.1)
        squares = statistics.fmean(found.standard_error**2 for found in differences if found is not None)
        assert squares**0.5 == pytest.approx(true, rel=0.1), "the jackknife finds it"


def test_the_noise_of_a_run_is_read_from_its_results(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    scores = simulation.draw_scores((0.0,) * 12, NOISE, SHAPES["normal"], random)
    models = tuple(column_of(at, score) for at, score in enumerate(scores))
    run = RunResult(
        models, {}, "robots", "", 256, 4, "a CPU", "float32", "tiny", {}, {}, "2026-01-01", "timed"
    )  # fmt: skip
    write_results(run, tmp_path / "results.json")
    found = simulation.measured_noise(tmp_path / "results.json")
    assert (found.floor, found.images, found.groups) == (NOISE.floor, 256, 20)
    assert found.generated == pytest.approx(NOISE.generated, rel=0.35)
    assert found.reference_correlation == pytest.approx(0.9, abs=0.1)
    write_results(replace(run, models=models[:1]), tmp_path / "one.json")
    with pytest.raises(ValueError, match="two columns with intervals"):
        simulation.measured_noise(tmp_path / "one.json")


def test_the_kernel_distance_that_is_worse_by_the_margin_is_hardly_ever_called_equal() -> None:
    found = simulation.estimator_error(30, 64, 80, 0)
    assert found["margin"] > 0
    assert found["called_equal"] <= 0.1


def test_the_script_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulation.main(["--tiny", "--runs", "3", "--output", str(tmp_path / "x.json")]) == 0
    figures = json.loads((tmp_path / "x.json").read_text())
    assert {row["noise"] for row in figures["errors"]} >= {"as measured", "correlation 0.9"}
    assert all(0 <= rate["called_equal"] <= 1 for row in figures["errors"] for rate in row["cases"].values())
    assert "called equal in at most" in capsys.readouterr().out
    with pytest.raises(ValueError, match="--runs 0"):
        simulation.main(["--runs", "0", "--output", str(tmp_path / "x.json")])
