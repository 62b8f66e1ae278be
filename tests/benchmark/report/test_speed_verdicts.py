"""The three outcomes on speed and efficiency, by rounds, and the lines that say them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace

import pytest
from report_cases import PIXART, SDXL, VAR, with_rounds

from benchmark.report.model_result import ModelResult
from benchmark.report.typed_json import from_json, to_json
from benchmark.report.verdicts import Verdict, decide, format_verdict


def rounds_of(name: str, *means_s: float, parameters: int = 10**8, looks: tuple[int, ...] = ()) -> ModelResult:
    return replace(with_rounds(VAR, *means_s), name=name, parameters=parameters, looks=looks)


def speed_of(*models: ModelResult, rounds: int = 4, interrupted: bool = False) -> Verdict:
    return decide(models, rounds, interrupted)[0]


def test_columns_within_three_percent_tie_and_the_line_has_the_interval() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 1.0, 1.01, 1.0), rounds_of("B", 1.01, 1.02, 1.01, 1.02))
    assert (verdict.outcome, verdict.rule, verdict.winner, verdict.runner_up) == ("TIE", "tie", "", "B")
    assert format_verdict(verdict) == "Speed Winner: none (A and B tie: 1.01x, 1.00..1.03)"


def test_columns_that_noise_does_not_tell_apart_are_undecided_and_the_line_says_how_many_rounds_would_do() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 0.9, 1.0, 1.2), rounds_of("B", 1.2, 1.3, 1.0, 1.1))
    assert (verdict.outcome, verdict.rule, verdict.winner) == ("UNDECIDED", "undecided", "")
    assert verdict.rounds_needed is not None
    expected = r"Speed Winner: none \(A 1\.1x faster than B, 0\.8\.\.1\.6: undecided; about ROUNDS=(\d+) would decide\)"
    match = re.fullmatch(expected, format_verdict(verdict))
    assert match, format_verdict(verdict)
    assert int(match[1]) == verdict.rounds_needed > 4


def test_where_more_than_a_hundred_rounds_would_be_needed_the_line_says_so() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 2.0, 1.0, 2.0), rounds_of("B", 2.0, 1.0, 2.0, 1.06))
    assert format_verdict(verdict).endswith(": undecided; more than ROUNDS=100 would be needed)")


def test_a_column_that_is_faster_in_every_round_wins() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 2.0, 1.0, 2.0), rounds_of("B", 1.8, 3.7, 1.8, 3.5))
    assert (verdict.outcome, verdict.rule, verdict.winner, verdict.runner_up) == ("WIN", "better figure", "A", "B")
    assert format_verdict(verdict) == "Speed Winner: A (1.8x faster)"


def test_one_process_of_many_batches_names_no_winner() -> None:
    """The five eager processes measured on an H200, as if two columns had each had one of them."""
    lines = [format_verdict(verdict) for verdict in decide([rounds_of("A", 0.162), rounds_of("B", 0.115)], 1)]
    assert lines[0] == "Speed Winner: none (1 round decides nothing: ROUNDS=3 or more)"
    assert lines[2] == "Efficiency Winner: none (1 round decides nothing: ROUNDS=3 or more)"
    two = speed_of(rounds_of("A", 0.162, 0.162), rounds_of("B", 0.115, 0.115), rounds=2)
    assert format_verdict(two) == "Speed Winner: none (2 rounds decide nothing: ROUNDS=3 or more)"


def test_a_winner_is_told_from_every_other_column_not_from_the_closest_alone() -> None:
    best, close = rounds_of("A", 1.0, 1.0, 1.0, 1.0), rounds_of("B", 1.1, 1.1, 1.1, 1.1)
    noisy = rounds_of("C", 1.0, 1.3, 1.1, 1.6)
    verdict = speed_of(noisy, close, best)
    assert verdict.ranked == ("A", "B", "C")
    assert (verdict.outcome, verdict.runner_up) == ("UNDECIDED", "C")
    assert "A 1.2x faster than C, " in format_verdict(verdict)
    assert [(pair.first, pair.second, pair.outcome) for pair in verdict.pairs] == [
        ("A", "B", "WIN"), ("A", "C", "UNDECIDED"), ("B", "C", "UNDECIDED"),
    ]  # fmt: skip


def test_efficiency_is_decided_by_the_same_rounds_shifted_by_the_parameters() -> None:
    small, large = rounds_of("S", 1.2, 1.3, 1.0, 1.1), rounds_of("L", 1.0, 0.9, 1.0, 1.2, parameters=10**9)
    speed, _, efficiency = decide([small, large], 4)
    assert (speed.outcome, speed.ranked) == ("UNDECIDED", ("L", "S"))
    assert (efficiency.outcome, efficiency.winner) == ("WIN", "S")
    assert speed.ratio is not None
    assert efficiency.ratio == pytest.approx(10 / speed.ratio)
    assert efficiency.interval is not None
    assert speed.interval is not None
    assert efficiency.interval == pytest.approx((10 / speed.interval[1], 10 / speed.interval[0]))
    assert format_verdict(efficiency) == "Efficiency Winner: S (8.9x more efficient)"


def test_a_later_look_needs_99_percent_for_what_a_first_look_names_at_96() -> None:
    means_s = (1.0, 1.0, 1.0, 1.0), (1.2, 1.3, 1.1, 1.2)
    first = speed_of(rounds_of("A", *means_s[0]), rounds_of("B", *means_s[1]))
    assert (first.outcome, first.confidence, first.look) == ("WIN", 0.96, 1)
    again = speed_of(rounds_of("A", *means_s[0], looks=(3,)), rounds_of("B", *means_s[1]))
    assert (again.outcome, again.confidence, again.look) == ("UNDECIDED", 0.99, 2)
    same = speed_of(rounds_of("A", *means_s[0], looks=(4,)), rounds_of("B", *means_s[1], looks=(4,)))
    assert same == first, "the same command again"


def test_only_the_rounds_that_were_asked_for_count() -> None:
    long = rounds_of("A", 1.0, 1.0, 1.0, 9.0), rounds_of("B", 1.5, 1.5, 1.5, 1.0)
    assert speed_of(*long, rounds=3) == speed_of(*(replace(it, rounds=it.rounds[:3]) for it in long), rounds=3)
    assert speed_of(*long, rounds=3).winner == "A"


def test_an_interrupted_run_decides_nothing_before_every_column_has_all_rounds() -> None:
    whole, other = rounds_of("A", 1.0, 1.0, 1.0, 1.0), rounds_of("B", 1.5, 1.5, 1.5, 1.5)
    third = rounds_of("C", 2.0, 2.0)
    verdict = speed_of(whole, other, third, interrupted=True)
    assert (verdict.outcome, verdict.rule, verdict.left_out) == ("UNDECIDED", "incomplete rounds", ("C",))
    assert format_verdict(verdict) == "Speed Winner: none (C has 2 of 4 rounds)"
    assert speed_of(whole, other, interrupted=True).winner == "A", "rounds are done; what came later was interrupted"


def test_a_column_that_failed_in_a_later_round_costs_the_others_no_verdict_and_is_named() -> None:
    whole, other = rounds_of("A", 1.0, 1.0, 1.0, 1.0), rounds_of("B", 1.5, 1.5, 1.5, 1.5)
    failed = rounds_of("C", 0.5, 0.5)
    assert format_verdict(speed_of(whole, other, failed)) == (
        "Speed Winner: A (1.5x faster; C has 2 of 4 rounds and takes no part)"
    )
    assert format_verdict(speed_of(whole, failed)) == "Speed Winner: none (C has 2 of 4 rounds)"


def test_a_round_that_is_not_complete_does_not_count() -> None:
    part = rounds_of("A", 1.0, 1.0, 1.0, 1.0)
    part = replace(part, rounds=(*part.rounds[:3], replace(part.rounds[3], complete=False)))
    assert speed_of(part, rounds_of("B", 2.0, 2.0, 2.0, 2.0)).reason == "A has 3 of 4 rounds"


def test_equal_latencies_tie() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 1.0, 1.0, 1.0), rounds_of("B", 1.0, 1.0, 1.0, 1.0))
    assert format_verdict(verdict) == "Speed Winner: none (A and B tie: 1.00x, 1.00..1.00)"


@pytest.mark.parametrize(
    ("ratio", "interval", "expected"),
    [
        (1.01, (0.99, 1.03), "1.01x, 0.99..1.03"),
        (1.003, (0.999, 1.007), "1.003x, 0.999..1.007"),
        (1.003, (1.003, 1.003), "1.003x, 1.003..1.003"),
        (1.0001, (0.98, 1.02), "1.00x, 0.98..1.02"),
        (1.00001, (0.99999, 1.00003), "1.0000x, 1.0000..1.0000"),
        (1.5, (1e-9, 1e40), "1.5x, 0.0..1e+40"),
    ],
)
def test_a_ratio_is_shown_with_the_digits_in_which_its_interval_differs(
    ratio: float, interval: tuple[float, float], expected: str
) -> None:
    verdict = Verdict("speed", "", "TIE", "tie", "", "B", ("A", "B"), ratio=ratio, interval=interval)
    assert format_verdict(verdict) == f"Speed Winner: none (A and B tie: {expected})"


def test_columns_of_two_modes_are_no_pairs() -> None:
    compiled = [replace(model, mode="compiled", name=f"{model.name} (compiled)") for model in (SDXL, VAR, PIXART)]
    verdicts = decide([SDXL, VAR, PIXART, *compiled], 4)
    assert [verdict.group for verdict in verdicts] == ["eager"] * 3 + ["compiled"] * 3
    assert all(len(verdict.pairs) == 3 for verdict in verdicts if verdict.question != "quality")


def test_a_verdict_with_its_pairs_is_read_back_from_json_as_it_was() -> None:
    models = [rounds_of("A", 1.0, 0.9, 1.0, 1.2), rounds_of("B", 1.2, 1.3, 1.0, 1.1), rounds_of("C", 3.0, 3.1, 3.0)]
    for verdict in decide(models, 4):
        assert from_json(Verdict, json.loads(json.dumps(to_json(verdict))), "") == verdict


def test_pair_and_verdict_hold_the_interval_of_each_level() -> None:
    verdict = speed_of(rounds_of("A", 1.0, 0.9, 1.0, 1.2), rounds_of("B", 1.2, 1.3, 1.0, 1.1))
    (pair,) = verdict.pairs
    assert (pair.interval, pair.win_interval) == (verdict.interval, verdict.win_interval)
    assert pair.interval is not None
    assert pair.win_interval is not None
    assert math.log(pair.win_interval[1] / pair.value) / math.log(pair.interval[1] / pair.value) == pytest.approx(
        3.4819 / 3.1824, rel=1e-4
    )
