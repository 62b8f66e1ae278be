"""The footer says how energy was measured, what a pass could not measure, and where stages do not add up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from costs_cases import CARD, energy, large_run, stage, stages, with_findings
from report_cases import PIXART, SDXL, VAR, report, timed_round, with_rounds

from benchmark.measure.findings import PASSES, Findings
from benchmark.report.cost_notes import list_cost_notes
from benchmark.report.footer import footer_lines
from benchmark.report.model_result import ModelResult

ONE, OTHER = with_rounds(VAR, 1.0, 1.0, 1.0), with_rounds(SDXL, 2.0, 2.0, 2.0)


def every(model: ModelResult, found: Findings) -> ModelResult:
    return with_findings(model, [found] * 3)


def test_one_line_tells_how_energy_was_measured() -> None:
    assert list_cost_notes(large_run().models) == [
        "Energy: of the whole card, by NVML's counter, over 5.1..5.3 s of calls back to back in a round; idle 75 W"
    ]


def test_columns_without_a_counter_are_told_from_those_with_one() -> None:
    counted = every(ONE, Findings(energy=energy(3.0, idle_power_w=None)))
    sampled = every(OTHER, Findings(energy=energy(4.0, source="power samples", idle_power_w=74.6)))
    assert list_cost_notes([counted, sampled]) == [
        "Energy (VAR-d16): of the whole card, by NVML's counter, over 5.2 s of calls back to back in a round",
        "Energy (SDXL): of the whole card, from samples of its power, since it has no counter, over 5.2 s of calls "
        "back to back in a round; idle 75 W",
    ]


def test_energy_that_is_not_power_times_seconds_is_named_from_5_percent_on() -> None:
    def measured(ratio: float) -> Sequence[str]:
        found = energy(3.0)
        assert found.mean_power_w is not None
        return list_cost_notes([every(ONE, Findings(energy=replace(found, mean_power_w=found.mean_power_w / ratio)))])

    assert len(measured(1.04)) == len(measured(0.96)) == 1
    assert measured(1.07)[1] == "WARNING: energy over mean power times seconds is 1.07 (VAR-d16), not 1"
    assert measured(0.93)[1] == "WARNING: energy over mean power times seconds is 0.93 (VAR-d16), not 1"


def test_stages_that_do_not_add_up_are_named_by_column_and_round_from_3_percent_on() -> None:
    def with_sums(model: ModelResult, *seconds: float) -> ModelResult:
        return with_findings(model, [Findings(stages=stages(1.0, stage("backbone", each))) for each in seconds])

    assert list_cost_notes([with_sums(ONE, 1.029, 0.971, 1.0), with_sums(OTHER, 1.0, 1.0, 1.0)]) == []
    assert list_cost_notes([with_sums(ONE, 1.076, 0.924, 1.0)]) == [
        "Stages: their sum is 1.076 of the latency of unwatched calls (VAR-d16, round 1), 0.924 (VAR-d16, round 2), "
        "not within 0.97 to 1.03: read their shares, not their seconds"
    ], "the mean over rounds would hide it"
    assert list_cost_notes([with_sums(ONE, 1.0, 0.924, 1.0), with_sums(PIXART_ROUNDS, 1.0, 1.0, 1.0)]) == [
        "Stages: their sum is 0.924 of the latency of unwatched calls (VAR-d16, round 2), not within 0.97 to 1.03: "
        "read their shares, not their seconds"
    ]


PIXART_ROUNDS = with_rounds(PIXART, 1.0, 1.0, 1.0)


def test_a_sum_is_named_only_where_it_is_further_off_than_so_few_calls_vary() -> None:
    """Five watched calls: calls that vary by 10 % explain 2 x 10 % x sqrt(2/5), 12.6 %."""

    def lines(call_variation: float, ratio: float) -> list[str]:
        # Calls that go up and down by d differ by 2 d each time: by that, they vary by d times the square root of two.
        d = call_variation / math.sqrt(2)
        rounds = (timed_round(0, *(1 + d * (-1) ** number for number in range(400))),)
        model = replace(VAR, rounds=rounds)
        return list_cost_notes([with_findings(model, [Findings(stages=stages(1.0, stage("backbone", ratio)))])])

    assert len(lines(0.01, 1.05)) == len(lines(0.01, 0.95)) == 1, "a calm column"
    assert lines(0.1, 1.05) == lines(0.1, 0.95) == lines(0.1, 1.12) == []
    assert len(lines(0.1, 1.14)) == len(lines(0.1, 1.6)) == 1, "noise does not explain it"


def test_a_drift_of_the_process_hides_no_sum_that_is_off() -> None:
    drifting = replace(VAR, rounds=(timed_round(0, *(1 + 0.05 * number for number in range(25))),))
    off = Findings(stages=stages(1.0, stage("backbone", 1.05)))
    assert len(list_cost_notes([with_findings(drifting, [off])])) == 1


def test_passes_without_a_figure_have_a_line_for_each_reason() -> None:
    on_cpu = {"memory": "no GPU", "energy": "no GPU"}
    models = [every(ONE, Findings(unmeasured=on_cpu)), every(OTHER, Findings(unmeasured=on_cpu | {"stages": "of one"}))]
    lines = footer_lines(report(*models, rounds=3))
    assert "Not measured: memory, energy (no GPU)" in lines
    assert "Not measured for SDXL: stages (of one)" in lines


def test_a_pass_that_failed_in_some_rounds_is_named_with_these() -> None:
    failed = Findings(unmeasured={"energy": "OSError: gone"})
    found = [Findings(energy=energy(3.0)), failed, failed]
    lines = footer_lines(report(with_findings(ONE, found), rounds=3))
    assert "VAR-d16, rounds 2, 3: no energy: OSError: gone" in lines
    assert not any(line.startswith("Not measured") for line in lines)


def test_a_card_whose_state_was_not_read_is_named_with_the_reason() -> None:
    unread = replace(ONE.rounds[1], states=(replace(CARD, unread="no NVML library", card_uuid="", driver=""),))
    model = replace(ONE, rounds=(ONE.rounds[0], unread, ONE.rounds[2]))
    assert list_cost_notes([model]) == ["VAR-d16, round 2: state of the card not read: no NVML library"]


ASKED = ("stages", "memory", "energy")


def test_passes_that_were_asked_for_and_did_not_run_have_one_line_with_what_runs_them() -> None:
    some = Findings(energy=energy(3.0), unmeasured={"memory": "no GPU"})
    run = report(every(ONE, some), every(OTHER, some), rounds=3, passes=ASKED)
    assert "Not measured: stages (not run yet; ROUNDS=4 measures them)" in footer_lines(run)
    all_of_them = replace(run, passes=PASSES)
    assert "Not measured: stages, roofline (not run yet; ROUNDS=4 measures them)" in footer_lines(all_of_them)
    mixed = report(every(ONE, some), OTHER, every(PIXART_ROUNDS, some), rounds=3, passes=ASKED)
    assert [line for line in footer_lines(mixed) if "not run yet" in line] == [
        "Not measured: stages for VAR-d16 and PixArt; stages, memory, energy for SDXL (not run yet; ROUNDS=4 measures "
        "them)"
    ]


def test_passes_that_were_not_asked_for_or_that_the_same_command_still_runs_have_no_line() -> None:
    for asked in ((), ("energy",)):
        run = report(every(ONE, Findings(energy=energy(3.0))), rounds=3, passes=asked)
        assert not any(line.startswith("Not measured") for line in footer_lines(run))
    run = report(every(ONE, Findings()), rounds=4, passes=ASKED, interrupted=True)
    assert not any("not run yet" in line for line in footer_lines(run)), "a round is still to be timed"


def test_a_pass_that_ran_in_the_first_and_the_last_round_alone_has_no_line() -> None:
    found = Findings(stages=stages(1.0, stage("backbone", 1.0)), energy=energy(3.0), unmeasured={"memory": "no GPU"})
    run = report(with_findings(ONE, [found, Findings(), found]), rounds=3, passes=ASKED)
    assert [line for line in footer_lines(run) if "easured" in line] == ["Not measured: memory (no GPU)"]
