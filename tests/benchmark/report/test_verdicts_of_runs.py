"""Verdicts on columns that several runs of the program timed, and on columns that failed."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from report_cases import PIXART, SDXL, VAR, report, with_rounds, with_scores

from benchmark.report.latency_ratios import log_ratio
from benchmark.report.model_result import ModelResult
from benchmark.report.results import read_results, write_results
from benchmark.report.typed_json import from_json, to_json
from benchmark.report.verdicts import Verdict, decide, format_verdict

FASTER = (1.00, 1.01, 0.99, 1.00, 1.02, 0.98, 1.00, 1.01)
SLOWER = (1.20, 1.18, 1.22, 1.21, 1.19, 1.20, 1.23, 1.18)


def timed_by(name: str, runs: str, means_s: tuple[float, ...] = FASTER, looks: tuple[int, ...] = ()) -> ModelResult:
    """Return a column with a round for each letter of `runs`, which names the run that timed it ("-": not told)."""
    model = with_rounds(VAR, *means_s[: len(runs)])
    rounds = [
        replace(found, sessions=() if run == "-" else (run,)) for found, run in zip(model.rounds, runs, strict=True)
    ]
    return replace(model, name=name, rounds=tuple(rounds), looks=looks)


def speed_of(*models: ModelResult) -> Verdict:
    return decide(models, len(models[0].rounds))[0]


def line_of(*models: ModelResult) -> str:
    return format_verdict(speed_of(*models)).removeprefix("Speed Winner: ")


def test_a_column_that_another_run_timed_is_not_compared_and_the_line_says_how_it_would_be() -> None:
    """A machine that is 4 % slower the next day is no property of the column that was added then."""
    later = tuple(1.04 * mean_s for mean_s in FASTER)
    models = timed_by("A", "aaaa"), timed_by("B", "bbbb", later)
    assert speed_of(timed_by("A", "aaaa"), timed_by("B", "aaaa", later)).winner == "A", "as if one run had timed both"
    verdict = speed_of(*models)
    assert (verdict.outcome, verdict.rule, verdict.winner, verdict.look) == ("UNDECIDED", "other runs", "", 0)
    assert (verdict.rounds, verdict.rounds_needed, verdict.interval, verdict.win_interval) == (4, 7, None, None)
    assert line_of(*models) == "none (A and B were timed in different runs; ROUNDS=7 would time them together)"
    efficiency = decide(models, 4)[2]
    assert format_verdict(efficiency) == (
        "Efficiency Winner: none (A and B were timed in different runs; ROUNDS=7 would time them together)"
    )


def test_columns_of_different_runs_are_compared_by_the_rounds_that_one_run_timed() -> None:
    models = timed_by("A", "aaaacccc"), timed_by("B", "bbbbcccc", SLOWER)
    verdict = speed_of(*models)
    (pair,) = verdict.pairs
    expected = log_ratio(SLOWER[4:], FASTER[4:])
    assert (pair.rounds, verdict.rounds, pair.look) == (4, 8, 1)
    assert pair.interval == pytest.approx(expected.interval(0.95))
    assert pair.win_interval == verdict.win_interval == pytest.approx(expected.interval(0.96))
    assert line_of(*models) == "A (1.2x faster; by the 4 of 8 rounds that were timed together)"


def test_an_offset_between_runs_moves_no_ratio() -> None:
    offset = tuple(mean_s * (3.0 if at < 4 else 1.0) for at, mean_s in enumerate(FASTER))
    plain = speed_of(timed_by("A", "aaaacccc"), timed_by("B", "bbbbcccc", SLOWER))
    moved = speed_of(timed_by("A", "aaaacccc", offset), timed_by("B", "bbbbcccc", SLOWER))
    assert moved == plain


def test_a_pair_is_ordered_by_its_common_rounds_not_by_all() -> None:
    """A is slower over all of its rounds, since its first ones were timed on a slow day."""
    slow_day = (9.0, 9.0, 9.0, 9.0, *FASTER[4:])
    verdict = speed_of(timed_by("A", "aaaacccc", slow_day), timed_by("B", "bbbbcccc", SLOWER))
    assert (verdict.winner, verdict.ranked, verdict.runner_up) == ("A", ("A", "B"), "B")


def test_three_common_rounds_decide_and_two_do_not() -> None:
    assert line_of(timed_by("A", "aaac"), timed_by("B", "aaab", SLOWER)).startswith("A (1.2x faster; by the 3 of 4")
    assert line_of(timed_by("A", "aabc"), timed_by("B", "aacb", SLOWER)) == (
        "none (A and B were timed by the same run in only 2 of 4 rounds; ROUNDS=5 would time them together)"
    )


def test_a_round_that_two_runs_timed_goes_with_one_that_the_same_two_timed() -> None:
    def cut_short(model: ModelResult, *sessions: str) -> ModelResult:
        return replace(model, rounds=(*model.rounds[:2], replace(model.rounds[2], sessions=sessions)))

    first, second = timed_by("A", "aaa"), timed_by("B", "aaa", SLOWER)
    assert speed_of(cut_short(first, "a", "b"), second).rule == "other runs"
    assert speed_of(cut_short(first, "a", "b"), cut_short(second, "b", "a")).winner == "A"


def test_a_round_that_does_not_tell_its_run_goes_with_any() -> None:
    assert speed_of(timed_by("A", "-bbb"), timed_by("B", "abbb", SLOWER)).pairs[0].rounds == 4


def test_one_column_of_another_run_leaves_the_others_compared_with_each_other() -> None:
    models = timed_by("A", "aaaa"), timed_by("B", "aaaa", SLOWER), timed_by("C", "bbbb", tuple(2 * s for s in FASTER))
    verdict = speed_of(*models)
    assert [(pair.first, pair.second, pair.outcome, pair.rounds, pair.look) for pair in verdict.pairs] == [
        ("A", "B", "WIN", 4, 1), ("A", "C", "UNDECIDED", 0, 0), ("B", "C", "UNDECIDED", 0, 0),
    ]  # fmt: skip
    assert line_of(*models) == "none (A and C were timed in different runs; ROUNDS=7 would time them together)"


def test_where_common_rounds_go_round_in_a_circle_no_column_wins_whatever_their_order() -> None:
    fast, slow = (1.0, 1.001, 0.999), (1.5, 1.501, 1.499)
    circle = [
        timed_by("A", "aaabbbddd", fast + slow + fast), timed_by("B", "aaaeeeccc", slow + fast + fast),
        timed_by("C", "fffbbbccc", fast + fast + slow),
    ]  # fmt: skip
    for models in permutations(circle):
        verdict = speed_of(*models)
        assert (verdict.outcome, verdict.winner) == ("UNDECIDED", "")
        assert {(pair.first, pair.second, pair.outcome) for pair in verdict.pairs} == {
            ("A", "B", "WIN"), ("B", "C", "WIN"), ("C", "A", "WIN"),
        }  # fmt: skip
        assert (verdict.ranked[0], verdict.runner_up) in {("A", "B"), ("B", "C"), ("C", "A")}
        assert "undecided; more than ROUNDS=100 would be needed; by the 3 of 9 rounds" in format_verdict(verdict)


def test_rounds_of_different_runs_count_as_missing_in_the_number_that_would_decide() -> None:
    noisy = (1.2, 1.3, 1.0, 1.1)
    together = speed_of(timed_by("A", "aaaa", (1.0, 0.9, 1.0, 1.2)), timed_by("B", "aaaa", noisy))
    apart = speed_of(
        timed_by("A", "bbbbaaaa", (5.0, 5.0, 5.0, 5.0, 1.0, 0.9, 1.0, 1.2)),
        timed_by("B", "ccccaaaa", (7.0, 7.0, 7.0, 7.0, *noisy)),
    )
    assert together.rounds_needed is not None
    assert (apart.rule, apart.rounds_needed) == ("undecided", together.rounds_needed + 4)
    assert format_verdict(apart).endswith("would decide; by the 4 of 8 rounds that were timed together)")


def test_results_with_rounds_of_several_runs_are_read_back_as_they_were(tmp_path: Path) -> None:
    run = report(timed_by("A", "aabc"), timed_by("B", "aacb", SLOWER), timed_by("C", "aabc", SLOWER))
    write_results(run, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == run
    for verdict in run.verdicts:
        assert from_json(Verdict, json.loads(json.dumps(to_json(verdict))), "") == verdict


def test_a_failed_column_with_all_rounds_takes_part_in_speed_even_of_an_interrupted_run() -> None:
    """It failed in bulk."""
    models = timed_by("A", "aaaa"), timed_by("B", "aaaa", SLOWER)
    for interrupted in (False, True):
        assert decide(models, 4, interrupted, {"A"})[0].winner == "A"


def test_a_failed_column_without_all_rounds_holds_up_no_other_one_of_an_interrupted_run() -> None:
    models = timed_by("A", "aaaa"), timed_by("B", "aaaa", SLOWER), timed_by("C", "aa")
    assert format_verdict(decide(models, 4, True, ["C"])[0]) == (
        "Speed Winner: A (1.2x faster; C has 2 of 4 rounds and takes no part)"
    )
    assert decide(models, 4, True, ["B"])[0].rule == "incomplete rounds", "C did not fail"


def test_one_whole_column_beside_a_failed_one_is_not_the_only_model() -> None:
    models = timed_by("A", "aaaa"), timed_by("B", "aa")
    for verdict in decide(models, 4, failed=["B"])[::2]:
        assert (verdict.outcome, verdict.rule) == ("UNDECIDED", "incomplete rounds")
        assert format_verdict(verdict).endswith("Winner: none (B has 2 of 4 rounds)")


def test_a_failed_column_with_fewer_images_costs_the_others_no_verdict_on_quality() -> None:
    fewer = with_scores(PIXART, 20, 0.01)
    models = [with_scores(SDXL, 64, 0.0321), with_scores(VAR, 64, 0.0300), fewer]
    assert decide(models, 4)[1].rule == "not comparable"
    quality = decide(models, 4, failed=["PixArt"])[1]
    assert (quality.winner, quality.ranked, quality.left_out) == ("VAR-d16", ("VAR-d16", "SDXL"), ("PixArt",))
    assert format_verdict(quality) == (
        "Quality Winner: VAR-d16 (KID lower by 0.0021; FID is biased at N=64; without PixArt, which failed)"
    )
    alone = decide(models, 4, failed=["SDXL", "PixArt"])[1]
    assert format_verdict(alone) == "Quality Winner: VAR-d16 (the only model; without SDXL and PixArt, which failed)"


def test_where_every_column_failed_quality_has_no_winner() -> None:
    quality = decide([SDXL, VAR], 4, failed=["SDXL", "VAR-d16"])[1]
    assert format_verdict(quality) == "Quality Winner: n/a (every model failed)"
