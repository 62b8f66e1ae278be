"""The frontier of cost and quality: who is on it, and whom another dominates."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from costs_cases import energy, with_findings
from report_cases import with_rounds
from sweep_cases import configuration, pixart, sweep_of

from benchmark.measure.findings import Findings
from benchmark.report.frontier import Frontier, find_frontier
from benchmark.report.model_result import ModelResult
from benchmark.report.results import read_results, write_results


def frontier_of(*columns: ModelResult, rounds: int = 4) -> Frontier:
    found = find_frontier(columns, rounds)
    assert found is not None
    return found


def on_it(*columns: ModelResult) -> list[str]:
    return [point.configuration for point in frontier_of(*columns).points if point.on_frontier]


def with_energy(column: ModelResult, *joules: float) -> ModelResult:
    """Return the column with the energy of its first and its last round."""
    first, last = (Findings(energy=energy(each)) for each in joules)
    return with_findings(column, [first, Findings(), Findings(), last])


def test_what_is_slower_and_worse_is_dominated_and_what_is_faster_or_better_is_not() -> None:
    columns = [
        *pixart([2.0, 1.0], [0.001, 0.006]), configuration("SDXL", 3.0, 0.003, number=3),
        configuration("VAR-d16", 0.5, 0.02, number=4),
    ]  # fmt: skip
    points = {point.configuration: point for point in frontier_of(*columns).points}
    assert on_it(*columns) == ["PixArt at 20 steps", "PixArt at 12 steps", "VAR-d16"]
    assert points["SDXL"].dominated_by == "PixArt (steps 20)"
    assert points["PixArt at 12 steps"].dominated_by == ""


def test_a_difference_within_its_interval_dominates_no_one() -> None:
    assert len(on_it(*pixart([1.0, 2.0], [0.001, 0.0015], spread=0.0005))) == 2
    assert len(on_it(*pixart([1.0, 2.0], [0.001, 0.0025], spread=0.0005))) == 1
    slow, fast = pixart([1.05, 1.0], [0.01, 0.001])
    assert on_it(slow, fast) == ["PixArt at 12 steps"]
    assert len(on_it(with_rounds(slow, 0.9, 1.2, 1.0, 1.1), fast)) == 2, "whether it is slower is not known"


def test_a_column_without_a_complete_round_dominates_no_one() -> None:
    slow, fast = pixart([2.0, 1.0], [0.01, 0.001])
    partial = replace(fast, rounds=tuple(replace(made, complete=False) for made in fast.rounds))
    assert on_it(slow, fast) == ["PixArt at 12 steps"]
    assert [point.on_frontier for point in frontier_of(slow, partial).points] == [None, True]


def test_whether_a_column_is_dominated_by_one_of_another_run_is_not_known() -> None:
    slow, fast = pixart([2.0, 1.0], [0.01, 0.001])
    later = replace(fast, rounds=tuple(replace(made, sessions=("later",)) for made in fast.rounds))
    first = replace(slow, rounds=tuple(replace(made, sessions=("first",)) for made in slow.rounds))
    assert [point.on_frontier for point in frontier_of(first, fast).points] == [False, True]
    assert [point.on_frontier for point in frontier_of(first, later).points] == [None, True]
    slower = replace(first, scores=fast.scores), replace(later, scores=slow.scores)
    assert [point.on_frontier for point in frontier_of(*slower).points] == [True, True], "it takes twice as long"


def test_of_columns_that_tie_on_speed_the_worse_one_is_dominated() -> None:
    both = [configuration("VAR-d16", 1.0, kid, options={"cfg": cfg}) for kid, cfg in ((0.02, 1.5), (0.01, 4.0))]
    both[1] = replace(both[1], scores=configuration("VAR-d16", 1.0, 0.01, number=1).scores)
    assert on_it(*both) == ["VAR-d16 at cfg 4.0"]


def test_a_column_is_dominated_by_the_best_of_those_that_are_as_fast() -> None:
    columns = pixart([1.0, 1.5, 2.0], [0.001, 0.006, 0.02])
    assert frontier_of(*columns).points[2].dominated_by == "PixArt (steps 20)"


def test_a_column_with_a_warning_dominates_no_one_and_is_not_on_the_frontier() -> None:
    best, other = pixart([1.0, 2.0], [0.001, 0.02])
    points = frontier_of(replace(best, warnings=("blank",)), other).points
    assert [(point.on_frontier, point.left_out) for point in points] == [(None, "warning"), (True, "")]
    found = find_frontier([best, other], 4, failed=[best.name])
    assert found is not None
    assert [(point.on_frontier, point.left_out) for point in found.points] == [(None, "failed"), (True, "")]


def test_figures_are_the_means_over_rounds_with_their_intervals() -> None:
    column = with_rounds(pixart([1.0], [0.001])[0], 1.0, 1.1, 1.2, 1.3)
    (point,) = frontier_of(column).points
    assert point.seconds_per_image == pytest.approx(1.15)
    half_width = 3.182446 * 0.129099 / 2  # Student's t with 3 degrees of freedom
    assert point.seconds_interval == pytest.approx((1.15 - half_width, 1.15 + half_width), rel=1e-5)
    assert (point.score, point.score_interval) == (0.001, (0.001 - 0.002, 0.001 + 0.002))
    assert (point.joules_per_image, point.on_energy_frontier) == (None, None)


def test_by_energy_the_frontier_is_that_of_joules() -> None:
    slow, fast = pixart([2.0, 1.0], [0.02, 0.001])
    points = frontier_of(with_energy(slow, 100.0, 102.0), with_energy(fast, 300.0, 310.0)).points
    assert [point.on_frontier for point in points] == [False, True]
    assert [point.on_energy_frontier for point in points] == [True, True]
    assert (points[0].joules_per_image, points[0].joules_range) == (101.0, (100.0, 102.0))
    worse = frontier_of(with_energy(slow, 320.0, 330.0), with_energy(fast, 300.0, 310.0)).points[0]
    assert (worse.on_energy_frontier, worse.energy_dominated_by) == (False, fast.name)
    overlapping = frontier_of(with_energy(slow, 305.0, 330.0), with_energy(fast, 300.0, 310.0)).points[0]
    assert overlapping.on_energy_frontier
    alike = frontier_of(with_energy(slow, 300.0, 301.0), with_energy(fast, 300.5, 302.0)).points[0]
    assert not alike.on_energy_frontier, "it needs as much, and is worse"


def test_too_few_rounds_say_nothing_of_the_frontier() -> None:
    columns = [with_rounds(column, 1.0, 1.1) for column in pixart([1.0, 2.0], [0.001, 0.02])]
    assert [point.on_frontier for point in frontier_of(*columns, rounds=2).points] == [None, None]


def test_scores_that_cannot_be_compared_have_no_frontier() -> None:
    one, other = pixart([1.0, 2.0], [0.001, 0.02])
    assert find_frontier([one, replace(other, scores=(replace(other.scores[0], identity="x"),))], 4) is None
    assert find_frontier([replace(one, scores=()), replace(other, scores=())], 4) is None
    assert find_frontier([], 4) is None
    points = frontier_of(one, replace(other, scores=())).points
    assert [(point.score, point.on_frontier) for point in points] == [(0.001, True), (None, None)]


def test_the_frontier_is_read_back_from_the_file(tmp_path: Path) -> None:
    columns = [with_energy(column, 100.0, 110.0) for column in pixart([2.0, 1.0, 0.5], [0.001, 0.006, 0.02])]
    run = sweep_of(*columns, frontier=find_frontier(columns, 4))
    write_results(run, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == run
