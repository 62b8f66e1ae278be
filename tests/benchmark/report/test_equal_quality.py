"""The fastest configuration of equal quality: what is found, and what the line says where it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import timed_round
from sweep_cases import MARGIN, configuration, kernel, pixart, sweep_of

from benchmark.report.equal_quality import (
    EqualQuality,
    find_equal_quality,
    images_to_tell,
    judge_all,
    margin_of,
)
from benchmark.report.equal_quality_text import equal_quality_lines
from benchmark.report.model_result import ModelResult
from benchmark.report.results import read_results, write_results
from benchmark.report.table import format_report
from metrics.replicates import Estimate


def answer(*columns: ModelResult, margin: float | str = "auto", rounds: int = 4) -> EqualQuality:
    return find_equal_quality(columns, rounds, margin)[0]  # type: ignore[arg-type]


def line(*columns: ModelResult, margin: float | str = "auto", rounds: int = 4) -> str:
    return equal_quality_lines([answer(*columns, margin=margin, rounds=rounds)])[0]


def test_the_fastest_of_those_as_good_as_the_best_is_chosen() -> None:
    columns = pixart([2.4, 1.5, 1.0, 0.5], [0.001, 0.0011, 0.0012, 0.02])
    found = answer(*columns)
    assert (found.outcome, found.chosen, found.best) == ("FOUND", "PixArt (steps 8)", "PixArt (steps 20)")
    assert found.margin == pytest.approx(MARGIN)
    assert [each.name for each in found.alternatives] == ["PixArt (steps 4)", "PixArt (steps 8)", "PixArt (steps 12)"]
    assert [each.quality.outcome for each in found.alternatives] == ["WORSE", "EQUAL", "EQUAL"]
    assert equal_quality_lines([found]) == [
        "Equal Quality: PixArt at 8 steps (2.4x faster than at 20; KID higher by 0.0002, -0.0008..0.0012)"
    ]


def test_a_score_that_is_worse_by_more_than_the_margin_is_not_as_good_however_small_the_difference() -> None:
    columns = pixart([2.0, 1.0], [0.001, 0.003], spread=0.0001)
    assert answer(*columns, margin=0.0025).chosen == "PixArt (steps 12)"
    assert answer(*columns, margin=0.0015).outcome == "WORSE"
    assert line(*columns, margin=0.0015) == (
        "Equal Quality: none (all that are faster than PixArt at 20 steps are worse: KID higher by 0.0020 or more, and "
        "the margin is 0.0015)"
    )


def test_an_interval_that_holds_the_margin_decides_nothing_and_the_line_says_how_many_images_would() -> None:
    columns = pixart([2.0, 1.0], [0.001, 0.003], spread=0.004)
    found = answer(*columns, margin=0.006)
    assert (found.outcome, found.chosen) == ("UNDECIDED", "")
    ((low, high),) = (each.quality.interval for each in found.alternatives if each.quality.interval)
    assert low < 0.006 < high
    expected = 256 * ((high - 0.002) / 0.004) ** 2
    assert found.images_needed == math.ceil(expected)
    assert 1000 < expected <= 1100
    assert equal_quality_lines([found]) == ["Equal Quality: none (undecided at N=256; about 1,100 images would decide)"]


def test_a_margin_that_shrinks_with_the_images_is_named_with_their_number() -> None:
    assert line(*pixart([2.0, 1.0], [0.001, 0.003], spread=0.004)) == (
        "Equal Quality: none (undecided at N=256; about 480 images would decide with QUALITY_MARGIN=0.008)"
    )


def test_so_many_images_as_the_line_names_do_decide_at_the_same_difference_and_spread() -> None:
    for difference in (0.002, 0.009):
        found = Estimate(difference, {"generated": 4e-6, "reference": 1e-7}, 19)
        needed = images_to_tell(found, 0.006, 256, 0.025)
        assert needed is not None
        for images, decides in ((needed, True), (round(0.95 * needed), False)):
            variances = {"generated": 4e-6 * 256 / images, "reference": 1e-7}
            low, high = replace(found, variances=variances).interval()
            assert (high <= 0.006 or low >= 0.006) is decides


def test_no_number_of_images_helps_where_the_reference_is_what_varies() -> None:
    assert images_to_tell(Estimate(0.002, {"generated": 1e-7, "reference": 4e-6}, 19), 0.006, 256, 0.025) is None
    assert images_to_tell(Estimate(0.006, {"generated": 1e-6}, 19), 0.006, 256, 0.025) is None
    columns = [
        replace(column, scores=(replace(score, replicates={"reference": score.replicates["generated"]}),))
        for column in pixart([2.0, 1.0], [0.001, 0.003], spread=0.004)
        for score in column.scores
    ]
    assert (
        line(*columns)
        == "Equal Quality: none (undecided at N=256; more generated and more reference images would be needed)"
    )


def test_the_best_is_named_where_no_other_is_faster() -> None:
    found = answer(*pixart([1.0, 1.5, 2.0], [0.001, 0.0012, 0.0012]))
    assert (found.outcome, found.best, found.alternatives) == ("BEST", "PixArt (steps 20)", ())
    assert equal_quality_lines([found]) == [
        "Equal Quality: PixArt at 20 steps (scores best, and no other is known to be faster; margin 0.008)"
    ]


def test_a_configuration_that_ties_on_speed_is_no_faster_one() -> None:
    assert answer(*pixart([1.0, 0.999], [0.001, 0.0012])).outcome == "BEST"


def test_a_speed_that_is_undecided_names_no_one_and_says_how_many_rounds_would() -> None:
    slow, fast = pixart([1.1, 1.0], [0.001, 0.0012])
    rounds = [timed_round(at, seconds) for at, seconds in enumerate((0.9, 1.2, 1.0, 1.1))]
    found = answer(slow, replace(fast, rounds=tuple(rounds)))
    assert found.outcome == "UNDECIDED"
    assert equal_quality_lines([found])[0].startswith(
        "Equal Quality: none (PixArt at 12 steps is as good; whether it is faster is undecided; about ROUNDS="
    )


def test_a_cheaper_one_that_is_as_good_and_was_timed_in_another_run_is_named_as_left_out() -> None:
    best, middle, least = pixart([3.0, 2.0, 1.0], [0.001, 0.0011, 0.0012])
    later = replace(least, rounds=tuple(replace(made, sessions=("later",)) for made in least.rounds))
    earlier = [
        replace(each, rounds=tuple(replace(made, sessions=("earlier",)) for made in each.rounds))
        for each in (best, middle)
    ]
    assert line(best, middle, least).startswith("Equal Quality: PixArt at 8 steps (3.0x faster than at 20; ")
    told = line(*earlier, later)
    assert told.startswith("Equal Quality: PixArt at 12 steps (1.5x faster than at 20; ")
    assert told.endswith("; left out: PixArt (steps 8) (timed in other runs))")


def test_columns_that_were_timed_in_different_runs_are_told_how_many_rounds_would_time_them_together() -> None:
    slow, fast = pixart([2.0, 1.0], [0.001, 0.0012])
    for together, which, rounds in ((0, "no round", 7), (2, "only 2 of 4 rounds", 5)):
        columns = [
            replace(column, rounds=tuple(
                replace(made, sessions=("same",) if made.number < together else (column.name,))
                for made in column.rounds
            ))
            for column in (slow, fast)
        ]  # fmt: skip
        assert line(*columns) == (
            "Equal Quality: none (PixArt at 12 steps is as good; whether it is faster is undecided: "
            f"{which} timed both undisturbed in the same run; ROUNDS={rounds} would time them together)"
        )


def test_scores_that_are_alike_to_the_last_digit_are_told_as_the_same() -> None:
    eager = configuration("SDXL", 3.8, 0.01)
    compiled = replace(configuration("SDXL", 2.0, 0.01, mode="compiled"), scores=eager.scores)
    assert answer(eager, compiled).outcome == "BEST", "of equal scores, the fastest is the best"
    worse = replace(compiled, scores=(replace(kernel(0.0101, 0.0), replicates={"generated": (0.0101,) * 20}),))
    exact = replace(eager, scores=(replace(kernel(0.0100, 0.0), replicates={"generated": (0.01,) * 20}),))
    assert line(exact, worse) == (
        "Equal Quality: SDXL compiled (1.9x faster than eager; KID higher by 0.0001, 0.0001..0.0001)"
    )


def against_best(**found: Estimate) -> dict[str, dict[str, Estimate | None]]:
    return {name: {"best": each} for name, each in found.items()}


def test_several_candidates_at_the_border_need_more_than_one_does() -> None:
    """One in forty is the chance to be wrong of any of them, not of each."""
    border = Estimate(0.0, {"generated": 1.0}, 19)
    margin = border.interval()[1] + 1e-9

    def outcomes(**found: Estimate) -> list[str]:
        return [each.outcome for each in judge_all(against_best(**found), "best", margin, 9).values()]

    assert outcomes(a=border) == ["EQUAL"]
    assert outcomes(a=border, b=border) == ["UNDECIDED", "UNDECIDED"]
    sure = Estimate(-9.0, {"generated": 1.0}, 19)  # leaves one to be tested
    assert outcomes(a=border, b=sure) == ["EQUAL", "EQUAL"]
    three = border.interval(1 - 2 * 0.025 / 3)[1]
    assert three > margin
    assert judge_all(against_best(a=border, b=border, c=border), "best", three + 1e-9, 9)["c"].outcome == "EQUAL"


def test_a_column_must_be_as_good_as_every_other_one_not_as_the_best_by_its_observed_score_alone() -> None:
    surely, hardly = Estimate(0.0, {"generated": 1e-8}, 19), Estimate(-0.001, {"generated": 1e-4}, 19)
    judged = judge_all({"a": {"best": surely, "noisy": hardly}}, "best", 0.01, 100)["a"]
    assert (judged.outcome, judged.interval) == ("UNDECIDED", surely.interval())
    assert judged.images_needed == images_to_tell(hardly, 0.01, 100, 0.025)
    assert judge_all({"a": {"best": surely, "noisy": surely}}, "best", 0.01, 100)["a"].outcome == "EQUAL"
    assert judge_all({"a": {"best": surely, "few images": None}}, "best", 0.01, 100)["a"].outcome == "UNDECIDED"


def test_the_best_by_its_observed_score_is_named_only_where_it_is_shown_to_be_as_good_as_all_others() -> None:
    found = answer(*pixart([1.0, 1.5, 2.0], [0.001, 0.0012, 0.0012], spread=0.006))
    assert (found.outcome, found.best) == ("UNDECIDED", "PixArt (steps 20)")
    assert equal_quality_lines([found])[0].startswith("Equal Quality: none (undecided at N=256; about ")


def test_a_warning_a_failure_and_missing_rounds_leave_a_column_out_and_the_line_says_so() -> None:
    twenty, twelve, eight, four = pixart([2.4, 1.5, 1.0, 0.5], [0.001, 0.0011, 0.0012, 0.0011])
    four = replace(four, warnings=("blank images",))
    eight = replace(eight, rounds=eight.rounds[:3])
    (found,) = find_equal_quality([twenty, twelve, eight, four], 4, failed=["other"])
    assert (found.chosen, dict(found.left_out)) == (
        "PixArt (steps 12)", {"PixArt (steps 8)": "rounds missing", "PixArt (steps 4)": "warning"},
    )  # fmt: skip
    (found,) = find_equal_quality([twenty, twelve, eight, four], 4, failed=[twelve.name])
    assert equal_quality_lines([found]) == [
        "Equal Quality: n/a (PixArt (steps 20) alone takes part; left out: PixArt (steps 12) (failed), "
        "PixArt (steps 8) (rounds missing), PixArt (steps 4) (warning))"
    ]


def test_the_best_cannot_be_a_column_with_a_warning() -> None:
    twenty, twelve, eight = pixart([2.4, 1.5, 1.0], [0.0001, 0.0011, 0.0012])
    found = answer(replace(twenty, warnings=("duplicates",)), twelve, eight)
    assert (found.best, found.chosen) == (twelve.name, eight.name)


def test_scores_of_other_sizes_or_kinds_are_not_compared() -> None:
    twenty, twelve = pixart([2.4, 1.5], [0.001, 0.0011])
    for change in ({"n_generated": 255}, {"identity": "other"}):
        other = replace(twelve, scores=(replace(twelve.scores[0], **change),))
        assert line(twenty, other) == (
            "Equal Quality: n/a (the scores are of different sizes or kinds and cannot be compared)"
        )


def test_what_cannot_be_asked_says_why() -> None:
    twenty, twelve = pixart([2.4, 1.5], [0.001, 0.0011])
    assert line(twenty, twelve, rounds=2) == "Equal Quality: n/a (2 rounds decide nothing: ROUNDS=3 or more)"
    no_floor = [replace(each, scores=(replace(each.scores[0], floor_interval=None),)) for each in (twenty, twelve)]
    assert line(*no_floor) == "Equal Quality: n/a (the floor of KID has no interval: set QUALITY_MARGIN)"
    assert answer(*no_floor, margin=0.01).outcome == "FOUND"
    few = [replace(each, scores=(replace(each.scores[0], replicates={}),)) for each in (twenty, twelve)]
    assert line(*few) == "Equal Quality: n/a (KID of 256 images has no interval)"
    bare = [replace(each, scores=(), unscored={"kid": "no reference images"}) for each in (twenty, twelve)]
    assert line(*bare) == "Equal Quality: n/a (no reference images)"
    interrupted = find_equal_quality([twenty, replace(twelve, rounds=twelve.rounds[:2])], 4, interrupted=True)
    assert equal_quality_lines(interrupted) == ["Equal Quality: n/a (PixArt (steps 12) lacks rounds)"]
    (found,) = find_equal_quality([twenty, twelve], 4, interrupted=True, not_started=["PixArt (steps 8)"])
    assert found.reason == "PixArt (steps 8) lacks rounds"


def test_an_interrupted_run_answers_for_the_models_that_have_all_their_rounds() -> None:
    twenty, twelve = pixart([2.4, 1.5], [0.001, 0.0011])
    sdxl = [configuration("SDXL", s, kid, options={"steps": n}) for s, kid, n in ((2.0, 0.01, 8), (1.0, 0.0101, 4))]
    cut = replace(twelve, rounds=twelve.rounds[:2])
    answers = find_equal_quality([twenty, cut, *sdxl], 4, interrupted=True, not_started=["PixArt (steps 8)"])
    assert [(found.group, found.outcome) for found in answers] == [
        ("PixArt", "UNKNOWN"), ("SDXL", "FOUND"), ("", "UNKNOWN"),
    ]  # fmt: skip
    assert answers[0].reason == answers[2].reason == "PixArt (steps 8) and 1 more lack rounds"


def test_a_run_without_a_choice_has_no_line() -> None:
    assert find_equal_quality([configuration("SDXL", 3.0, 0.01), configuration("VAR-d16", 1.0, 0.02)], 4) == ()


def test_lines_of_several_models_say_whose_they_are_and_one_is_over_all() -> None:
    columns = [
        *pixart([2.4, 1.5, 1.0], [0.001, 0.0011, 0.0012]),
        configuration("SDXL", 4.0, 0.002, 0.004, {"steps": 20}, number=4),
        configuration("SDXL", 0.8, 0.006, 0.004, {"steps": 4}, number=5),
        configuration("VAR-d16", 0.5, 0.0013, number=6),
    ]
    lines = equal_quality_lines(find_equal_quality(columns, 4, 0.007))
    assert lines == [
        "Equal Quality: PixArt at 8 steps (2.4x faster than at 20; KID higher by 0.0002, -0.0008..0.0012)",
        "Equal Quality: none for SDXL (undecided at N=256; about 1,900 images would decide)",
        "Equal Quality [all models]: VAR-d16 (4.8x faster than PixArt at 20 steps; KID higher by 0.0003, "
        "-0.0007..0.0013)",
    ]


def test_the_margin_is_twice_the_half_width_of_the_floors_interval() -> None:
    assert margin_of(kernel(0.1, 0.1).floor_interval) == pytest.approx(MARGIN)
    assert margin_of(None) is None


def test_the_lines_stand_below_the_winners_and_are_read_back_from_the_file(tmp_path: Path) -> None:
    columns = pixart([2.4, 1.5, 1.0, 0.5], [0.001, 0.0011, 0.0012, 0.02])
    run = sweep_of(*columns, equal_quality=find_equal_quality(columns, 4))
    printed = format_report(run).splitlines()
    at = next(place for place, text in enumerate(printed) if text.startswith("Equal Quality: PixArt at 8 steps"))
    assert printed[at - 1].startswith("Efficiency Winner")
    write_results(run, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == run
