"""What passes found is taken together over the rounds in which nothing else had the card in use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from costs_cases import CARD, energy, stage, stages, with_findings
from report_cases import VAR, with_rounds

from benchmark.measure.findings import Findings, Memory, Roofline
from benchmark.report.costs import (
    ONLY_BESIDE_OTHERS,
    count_stage_rounds,
    energy_of,
    find_passes_not_run,
    memory_of,
    roofline_of,
    rooflines_of,
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
    assert (found.unwatched_seconds, found.seconds, found.ratio) == pytest.approx((1.1, 1.1, 1.0))
    assert found.timed_seconds == pytest.approx(1.21)
    assert found.watched_calls == 15


def test_a_round_whose_calls_are_others_than_those_of_the_first_takes_no_part() -> None:
    first, other = stages(1.0, stage("backbone", 1.0, 0.5, 0.5)), stages(9.0, stage("backbone", 9.0, 3.0, 3.0, 3.0))
    model = with_findings(MODEL, [Findings(stages=one) for one in (first, other, first)])
    found = stages_of(model)
    assert found is not None
    assert found.unwatched_seconds == 1.0
    assert found.stages == first.stages
    assert count_stage_rounds(model) == 2


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


def test_all_columns_of_a_dtype_have_the_best_limits_that_any_of_them_measured() -> None:
    def with_limits(name: str, matrix: float, copy: float, dtype: str = "bfloat16") -> ModelResult:
        found = Findings(roofline=Roofline(1e12, 1e9, matrix, copy, dtype))
        return with_findings(replace(MODEL, name=name), [found, Findings(), Findings()])

    models = [
        with_limits("one", 7e14, 3e12), with_limits("other", 6e14, 4e12), with_limits("third", 5e13, 1e12, "float32"),
    ]  # fmt: skip
    found = rooflines_of([*models, MODEL])
    assert {name: (each.matrix_flops_per_s, each.copy_bytes_per_s) for name, each in found.items()} == {
        "one": (7e14, 4e12), "other": (7e14, 4e12), "third": (5e13, 1e12),
    }  # fmt: skip


def test_a_pass_with_figures_and_reasons_of_disturbed_rounds_alone_says_so() -> None:
    found = Findings(energy=energy(1.0), roofline=Roofline(1.0, 1.0, 1.0, 1.0, "float32"), unmeasured={"memory": "why"})
    model = disturbed(with_findings(MODEL, [found, Findings(), Findings()]), 0)
    assert why_unmeasured(model) == {"memory": "why", "energy": ONLY_BESIDE_OTHERS}


def test_a_pass_has_not_run_where_no_round_has_its_finding_or_its_reason() -> None:
    made = [Findings(energy=energy(1.0)), Findings(), Findings(unmeasured={"memory": "no GPU"})]
    assert find_passes_not_run(with_findings(MODEL, made), ["memory", "energy", "stages"]) == ["stages"]
    assert find_passes_not_run(MODEL, []) == []
