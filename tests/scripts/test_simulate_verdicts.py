"""The simulation decides as the benchmark does, and the rounds that it names have the power that was asked for."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from benchmark.report.latency_ratios import confidence_at
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.verdicts import decide
from scripts.measuring import simulate_verdicts as simulation

OUTCOMES = {"WIN": simulation.WIN, "TIE": simulation.TIE, "UNDECIDED": simulation.UNDECIDED}


def column_of(name: str, latencies_s: list[float], looks: tuple[int, ...]) -> ModelResult:
    rounds = tuple(
        Round(number, ("0",), (latency_s,), 1, True, 0, 0, 0.0, 0.0, 0.0, True)
        for number, latency_s in enumerate(latencies_s)
    )
    return ModelResult(name, "eager", 10**6, 64, 1, 1, 1, rounds, None, (), "", looks=looks)


def test_the_simulation_decides_as_the_benchmark_does() -> None:
    random = np.random.default_rng(0)
    seen = set()
    for rounds in (3, 4, 8):
        for look in (1, 2):
            spreads = random.choice([0.003, 0.01, 0.02, 0.05, 0.15], (60, 3, 1))
            logs_NCR = spreads * random.standard_normal((60, 3, rounds)) + 0.05 * random.standard_normal((60, 3, 1))
            outcomes_N, best_N = simulation.decide_all(logs_NCR, confidence_at(look))
            for logs_CR, outcome, best in zip(logs_NCR, outcomes_N, best_N, strict=True):
                models = [
                    column_of(str(at), np.exp(logs_R).tolist(), (2,) * (look - 1)) for at, logs_R in enumerate(logs_CR)
                ]
                verdict = decide(models, rounds)[0]
                assert (OUTCOMES[verdict.outcome], int(verdict.ranked[0])) == (outcome, best)
                seen.add((look, verdict.outcome))
    assert len(seen) == 6, "every outcome was there at either look"


def test_with_normal_spreads_two_looks_name_a_winner_among_two_equals_in_less_than_five_of_a_hundred() -> None:
    shares = simulation.false_winners(
        simulation.draw_normal, 0.15, 9.0, simulation.STILL, (0, 1), 20_000, np.random.default_rng(1)
    )
    assert shares[0] == pytest.approx(0.04, abs=0.005)
    assert shares[0] < shares[1] < 0.05 + 0.004


def test_a_drift_only_lowers_the_share_of_false_winners() -> None:
    for disturbance in (simulation.DRIFT, simulation.WANDER):
        shares = simulation.false_winners(
            simulation.draw_normal, 0.01, 9.0, disturbance, (0, 1), 5_000, np.random.default_rng(2)
        )
        assert shares[1] < 0.045


@pytest.mark.parametrize(("spread", "slowdown"), [(0.05, 0.2), (0.01, 0.03), (0.004, 0.03)])
def test_the_fewest_rounds_for_a_power_have_it_and_one_less_has_not(spread: float, slowdown: float) -> None:
    rounds = simulation.rounds_for_power(spread, slowdown, 0.9)
    assert rounds is not None
    random = np.random.default_rng(3)

    def found(count: int) -> float:
        logs_NCR = spread * random.standard_normal((20_000, 2, count)) + [[0.0], [math.log1p(slowdown)]]
        outcomes_N, best_N = simulation.decide_all(logs_NCR, confidence_at(1))
        return float(((outcomes_N == simulation.WIN) & (best_N == 0)).mean())

    assert found(rounds) == pytest.approx(simulation.win_probability(rounds, spread, slowdown), abs=0.01)
    assert found(rounds) > 0.9 - 0.01
    assert rounds == 3 or found(rounds - 1) < 0.9 + 0.01


def test_a_slowdown_that_a_tie_would_hide_needs_more_rounds_than_there_may_be() -> None:
    assert simulation.rounds_for_power(0.01, 0.01, 0.97, most=60) is None


def test_the_columns_run_in_the_order_of_the_benchmark_reversed_and_with_another_one_first() -> None:
    assert simulation.slots_of(3, 4).tolist() == [[0, 5, 8, 9], [1, 4, 6, 11], [2, 3, 7, 10]]


def test_what_the_first_of_each_round_pays_names_no_winner_once_every_column_has_been_the_first_as_often() -> None:
    for places in simulation.PLACES:
        (share,) = simulation.false_winners(
            simulation.draw_normal, 0.01, 9.0, simulation.SLOW_FIRST, places, 2_000, np.random.default_rng(4), (16,)
        )
        assert share < 0.04


def test_the_script_writes_every_figure_at_a_small_size(tmp_path: Path) -> None:
    output = tmp_path / "figures.json"
    assert simulation.main(["--tiny", "--runs", "50", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    assert {"worst_cases", "slow_first", "hit_by_turns", "stop_at_first_win", "rounds_for_power"} <= report.keys()
    assert len(report["worst_cases"]) == len(simulation.SHAPES) + len(simulation.MEASURED)
