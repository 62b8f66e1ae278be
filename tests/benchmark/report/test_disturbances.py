"""The footer names what spoils a comparison, by column and round, and is silent where nothing does."""

from __future__ import annotations

from dataclasses import replace

import pytest
from costs_cases import CARD, energy, large_run, with_states
from report_cases import SDXL, VAR, report, with_rounds

from benchmark.measure.findings import Findings, MachineState
from benchmark.measure.machine_state import SPOILING_LIMITS
from benchmark.report.disturbances import list_disturbances
from benchmark.report.model_result import ModelResult
from benchmark.report.table import format_report

ONE, OTHER = with_rounds(VAR, 1.0, 1.0, 1.0, 1.0), with_rounds(SDXL, 2.0, 2.0, 2.0, 2.0)
NORMAL = ("gpu idle", "applications clocks setting", "display clock setting", "sw power cap")


def on_cpu(model: ModelResult, *numbers: int, other_cores: float, cores: int) -> ModelResult:
    """Return the model as a CPU has it, with so many cores busy elsewhere in these rounds."""
    rounds = []
    for made in model.rounds:
        busy = other_cores if made.number in numbers else 0.0
        rounds.append(replace(made, states=(MachineState(1.0, other_cpu_cores=busy, cpu_cores=cores),)))
    return replace(model, rounds=tuple(rounds))


def test_a_machine_that_nothing_disturbs_has_no_line() -> None:
    assert list_disturbances(large_run().models) == []
    assert list_disturbances([ONE, OTHER]) == [], "nothing is known of the machine"
    assert list_disturbances([with_states(ONE, 0, 1, clock_limits=NORMAL)]) == []


def test_another_process_on_the_card_is_named_with_its_round_which_is_left_out() -> None:
    planted = with_states(ONE, 1, other_processes=("python3 (4711)",))
    line = "VAR-d16, round 2: WARNING: another process on the card, python3 (4711); left out"
    assert list_disturbances([planted, with_states(OTHER)]) == [line]
    assert line in format_report(report(planted, with_states(OTHER))).splitlines()


def test_equal_warnings_of_several_rounds_and_columns_are_one_line() -> None:
    planted = [with_states(model, 0, 2, 3, other_processes=("python3 (4711)",)) for model in (ONE, OTHER)]
    assert list_disturbances(planted) == [
        "VAR-d16, SDXL, rounds 1, 3, 4: WARNING: another process on the card, python3 (4711); left out"
    ]


def test_a_column_that_has_no_round_without_another_process_says_so() -> None:
    (line,) = list_disturbances([with_states(ONE, 0, 1, 2, 3, other_processes=("a (1)", "b (2)"))])
    assert line == (
        "VAR-d16, all rounds: WARNING: another process on the card, a (1), b (2); left out of verdicts, but the "
        "column's figures rest on such rounds alone"
    )


@pytest.mark.parametrize("limit", ["sw thermal slowdown", "hw thermal slowdown", "hw power brake slowdown"])
def test_clocks_that_heat_or_a_brake_holds_down_are_named_in_words(limit: str) -> None:
    (line,) = list_disturbances([with_states(ONE, 2, clock_limits=("sw power cap", limit)), with_states(OTHER)])
    assert line == f"VAR-d16, round 3: WARNING: the clocks were held down: {SPOILING_LIMITS[limit]} ({limit})"


def test_clocks_held_down_while_energy_was_measured_count_too() -> None:
    hot = Findings(energy=energy(1.0, clock_limits=("sw power cap", "sw thermal slowdown")))
    model = replace(ONE, rounds=(replace(ONE.rounds[0], findings=hot), *ONE.rounds[1:]))
    (line,) = list_disturbances([model])
    limit = "sw thermal slowdown"
    assert line == f"VAR-d16, round 1: WARNING: the clocks were held down: {SPOILING_LIMITS[limit]} ({limit})"


def test_a_power_limit_below_the_default_is_named() -> None:
    models = [with_states(model, 0, 1, 2, 3, power_limit_w=500.0) for model in (ONE, OTHER)]
    assert list_disturbances(models) == [
        "VAR-d16, SDXL, all rounds: WARNING: the power limit is 500 W, and the card's default is 700 W"
    ]
    assert list_disturbances([with_states(ONE, 0, power_limit_w=None)]) == []


def test_a_load_of_the_cpu_may_disturb_a_run_on_it_from_a_tenth_of_its_cores_on() -> None:
    assert list_disturbances([on_cpu(ONE, 0, 3, other_cores=0.79, cores=8)]) == []
    assert list_disturbances([on_cpu(ONE, 0, 3, other_cores=2.5, cores=8)]) == [
        "VAR-d16, rounds 1, 4: WARNING: other work kept up to 2.5 of 8 CPU cores busy; more than 0.8 may disturb"
    ]


def test_a_load_of_the_cpu_beside_a_gpu_may_disturb_from_half_of_its_cores_on() -> None:
    assert list_disturbances([with_states(ONE, 0, other_cpu_cores=7.9)]) == []
    busy = [with_states(ONE, 0, other_cpu_cores=8.4), with_states(OTHER, 1, 2, other_cpu_cores=9.6)]
    assert list_disturbances(busy) == [
        "VAR-d16, round 1; SDXL, rounds 2, 3: WARNING: other work kept up to 9.6 of 16 CPU cores busy; more than "
        "8.0 may disturb"
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"driver": "580.1"}, "drivers: 570.86"), ({"card_uuid": "GPU-9"}, f"cards: {CARD.card_uuid}"),
     ({"cpu_governor": "powersave"}, "CPU governors: performance")],
)  # fmt: skip
def test_rounds_with_another_card_driver_or_governor_are_told_apart(change: dict[str, str], words: str) -> None:
    late = with_states(ONE)
    last = replace(late.rounds[3], states=tuple(replace(it, **change) for it in late.rounds[3].states))  # type: ignore[arg-type]
    (line,) = list_disturbances([replace(late, rounds=(*late.rounds[:3], last))])
    (value,) = change.values()
    assert line == f"WARNING: rounds with different {words} (VAR-d16, rounds 1, 2, 3); {value} (VAR-d16, round 4)"
