"""Confidence intervals against published quantiles and by their coverage."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from metrics.base import Score
from metrics.intervals import mean_interval, mean_replicates
from metrics.replicates import difference_interval, jackknife_interval, proportion_interval, student_t_975


@pytest.mark.parametrize(("degrees", "published"), [(4, 2.776), (5, 2.571), (10, 2.228), (19, 2.093), (100, 1.984)])
def test_student_quantile_agrees_with_the_published_table(degrees: int, published: float) -> None:
    assert student_t_975(degrees) == pytest.approx(published, rel=3e-4)


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
    found, expected = jackknife_interval(float(values.mean()), {"x": replicates.tolist()}), mean_interval(values)
    assert found is not None
    assert expected is not None
    assert math.isclose(found[0], expected[0], rel_tol=1e-9)
    assert math.isclose(found[1], expected[1], rel_tol=1e-9)


def _score(values: Tensor, identity: str = "x") -> Score:
    return Score(
        "x", "X", "X", float(values.mean()), "lower", len(values), 0, identity, mean_interval(values),
        mean_replicates(values),
    )  # fmt: skip


def test_what_two_models_share_does_not_blur_their_difference() -> None:
    """Both are asked the same: difficult requests are so for both."""
    generator = torch.Generator().manual_seed(2)
    difficulty = 10 * torch.randn(400, generator=generator)
    one, other = (difficulty + 0.1 * torch.randn(400, generator=generator) + shift for shift in (0.0, 0.2))
    interval = difference_interval(_score(one), _score(other))
    assert interval is not None
    assert -0.25 < interval[0] < -0.2 < interval[1] < -0.15
    alone = mean_interval(one)
    assert alone is not None
    assert alone[1] - alone[0] > 1


def test_the_interval_of_a_difference_covers_it_in_nine_of_ten_trials() -> None:
    generator = torch.Generator().manual_seed(3)
    covered = 0
    for _ in range(200):
        shared = torch.randn(60, generator=generator)
        one, other = (shared + torch.randn(60, generator=generator) + shift for shift in (0.0, 0.5))
        interval = difference_interval(_score(one), _score(other))
        assert interval is not None
        covered += interval[0] < -0.5 < interval[1]
    assert covered >= 180


def test_scores_of_other_samples_have_no_known_difference() -> None:
    one = _score(torch.randn(30))
    assert difference_interval(one, replace(one, replicates={})) is None
    assert difference_interval(one, replace(one, replicates={"generated": (1.0, 2.0)})) is None
