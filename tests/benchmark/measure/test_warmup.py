"""When a model counts as warm, by a clock that says how long each call takes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from benchmark.measure import warmup
from benchmark.measure.warmup import WarmUp, warm_up


def warmed(seconds: Iterable[float], least: int) -> WarmUp:
    calls = iter(seconds)
    return warm_up(lambda: next(calls), least)


def test_it_ends_once_three_calls_in_a_row_agree() -> None:
    assert warmed([9.0, 0.3, 0.2, 0.1, 0.1, 0.101, 0.1], 3) == WarmUp((9.0, 0.3, 0.2, 0.1, 0.1, 0.101), True)


def test_the_first_call_of_the_process_is_never_among_those_that_agree() -> None:
    assert len(warmed(itertools.repeat(1.0), 3).seconds) == 1 + warmup.LAST_CALLS


@pytest.mark.parametrize(("last_s", "agree"), [(1.20, True), (1.25, False)])
def test_calls_agree_up_to_ten_percent_of_variation(last_s: float, agree: bool) -> None:
    found = warmed([5.0, 1.0, 1.0, last_s, *itertools.repeat(1.0, 20)], 1)
    assert (len(found.seconds) == 4) == agree


def test_at_least_the_calls_that_were_asked_for_are_made() -> None:
    assert len(warmed(itertools.repeat(1.0), 7).seconds) == 7


def test_zero_means_the_first_call_alone() -> None:
    assert warmed([4.0, 1.0], 0) == WarmUp((4.0,), True)


def test_calls_that_never_agree_end_after_a_bounded_number() -> None:
    found = warmed(itertools.cycle([0.1, 0.2]), 3)
    assert len(found.seconds) == warmup.MOST_CALLS
    assert not found.agreed


def test_more_calls_than_the_bound_are_made_where_they_were_asked_for() -> None:
    found = warmed(itertools.cycle([0.1, 0.2]), 20)
    assert len(found.seconds) == 20
    assert not found.agreed


def test_calls_that_do_not_agree_end_by_time() -> None:
    found = warmed(itertools.cycle([2.0, 1.0]), 3)
    assert sum(found.seconds[1:-1]) < warmup.MOST_SECONDS <= sum(found.seconds[1:])
    assert not found.agreed


def test_long_calls_are_as_many_as_were_asked_for_and_may_agree() -> None:
    assert warmed(itertools.repeat(100.0), 3) == WarmUp((100.0,) * 3, True)
    assert warmed([9.0, 100.0, 150.0], 3) == WarmUp((9.0, 100.0, 150.0), False)
    assert len(warmed(itertools.repeat(2.5), 10).seconds) == 10


def test_the_time_of_the_first_call_which_compiles_is_not_counted() -> None:
    assert len(warmed([1000.0, 1.0, 1.0, 1.0], 3).seconds) == 4


def test_calls_of_no_length_agree() -> None:
    assert warmed(itertools.repeat(0.0), 1).agreed


def test_it_stops_when_it_is_told_to() -> None:
    made: list[float] = []

    def call() -> float:
        made.append(1.0)
        return 1.0

    assert warm_up(call, 5, stopped=lambda: len(made) == 2).seconds == (1.0, 1.0)
