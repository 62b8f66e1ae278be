"""The three outcomes on quality: the interval of the difference near 0, off 0, or neither."""

from __future__ import annotations

from dataclasses import replace

import pytest
from report_cases import PIXART, SDXL, VAR, with_scores

from benchmark.report.model_result import ModelResult
from benchmark.report.verdicts import Verdict, decide, format_verdict


def kernel_column(model: ModelResult, value: float, spread: float) -> ModelResult:
    """Return the model with a KID of 64 images whose replicates lie this far apart."""
    (kernel,) = (score for score in with_scores(model, 64, value).scores if score.key == "kid")
    replicates = tuple(value + spread * (i % 5 - 2) for i in range(20))
    return replace(model, scores=(replace(kernel, replicates={"generated": replicates}),))


def quality_of(*models: ModelResult) -> Verdict:
    return decide(models, 4)[1]


def test_a_difference_that_is_surely_within_three_percent_is_a_tie_even_where_its_interval_excludes_0() -> None:
    verdict = quality_of(kernel_column(SDXL, 0.3003, 0.0), kernel_column(VAR, 0.3, 0.0))
    assert (verdict.outcome, verdict.rule, verdict.winner) == ("TIE", "tie", "")
    assert verdict.interval == pytest.approx((-0.0003, -0.0003))
    assert format_verdict(verdict) == (
        "Quality Winner: none (VAR-d16 and SDXL tie: KID lower by 0.0003, 0.0003..0.0003)"
    )


def test_a_wide_interval_that_holds_0_is_undecided_and_its_line_is_not_that_of_a_tie() -> None:
    verdict = quality_of(kernel_column(SDXL, 0.3003, 0.0), kernel_column(VAR, 0.3, 0.01))
    assert (verdict.outcome, verdict.rule) == ("UNDECIDED", "within noise")
    assert format_verdict(verdict) == "Quality Winner: none (VAR-d16's KID lower by 0.0003, within noise: undecided)"


def test_a_difference_of_more_than_three_percent_off_0_is_a_win() -> None:
    verdict = quality_of(kernel_column(SDXL, 0.31, 0.0), kernel_column(VAR, 0.3, 0.0))
    assert (verdict.outcome, verdict.winner) == ("WIN", "VAR-d16")


def test_a_kid_near_0_ties_with_no_one_within_noise_and_identical_images_always_tie() -> None:
    near = [kernel_column(SDXL, 0.0001, 0.0), kernel_column(VAR, -0.0001, 0.0004)]
    assert quality_of(*near).outcome == "UNDECIDED"
    for value in (0.0, -0.0001, 0.3):
        one = kernel_column(SDXL, value, 0.01)
        same = quality_of(one, replace(one, name="Same"))
        assert (same.outcome, same.rule, same.interval) == ("TIE", "same value", (0.0, 0.0))
        assert format_verdict(same) == "Quality Winner: none (SDXL and Same have the same KID)"


def test_scores_that_are_equal_by_chance_are_no_tie() -> None:
    verdict = quality_of(kernel_column(SDXL, 0.3, 0.0), kernel_column(VAR, 0.3, 0.01))
    assert (verdict.outcome, verdict.difference) == ("UNDECIDED", 0.0)


def test_a_winner_on_quality_beats_every_other_column_not_the_closest_alone() -> None:
    close, noisy = kernel_column(PIXART, 0.32, 0.0), kernel_column(SDXL, 0.33, 0.05)
    verdict = quality_of(kernel_column(VAR, 0.3, 0.0), close, noisy)
    assert (verdict.outcome, verdict.rule, verdict.runner_up) == ("UNDECIDED", "within noise", "SDXL")
    assert "VAR-d16's KID lower by 0.0300 than SDXL, within noise: undecided" in format_verdict(verdict)
    assert [(pair.first, pair.second, pair.outcome) for pair in verdict.pairs] == [
        ("VAR-d16", "PixArt", "WIN"), ("VAR-d16", "SDXL", "UNDECIDED"), ("PixArt", "SDXL", "UNDECIDED"),
    ]  # fmt: skip
