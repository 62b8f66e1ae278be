"""A round with another process on the card is left out of statistics and verdicts, and the lines say so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import VAR, report, timed_round, with_rounds

from benchmark.measure.findings import MachineState
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.results import read_results, write_results
from benchmark.report.verdicts import decide, format_verdict

CALM = MachineState(1.0, card_uuid="GPU-1")
SHARED = MachineState(2.0, card_uuid="GPU-1", other_processes=("4711 python",))


def disturbed(model: ModelResult, *numbers: int) -> ModelResult:
    """Return the model with another process on the card at the end of these rounds."""
    rounds = [
        replace(found, states=(CALM, SHARED if found.number in numbers else CALM)) for found in model.rounds
    ]  # fmt: skip
    return replace(model, rounds=tuple(rounds))


def column(name: str, *means_s: float) -> ModelResult:
    return replace(with_rounds(VAR, *means_s), name=name)


def test_its_batches_are_in_no_statistic() -> None:
    model = disturbed(column("A", 1.0, 1.0, 9.0, 1.0), 2)
    assert [found.counts for found in model.rounds] == [True, True, False, True]
    assert model.rounds[2].other_processes == ("4711 python",)
    assert model.mean_latency_s == pytest.approx(1.0)
    assert max(model.latencies_s) < 2
    assert model.round_spread == pytest.approx(0.0)


def test_where_every_round_was_disturbed_the_statistics_are_of_all_of_them_and_nothing_is_decided() -> None:
    model = disturbed(column("A", 1.0, 2.0, 1.0, 2.0), 0, 1, 2, 3)
    assert model.mean_latency_s == pytest.approx(1.5)
    verdict = decide([model, column("B", 3.0, 3.0, 3.0, 3.0)], 4)[0]
    assert (verdict.outcome, verdict.rule) == ("UNDECIDED", "disturbed rounds")
    assert format_verdict(verdict) == (
        "Speed Winner: none (A and B have no round in common without another process on the card; ROUNDS=7 would give "
        "enough)"
    )


def test_a_verdict_rests_on_the_other_rounds_and_says_so() -> None:
    slow = column("A", 1.0, 1.0, 9.0, 1.0)
    assert decide([slow, column("B", 1.5, 1.5, 1.5, 1.5)], 4)[0].outcome == "UNDECIDED"
    verdict = decide([disturbed(slow, 2), column("B", 1.5, 1.5, 1.5, 1.5)], 4)[0]
    assert (verdict.outcome, verdict.winner, verdict.disturbed) == ("WIN", "A", True)
    assert format_verdict(verdict) == (
        "Speed Winner: A (1.5x faster; by the 3 of 4 rounds without another process on the card)"
    )
    assert [pair.rounds for pair in verdict.pairs] == [3]


def test_fewer_than_three_rounds_without_another_process_decide_nothing() -> None:
    models = [disturbed(column("A", 1.0, 1.0, 1.0, 1.0), 0), disturbed(column("B", 2.0, 2.0, 2.0, 2.0), 1)]
    verdict = decide(models, 4)[0]
    assert (verdict.outcome, verdict.rule, verdict.rounds_needed) == ("UNDECIDED", "disturbed rounds", 5)
    assert format_verdict(verdict) == (
        "Speed Winner: none (A and B have only 2 of 4 rounds in common without another process on the card; ROUNDS=5 "
        "would give enough)"
    )


def test_other_runs_stay_the_reason_where_no_round_was_disturbed() -> None:
    one = replace(column("A", 1.0, 1.0, 1.0), rounds=tuple(_of("1", at) for at in range(3)))
    other = replace(column("B", 1.0, 1.0, 1.0), rounds=tuple(_of("2", at) for at in range(3)))
    verdict = decide([one, other], 3)[0]
    assert (verdict.rule, verdict.disturbed) == ("other runs", False)


def _of(session: str, number: int) -> Round:
    return timed_round(number, 1.0, 1.1, sessions=(session,))


def test_states_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    run = report(disturbed(column("A", 1.0, 1.0, 1.0, 1.0), 1), column("B", 2.0, 2.0, 2.0, 2.0))
    write_results(run, tmp_path / "results.json")
    assert read_results(tmp_path / "results.json") == run
