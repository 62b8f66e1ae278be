"""What passes found is taken together over the rounds in which nothing else had the card in use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from costs_cases import CARD, energy, stage, stages, with_findings
from report_cases import VAR, with_rounds

from benchmark.measure.findings import Findings, Memory, Roofline
from benchmark.report.costs import (
    energy_of,
    memory_of,
    roofline_of,
    stages_of,
    throughput_per_joule,
    why_unmeasured,
)
from benchmark.report.model_result import ModelResult

MODEL = with_rounds(VAR, 0.5, 0.5, 0.5)


def disturbed(model: ModelResult, number: int) -> ModelResult:
    """Return the model with another process on the card in this round."""
    state = replace(CARD, other_processes=("python3 (4711)",))
    rounds = [replace(made, states=(state,)) if made.number == number else made for made in model.rounds]
    return replace(model, rounds=tuple(rounds))


def test_energy_is_the_mean_over_rounds_with_their_relative_spread_and_the_images_of_a_kilowatt_hour() -> None:
    cost = energy_of(with_findings(MODEL, [Findings(energy=energy(joules)) for joules in (2.0, 3.0, 4.0)]))
    assert cost is not None
    assert cost.joules_per_image == pytest.approx(3.0)
    assert cost.spread == pytest.approx(1 / 3)
    assert cost.images_per_kwh == pytest.approx(1.2e6)  # 1,000 W for an hour are 3.6 million joules
    assert cost.power_ratio == pytest.approx(1.0)
    assert cost.idle_power_w == 75.0


def test_a_round_with_another_process_has_no_part_in_energy_unless_no_other_round_is_there() -> None:
    model = with_findings(MODEL, [Findings(energy=energy(joules)) for joules in (2.0, 30.0, 4.0)])
    cost = energy_of(disturbed(model, 1))
    assert cost is not None
    assert cost.joules_per_image == pytest.approx(3.0)
    alone = energy_of(disturbed(replace(model, rounds=model.rounds[1:2]), 1))
    assert alone is not None
    assert alone.joules_per_image == 30.0
    assert alone.spread is None, "one round has no spread"


def test_power_that_could_not_be_read_in_some_rounds_is_the_mean_of_the_others() -> None:
    powers = [(300.0, None), (None, 70.0), (310.0, 80.0)]
    found = [Findings(energy=energy(2.0, mean_power_w=mean_w, idle_power_w=idle_w)) for mean_w, idle_w in powers]
    cost = energy_of(with_findings(MODEL, found))
    assert cost is not None
    assert (cost.mean_power_w, cost.idle_power_w) == (305.0, 75.0)


def test_throughput_per_joule_is_images_per_second_over_joules_per_image() -> None:
    assert throughput_per_joule(with_findings(MODEL, [Findings(energy=energy(4.0))] * 3)) == pytest.approx(2.0 / 4.0)
    assert throughput_per_joule(MODEL) is None


def test_memory_is_that_of_the_round_that_needed_the_most() -> None:
    found = [Memory(tensors, reserved, "call", True) for tensors, reserved in ((5, 7), (6, 8), (4, 9))]
    assert memory_of(with_findings(MODEL, [Findings(memory=each) for each in found])) == Memory(6, 9, "call", True)
    assert memory_of(MODEL) is None


def test_stages_are_means_over_rounds_of_each_stage_and_of_each_of_its_calls() -> None:
    each = [
        stages(1.0 + extra, stage("backbone", 0.8 + extra, 0.3, 0.4 + extra), stage("decoder", 0.2, 0.1))
        for extra in (0.0, 0.1, 0.2)
    ]
    found = stages_of(with_findings(MODEL, [Findings(stages=one) for one in each]))
    assert found is not None
    assert [one.seconds for one in found.stages] == pytest.approx([0.9, 0.2])
    assert found.stages[0].call_seconds == pytest.approx((0.3, 0.5))
    assert found.stages[0].calls == 2
    assert (found.timed_seconds, found.seconds, found.ratio) == pytest.approx((1.1, 1.1, 1.0))
    assert found.watched_calls == 15


def test_a_round_whose_calls_are_others_than_those_of_the_first_takes_no_part() -> None:
    first, other = stages(1.0, stage("backbone", 1.0, 0.5, 0.5)), stages(9.0, stage("backbone", 9.0, 3.0, 3.0, 3.0))
    found = stages_of(with_findings(MODEL, [Findings(stages=one) for one in (first, other, first)]))
    assert found is not None
    assert found.timed_seconds == 1.0
    assert found.stages == first.stages


def test_a_roofline_is_that_of_the_one_round_that_has_it_even_if_another_process_was_there() -> None:
    roofline = Roofline(1e12, 1e9, 1e14, 1e12, "bfloat16")
    model = with_findings(MODEL, [Findings(roofline=roofline), Findings(), Findings()])
    assert roofline_of(disturbed(model, 0)) == roofline
    assert roofline_of(MODEL) is None


def test_a_pass_that_found_nothing_anywhere_has_the_first_reason_and_one_that_found_something_has_none() -> None:
    found = [
        Findings(unmeasured={"energy": "a reason", "memory": "no GPU"}),
        Findings(energy=energy(1.0), unmeasured={"memory": "another"}),
        Findings(),
    ]
    assert why_unmeasured(with_findings(MODEL, found)) == {"memory": "no GPU"}
    assert why_unmeasured(MODEL) == {}, "no pass was asked for"
