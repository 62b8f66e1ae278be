"""Intervals of ratios over rounds, and what they decide."""

from __future__ import annotations

import math

import pytest

from benchmark.report.latency_ratios import (
    LogRatio,
    confidence_at,
    log_ratio,
    look_of,
    rounds_needed,
    student_t,
    t_interval,
)


@pytest.mark.parametrize(
    ("confidence", "degrees", "published"),
    [(0.95, 2, 4.303), (0.95, 3, 3.182), (0.96, 3, 3.482), (0.99, 3, 5.841), (0.99, 7, 3.499), (0.95, 100, 1.984)],
)
def test_student_quantiles_are_those_of_the_published_tables(confidence: float, degrees: int, published: float) -> None:
    assert student_t(confidence, degrees) == pytest.approx(published, abs=6e-4)


def test_the_ratio_is_the_geometric_mean_of_the_ratios_of_each_round() -> None:
    ratio = log_ratio([2.0, 8.0, 4.0], [1.0, 1.0, 1.0])
    assert math.exp(ratio.mean) == pytest.approx(4.0)
    assert ratio.spread == pytest.approx(math.log(2))
    low, high = ratio.interval(0.95)
    assert math.log(high / 4.0) == pytest.approx(4.303 * math.log(2) / math.sqrt(3), rel=1e-3)
    assert low * high == pytest.approx(16.0)


def test_the_interval_of_a_mean_is_that_of_the_same_numbers_as_logs() -> None:
    ratio = log_ratio([1.0, 1.2, 1.1], [1.0, 1.0, 1.0])
    low, high = t_interval([0.0, math.log(1.2), math.log(1.1)], 0.96)
    assert (math.exp(low), math.exp(high)) == pytest.approx(ratio.interval(0.96))


def test_what_changes_from_round_to_round_for_both_columns_cancels() -> None:
    assert log_ratio([2.0, 6.0, 10.0], [1.0, 3.0, 5.0]).spread == pytest.approx(0.0, abs=1e-12)


def test_a_tie_is_tested_before_a_win() -> None:
    surely_close, surely_apart = LogRatio(math.log(1.02), 0.001, 4), LogRatio(math.log(1.04), 0.001, 4)
    assert surely_close.interval(0.96)[0] > 1, "it would be a win"
    assert (surely_close.outcome(0.96), surely_apart.outcome(0.96)) == ("TIE", "WIN")
    assert LogRatio(math.log(1.02), 0.02, 4).outcome(0.96) == "UNDECIDED"


@pytest.mark.parametrize(("ratio", "expected"), [(1.0, "TIE"), (1.02, "TIE"), (1.031, "WIN"), (5.0, "WIN")])
def test_latencies_without_any_spread_are_decided(ratio: float, expected: str) -> None:
    found = log_ratio([ratio] * 4, [1.0] * 4)
    assert found.outcome(0.96) == expected
    assert found.interval(0.95) == pytest.approx((ratio, ratio))


def test_a_spread_beyond_all_measure_has_an_interval_of_floats() -> None:
    assert all(map(math.isfinite, log_ratio([1e-300, 1e300, 1.0], [1e300, 1e-300, 1.0]).interval(0.99)))


def test_the_first_look_is_at_96_percent_and_each_after_a_look_at_other_rounds_at_99() -> None:
    assert look_of(4) == look_of(4, (), (4,)) == look_of(4, (4, 8), ()) == 1
    assert look_of(8, (4,), ()) == look_of(8, (), (4, 8)) == look_of(8, (4,), (4,)) == 2
    assert look_of(12, (4, 8), (8,)) == 3
    assert [confidence_at(look) for look in (1, 2, 3)] == [0.96, 0.99, 0.99]


@pytest.mark.parametrize("asked", [(4, 8, 4), (8, 4, 8), (8, 4, 12, 4, 8)])
def test_fewer_rounds_after_more_are_a_second_look_and_the_same_rounds_again_are_the_same_look(
    asked: tuple[int, ...],
) -> None:
    recorded: list[int] = []
    looks = []
    for rounds in asked:
        looks.append(look_of(rounds, tuple(recorded)))
        if rounds not in recorded:
            recorded.append(rounds)
    assert looks == [1 + recorded.index(rounds) for rounds in asked]
    assert looks[:2] == [1, 2]


@pytest.mark.parametrize("ratio", [LogRatio(0.1, 0.15, 4), LogRatio(0.001, 0.03, 4), LogRatio(0.02, 0.03, 4)])
def test_the_rounds_that_would_decide_are_the_fewest_that_do(ratio: LogRatio) -> None:
    needed = rounds_needed([ratio], 4)
    assert needed is not None
    assert ratio.after(needed).outcome(0.99) != "UNDECIDED"
    assert all(ratio.after(rounds).outcome(0.99) == "UNDECIDED" for rounds in range(5, needed))


def test_the_number_of_rounds_is_that_of_the_slowest_pair_unless_the_closest_ties_before() -> None:
    close, wide = LogRatio(0.1, 0.05, 4), LogRatio(0.12, 0.2, 4)
    assert rounds_needed([close], 4) == 6
    assert rounds_needed([close, wide], 4) == rounds_needed([wide], 4) == 23
    tie = LogRatio(0.001, 0.03, 4)
    assert rounds_needed([tie, wide], 4) == rounds_needed([tie], 4) == 7


def test_more_than_a_hundred_rounds_are_not_counted() -> None:
    assert rounds_needed([LogRatio(0.029, 0.5, 4)], 4) is None


def test_rounds_on_which_a_ratio_does_not_rest_are_needed_besides() -> None:
    assert rounds_needed([LogRatio(0.1, 0.05, 4)], 8) == 6 + 4
    assert rounds_needed([LogRatio(0.1, 0.05, 4), LogRatio(0.12, 0.2, 8)], 8) == 23
