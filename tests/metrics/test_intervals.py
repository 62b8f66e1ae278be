"""Confidence intervals against published quantiles and by their coverage."""

from __future__ import annotations

import math

import pytest
import torch

from metrics.intervals import jackknife_interval, mean_interval, proportion_interval, student_t_975


@pytest.mark.parametrize(("degrees", "published"), [(4, 2.776), (5, 2.571), (10, 2.228), (19, 2.093), (100, 1.984)])
def test_student_quantile_agrees_with_the_published_table(degrees: int, published: float) -> None:
    assert student_t_975(degrees) == pytest.approx(published, rel=2e-3)


def test_mean_interval_covers_the_truth_in_nineteen_of_twenty_trials() -> None:
    generator = torch.Generator().manual_seed(0)
    trials = [mean_interval(torch.randn(12, generator=generator) + 3.0) for _ in range(600)]
    covered = sum(trial is not None and trial[0] < 3.0 < trial[1] for trial in trials)
    assert 0.92 <= covered / 600 <= 0.98


def test_mean_of_four_values_has_no_interval() -> None:
    assert mean_interval(torch.arange(4.0)) is None


def test_wilson_interval_keeps_its_width_at_a_perfect_score() -> None:
    low, high = proportion_interval(1.0, 20)
    assert high == pytest.approx(1.0)
    assert low == pytest.approx(1 / (1 + 1.96**2 / 20), abs=1e-3)


def test_jackknife_of_a_mean_is_the_standard_interval() -> None:
    values = torch.randn(20, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    replicates = (values.sum() - values) / 19
    low, high = jackknife_interval(float(values.mean()), [replicates])
    expected = mean_interval(values)
    assert expected is not None
    assert math.isclose(low, expected[0], rel_tol=1e-9)
    assert math.isclose(high, expected[1], rel_tol=1e-9)
