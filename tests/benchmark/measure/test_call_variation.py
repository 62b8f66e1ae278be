"""The variation from call to call is that of single calls, and a steady drift does not count into it."""

from __future__ import annotations

import random

import pytest

from benchmark.measure.call_variation import call_variation


def test_independent_calls_have_the_coefficient_of_variation_they_are_drawn_with() -> None:
    draw = random.Random(0)
    calls_s = [draw.gauss(2.0, 0.2) for _ in range(4000)]
    assert call_variation(calls_s) == pytest.approx(0.1, rel=0.05)


def test_a_process_that_grows_steadily_slower_has_no_variation() -> None:
    assert call_variation([1.0 + 0.25 * number for number in range(9)]) == 0.0


def test_it_does_not_depend_on_the_unit() -> None:
    assert call_variation([1000.0, 1200.0, 900.0]) == pytest.approx(call_variation([1.0, 1.2, 0.9]))


def test_two_calls_say_nothing_of_how_calls_vary() -> None:
    assert call_variation([1.0, 2.0]) is None
    assert call_variation([]) is None
