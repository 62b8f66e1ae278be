"""The gate of a comparison: its thresholds, Holm's intervals, what it finds and how seldom it is wrong."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from benchmark.report.comparison.estimates import Estimate, compare_latencies
from benchmark.report.comparison.gate import ERROR_RATE, Thresholds, ask_gate, default_margin
from benchmark.report.comparison.rows import Row

LEVEL = ERROR_RATE / 2


def latency(value: float, error: float = 0.001, degrees: float = 10, column: str = "SDXL") -> Row:
    estimate = Estimate(math.log(value), error, error, degrees)
    return Row(column, "latency", "Latency (s/image)", "lower", 1.0, value, change=value, estimate=estimate)


def score(value: float, error: float = 0.0001, figure: str = "kid", **changes: object) -> Row:
    estimate = Estimate(value, error, error, 19)
    row = Row("SDXL", figure, figure.upper(), "lower", 0.0, value, change=value, estimate=estimate)
    return replace(row, floor_interval=(-0.001, 0.001), **changes)  # type: ignore[arg-type]


def results(rows: list[Row], thresholds: Thresholds | None = None, deciding: str = "kid") -> list[str]:
    return [test.result for test in ask_gate(rows, thresholds or Thresholds(), deciding).tests]


def test_a_slowdown_fails_only_where_its_whole_interval_lies_beyond_the_threshold() -> None:
    assert [results([latency(value, 0.01)])[0] for value in (1.0, 1.03, 1.04, 1.06, 0.5)] == [
        "PASSED", "UNDECIDED", "UNDECIDED", "FAILED", "PASSED",
    ]  # fmt: skip
    assert results([latency(1.06, 0.01)], Thresholds(slower=0.05)) == ["UNDECIDED"]
    assert results([latency(1.06, 0.001)], Thresholds(slower=0.05)) == ["FAILED"]


def test_one_test_alone_goes_by_the_95_percent_interval_that_its_row_shows() -> None:
    row = latency(1.05, 0.01)
    assert row.estimate is not None
    (test,) = ask_gate([row], Thresholds(), "").tests
    assert test.confidence == 0.95
    assert test.interval == pytest.approx(row.estimate.ratios())
    assert test.threshold == pytest.approx(1.03)


def test_the_tests_that_fail_are_those_of_holms_procedure() -> None:
    draw = random.Random(3)
    for _ in range(300):
        rows = [latency(math.exp(draw.gauss(0.05, 0.03)), 0.01, column=str(place)) for place in range(6)]
        chances = sorted((row.estimate.chance_within(math.log1p(0.03)), row.column) for row in rows if row.estimate)
        rejected = set()
        for place, (chance, column) in enumerate(chances):
            if chance >= LEVEL / (len(rows) - place):
                break
            rejected.add(column)
        gate = ask_gate(rows, Thresholds(), "")
        assert {test.column for test in gate.tests if test.result == "FAILED"} == rejected
        for test in gate.tests:  # the result is what the interval says
            assert (test.interval[0] > test.threshold) is (test.result == "FAILED")
            assert (test.interval[1] <= test.threshold) is (test.result == "PASSED")


def test_of_many_equal_columns_the_gate_fails_in_at_most_five_percent_even_with_no_slowdown_allowed() -> None:
    draw = random.Random(5)
    cases, failed = 1500, 0
    for _ in range(cases):
        rows = []
        for place in range(4):
            old, new = ([math.exp(draw.gauss(0, 0.05)) for _ in range(4)] for _ in range(2))
            rows.append(replace(latency(1.0, column=str(place)), estimate=compare_latencies(old, new)))
        failed += ask_gate(rows, Thresholds(slower=0.0), "").failed
    assert failed <= 0.05 * cases


def test_a_planted_slowdown_of_5_percent_is_found_by_six_rounds_that_differ_by_under_half_a_percent() -> None:
    draw = random.Random(7)
    found = 0
    for _ in range(200):
        old, new = ([factor * math.exp(draw.gauss(0, 0.004)) for _ in range(6)] for factor in (1.0, 1.05))
        row = replace(latency(1.05), estimate=compare_latencies(old, new))
        found += ask_gate([row], Thresholds(), "").failed
    assert found >= 198


def test_a_score_is_gated_by_twice_the_half_width_of_the_interval_of_its_floor() -> None:
    assert default_margin(score(0.0)) == pytest.approx(0.002)
    assert [results([score(value)])[0] for value in (0.003, 0.002, 0.001, -0.01)] == [
        "FAILED", "UNDECIDED", "PASSED", "PASSED",
    ]  # fmt: skip


def test_a_score_of_which_more_is_better_is_worse_where_it_fell() -> None:
    assert results([score(-0.003, better="higher")]) == ["FAILED"]
    assert results([score(0.003, better="higher")]) == ["PASSED"]
    (test,) = ask_gate([score(-0.003, better="higher")], Thresholds(), "kid").tests
    assert test.change == pytest.approx(0.003), "worse by so much"


def test_without_a_margin_a_score_is_not_gated_and_the_gate_says_how_to() -> None:
    gate = ask_gate([replace(score(0.5), floor_interval=None)], Thresholds(), "kid")
    assert (gate.tests, gate.failed) == ((), False)
    assert [left.reason for left in gate.not_gated] == ["its margin is not known; --worse kid=VALUE gives one"]
    for interval in ((0.0, 0.0), (math.nan, 1.0)):
        assert default_margin(replace(score(0.5), floor_interval=interval)) is None, "0 would gate at every breath"


def test_a_given_margin_goes_before_the_runs_own_and_that_before_the_floors() -> None:
    def threshold(thresholds: Thresholds, margin: float | None) -> tuple[float, bool]:
        (test,) = ask_gate([score(0.5)], thresholds, "kid", margin).tests
        return test.threshold, test.is_default

    assert threshold(Thresholds(worse={"": 0.3}), 0.1) == (0.3, False)
    assert threshold(Thresholds(worse={"kid": 0.3}), 0.1) == (0.3, False)
    assert threshold(Thresholds(), 0.1) == (0.1, False)
    assert threshold(Thresholds(), None) == (pytest.approx(0.002), True)


def test_a_threshold_for_a_score_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match=r"--worse fid=\.\.\.: no run has such a score; there are kid"):
        ask_gate([score(0.1)], Thresholds(worse={"fid": 1.0}), "kid")
    with pytest.raises(ValueError, match="no score decides in both runs; name one"):
        ask_gate([score(0.1)], Thresholds(worse={"": 1.0}), "")


def test_speed_and_scores_can_be_left_out_of_the_gate() -> None:
    rows = [latency(2.0), score(0.5)]
    assert results(rows) == ["FAILED", "FAILED"]
    assert results(rows, Thresholds(slower=None, gate_scores=False)) == []
    reasons = [left.reason for left in ask_gate(rows, Thresholds(None, gate_scores=False), "kid").not_gated]
    assert reasons == ["--slower none", "--worse none"]


def test_a_row_without_an_interval_is_not_gated_for_its_reason() -> None:
    row = replace(latency(2.0), estimate=None, reason="two cards")
    gate = ask_gate([row], Thresholds(), "")
    assert [left.reason for left in gate.not_gated] == ["two cards"]
    assert not gate.failed
