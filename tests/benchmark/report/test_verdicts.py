"""Who wins, by how much, and where there is no winner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from report_cases import PIXART, SDXL, VAR, column, fid, with_scores

from benchmark.report.model_result import ModelResult
from benchmark.report.verdicts import decide, format_verdict


def name_winners(models: Sequence[ModelResult]) -> list[str]:
    return [format_verdict(verdict) for verdict in decide(models, 4)]


def test_a_winner_among_three_names_the_runner_up() -> None:
    lines = name_winners([SDXL, VAR, PIXART])
    assert lines[0] == "Speed Winner: VAR-d16 (1.1x faster than PixArt)"
    assert lines[1] == "Quality Winner: VAR-d16 (FID lower by 0.2 than PixArt)"


def test_efficiency_is_throughput_per_parameter() -> None:
    assert abs(VAR.efficiency - (1 / 1.89) / 310) < 1e-12


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12.796, "PixArt (FID lower by 0.004 than VAR-d16)"), (12.8, "none (VAR-d16 and PixArt have the same FID)")],
)
def test_a_small_gap_is_told_with_its_digits_and_none_at_all_is_no_win(value: float, expected: str) -> None:
    close = column("PixArt", 2.10, 0.10, 610.9, value)
    assert name_winners([SDXL, VAR, close])[1] == f"Quality Winner: {expected}"


def test_scores_of_different_counts_have_no_winner() -> None:
    fewer = replace(VAR, scores=(replace(fid(1.0), n_generated=10),))
    assert name_winners([SDXL, fewer])[1].startswith("Quality Winner: none")


def test_few_images_are_judged_by_kid_and_the_line_says_so() -> None:
    lines = name_winners([with_scores(SDXL, 64, 0.0321), with_scores(VAR, 64, 0.0300)])
    assert lines[1] == "Quality Winner: VAR-d16 (KID lower by 0.0021; FID is biased at N=64)"


def test_a_difference_within_noise_wins_nothing() -> None:
    noisy = with_scores(SDXL, 64, 0.0012)
    (kernel,) = (score for score in with_scores(PIXART, 64, 0.0).scores if score.key == "kid")
    apart = replace(kernel, replicates={"generated": tuple(0.002 * (i % 3 - 1) for i in range(20))})
    lines = name_winners([noisy, replace(PIXART, scores=(replace(fid(20.0), n_generated=64), apart))])
    assert lines[1] == (
        "Quality Winner: none (PixArt's KID lower by 0.0012, within noise: undecided; FID is biased at N=64)"
    )


def test_fid_of_enough_images_decides_even_where_kid_is_there() -> None:
    models = [with_scores(SDXL, 2048, 0.1), with_scores(VAR, 2048, 0.2)]
    better = replace(models[1], scores=(replace(models[1].scores[0], value=18.0), models[1].scores[1]))
    assert name_winners([models[0], better])[1] == "Quality Winner: VAR-d16 (FID lower by 2.0)"


def test_biased_fid_alone_names_no_winner() -> None:
    models = [replace(model, scores=(replace(fid(20.0), n_generated=64),)) for model in (SDXL, VAR)]
    assert name_winners(models)[1] == "Quality Winner: none (FID is biased at N=64; add kid to METRICS)"


def test_kid_of_too_few_images_names_no_winner() -> None:
    models = []
    for model, value in ((SDXL, 0.3), (VAR, 0.1)):
        (kernel,) = (score for score in with_scores(model, 4, value).scores if score.key == "kid")
        models.append(replace(model, scores=(replace(kernel, replicates={}, interval=None),)))
    assert name_winners(models)[1] == "Quality Winner: none (VAR-d16's KID lower by 0.2000, of too few images to tell)"


def test_a_model_with_a_warning_wins_no_quality() -> None:
    models = [with_scores(SDXL, 64, 0.0321), replace(with_scores(VAR, 64, 0.0300), warnings=("copies",))]
    assert "none (VAR-d16 scores best, but it has a warning, see below" in name_winners(models)[1]


def test_a_lone_model_with_a_warning_wins_no_quality() -> None:
    model = replace(with_scores(VAR, 64, 0.0300), warnings=("trained on 3 of the 3 reference rows",))
    assert "none (VAR-d16 is the only model with a score, but it has a warning" in name_winners([model])[1]


def test_winners_are_named_within_one_mode() -> None:
    compiled = [replace(model, mode="compiled", name=f"{model.name} (compiled)") for model in (SDXL, VAR)]
    lines = name_winners([SDXL, VAR, *compiled])
    assert lines[0] == "Speed Winner [eager]: VAR-d16 (1.8x faster)"
    assert lines[3] == "Speed Winner [compiled]: VAR-d16 (compiled) (1.8x faster)"


def test_a_verdict_holds_what_its_line_says() -> None:
    speed, quality, efficiency = decide([with_scores(SDXL, 64, 0.0321), with_scores(VAR, 64, 0.0300), PIXART], 4)
    assert (speed.question, quality.question, efficiency.question) == ("speed", "quality", "efficiency")
    assert (speed.outcome, speed.winner, speed.runner_up) == ("WIN", "VAR-d16", "PixArt")
    assert speed.ratio == pytest.approx(2.10 / 1.89)
    assert speed.ranked == ("VAR-d16", "PixArt", "SDXL")
    assert (quality.outcome, quality.rule, quality.metric, quality.better) == ("WIN", "better figure", "kid", "lower")
    assert (quality.winner, quality.runner_up) == ("VAR-d16", "SDXL")
    assert quality.difference == pytest.approx(-0.0021)
    assert quality.interval == pytest.approx((-0.0021, -0.0021))
    assert quality.biased == "FID is biased at N=64"


def test_a_tie_has_no_winner_and_names_both_columns() -> None:
    same = replace(VAR, name="Same")
    verdict = decide([VAR, same], 4)[1]
    assert (verdict.outcome, verdict.rule, verdict.winner, verdict.ranked) == (
        "TIE", "same value", "", ("VAR-d16", "Same"),
    )  # fmt: skip


def test_without_references_no_quality_winner_is_named_and_the_line_says_why() -> None:
    reasons = {"match": "captions do not fix an image", "fid": "no reference images", "kid": "no reference images"}
    models = [replace(model, scores=(), unscored=reasons) for model in (SDXL, VAR)]
    assert name_winners(models)[1] == "Quality Winner: n/a (no reference images)"
    assert decide(models, 4)[1].outcome == "UNDECIDED"


def test_a_score_that_is_no_number_takes_no_part() -> None:
    broken = replace(VAR, scores=(replace(fid(1.0), value=math.nan),))
    assert name_winners([SDXL, broken])[1] == "Quality Winner: SDXL (the only model with a score)"
