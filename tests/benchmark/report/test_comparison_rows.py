"""What two runs are compared by: which columns belong together, what differs, what is refused, and who wins."""

from __future__ import annotations

from dataclasses import replace

import pytest
from comparison_cases import a_run, kid, model
from costs_cases import energy, with_findings

from benchmark.measure.findings import Findings, MachineState
from benchmark.report.comparison.differences import find_differences
from benchmark.report.comparison.pairing import pair_columns
from benchmark.report.comparison.rows import Row, compare_columns
from benchmark.report.results import RunResult


def rows_of(old: RunResult, new: RunResult, across_machines: bool = False) -> dict[str, Row]:
    """Return the rows of the only pair by figure."""
    columns = pair_columns(old, new)
    assert len(columns.pairs) == 1
    return {row.figure: row for row in compare_columns(old, new, columns.pairs, across_machines)}


def differing(old: RunResult, new: RunResult) -> dict[str, tuple[str, str]]:
    found = find_differences(old, new, pair_columns(old, new).pairs)
    return {each.what: (each.old, each.new) for each in found}


def names(old: RunResult, new: RunResult) -> tuple[list[str], tuple[str, ...], tuple[str, ...]]:
    columns = pair_columns(old, new)
    return [pair.name for pair in columns.pairs], columns.only_old, columns.only_new


def test_columns_belong_together_by_their_keys_whatever_their_titles_and_places() -> None:
    old = a_run(model("SDXL"), model("VAR-d16"))
    new = a_run(model("VAR-d16"), replace(model("SDXL"), name="SDXL (eager)"))
    assert names(old, new) == (["VAR-d16", "SDXL -> SDXL (eager)"], (), ())


def test_columns_of_one_run_alone_are_listed() -> None:
    compiled = replace(model("SDXL"), name="SDXL (compiled)", mode="compiled", axes={"MODE": "compiled"})
    assert names(a_run(model("SDXL"), compiled), a_run(model("SDXL"), model("VAR-d16"))) == (
        ["SDXL"], ("SDXL (compiled)",), ("VAR-d16",),
    )  # fmt: skip


def test_a_column_with_other_options_is_compared_with_the_one_of_its_title_and_the_option_is_told() -> None:
    old, new = a_run(model("SDXL")), a_run(replace(model("SDXL"), options={"SDXL_STEPS": "10"}))
    assert names(old, new) == (["SDXL"], (), ())
    assert differing(old, new) == {"SDXL_STEPS": ("20", "10")}


def test_of_several_columns_of_a_model_none_is_guessed_at() -> None:
    def steps(count: int) -> object:
        return replace(model("SDXL"), name=f"SDXL (steps {count})", options={"SDXL_STEPS": str(count)})

    old, new = (a_run(*(steps(count) for count in counts)) for counts in ((4, 8), (8, 20, 12)))  # type: ignore[arg-type]
    assert names(old, new) == (["SDXL (steps 8)"], ("SDXL (steps 4)",), ("SDXL (steps 20)", "SDXL (steps 12)"))
    old, new = (a_run(*(steps(count) for count in counts)) for counts in ((4, 12), (4, 20)))  # type: ignore[arg-type]
    assert names(old, new) == (["SDXL (steps 4)"], ("SDXL (steps 12)",), ("SDXL (steps 20)",))
    old, new = a_run(steps(12)), a_run(steps(20))  # type: ignore[arg-type]
    assert names(old, new) == (["SDXL (steps 12) -> SDXL (steps 20)"], (), ())


def test_the_same_run_differs_in_nothing_and_ties_in_everything() -> None:
    run = a_run(model(scores=[kid(0.01)]))
    assert differing(run, run) == {}
    assert {figure: row.outcome for figure, row in rows_of(run, run).items()} == {"latency": "TIE", "kid": "TIE"}


def test_what_differs_is_told_of_machine_versions_data_settings_columns_and_scores() -> None:
    old = a_run(model(scores=[kid(0.01)]), settings={"OUTPUT_DIR": "a", "WARMUP": "3"})
    new = a_run(
        replace(model(card="GPU-2", scores=[kid(0.01, identity="other", n_generated=512)]), batch_size=8), seed=43,
        settings={"OUTPUT_DIR": "b", "WARMUP": "5"}, versions={"torch": "3"}, dtype="float16", device="H200",
        prompts_identity="p2", reference_identity="r2",
    )  # fmt: skip
    assert differing(old, new) == {
        "device": ("a GPU", "H200"), "card": ("GPU-1", "GPU-2"), "torch": ("2", "3"),
        "dtype": ("bfloat16", "float16"), "prompts": ("prompts", "p2"), "references": ("references", "r2"),
        "SEED": ("42", "43"), "WARMUP": ("3", "5"), "batch size": ("1", "8"),
        "identity of KID": ("inception", "other"), "images of KID": ("256 against 2000", "512 against 2000"),
    }  # fmt: skip


def test_a_driver_that_changed_is_told() -> None:
    old, new = a_run(model()), a_run(model())
    rounds = [
        replace(made, states=tuple(replace(state, driver="600.1") for state in made.states))
        for made in new.models[0].rounds
    ]
    new = replace(new, models=(replace(new.models[0], rounds=tuple(rounds)),))
    assert differing(old, new) == {"driver": ("570.86", "600.1")}


def test_who_is_faster_is_said_with_the_ratio_and_how_many_rounds_decided() -> None:
    slow = a_run(model(means_s=(1.1, 1.101, 1.099)))
    row = rows_of(a_run(model()), slow)["latency"]
    assert (row.outcome, row.winner, row.rounds) == ("WIN", "old", (4, 3))
    assert row.change == pytest.approx(1.1, rel=1e-3)
    assert row.interval is not None
    assert row.interval[0] < 1.1 < row.interval[1]
    assert rows_of(slow, a_run(model()))["latency"].winner == "new"


def test_rounds_that_are_incomplete_or_disturbed_do_not_count() -> None:
    good = model(means_s=(1.0, 1.001, 0.999, 5.0, 5.0))
    rounds = list(good.rounds)
    rounds[3] = replace(rounds[3], complete=False)
    rounds[4] = replace(rounds[4], states=(replace(rounds[4].states[0], other_processes=("1 other",)),))
    row = rows_of(a_run(model()), a_run(replace(good, rounds=tuple(rounds))))["latency"]
    assert (row.rounds, row.outcome) == ((4, 3), "TIE")
    row = rows_of(a_run(model()), a_run(replace(good, rounds=tuple(rounds[1:]))))["latency"]
    assert (row.outcome, row.interval) == (None, None)
    assert row.reason == "fewer than 3 rounds count: 4 of the old run and 2 of the new one"


def test_speeds_of_two_cards_are_refused_and_with_the_flag_compared_and_marked() -> None:
    old, new = a_run(model(scores=[kid(0.01)])), a_run(model(card="GPU-2", scores=[kid(0.01)]))
    rows = rows_of(old, new)
    assert (rows["latency"].outcome, rows["latency"].change, rows["kid"].outcome) == (None, None, "TIE")
    assert rows["latency"].reason.startswith("timed on two cards or machines")
    row = rows_of(old, new, across_machines=True)["latency"]
    assert (row.outcome, row.across_machines) == ("TIE", True)
    assert not rows_of(old, old)["latency"].across_machines


def test_where_the_card_is_not_known_the_devices_name_stands_for_it() -> None:
    old, new = a_run(model(card=None)), a_run(model(card=None))
    assert rows_of(old, new)["latency"].outcome == "TIE"
    assert rows_of(old, replace(new, device="another GPU"))["latency"].outcome is None
    assert rows_of(old, a_run(model(card="GPU-1")))["latency"].outcome == "TIE", "one run alone knows its card"


def test_energy_is_a_ratio_without_an_interval_and_is_refused_with_the_speed() -> None:
    def measured(joules: float, card: str = "GPU-1") -> RunResult:
        return a_run(with_findings(model(card=card), [Findings(energy=energy(joules))] * 4))

    row = rows_of(measured(100.0), measured(110.0))["energy"]
    assert (row.old, row.new, row.change, row.outcome) == (100.0, 110.0, pytest.approx(1.1), None)
    assert row.reason == "its interval is not known"
    assert rows_of(measured(100.0), measured(110.0, "GPU-2"))["energy"].change is None
    assert rows_of(measured(100.0), a_run(model()))["energy"].reason == "the new run has no figure"


def test_memory_is_compared_of_two_cards_too() -> None:
    old, new = (a_run(model(card=card, peak_memory_bytes=count)) for card, count in (("GPU-1", 2), ("GPU-2", 3)))
    assert rows_of(old, new)["memory"].change == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("changes", "of_run", "reason"),
    [
        ({"identity": "other"}, {}, "the scores are of different identities"),
        ({"n_generated": 512}, {}, "the scores are of different numbers of images"),
        ({"n_reference": 100}, {}, "the scores are of different numbers of images"),
        ({"value": float("nan")}, {}, "the score of the new run is no number"),
        ({}, {"reference_identity": "r2"}, "the scores are against references that are not known to be the same"),
        ({}, {"reference_identity": ""}, "the scores are against references that are not known to be the same"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_even_across_machines(
    changes: dict[str, object], of_run: dict[str, object], reason: str
) -> None:
    old, new = a_run(model(scores=[kid(0.01)])), a_run(model(scores=[replace(kid(0.02), **changes)]), **of_run)  # type: ignore[arg-type]
    row = rows_of(old, new, across_machines=True)["kid"]
    assert (row.change, row.interval, row.outcome, row.reason) == (None, None, None, reason)


def test_references_that_no_run_tells_are_not_taken_for_the_same() -> None:
    run = a_run(model(scores=[kid(0.01)]), reference_identity="")
    assert rows_of(run, run)["kid"].outcome is None
    run = a_run(model(scores=[kid(0.01, n_reference=0)]), reference_identity="")
    assert rows_of(run, run)["kid"].outcome == "TIE", "a score without references needs none"


def test_scores_are_paired_only_where_prompts_and_seeds_are_the_same() -> None:
    old = a_run(model(scores=[kid(0.01, seed=1)]))
    new = model(scores=[kid(0.01, seed=2)])
    assert rows_of(old, a_run(new))["kid"].pairing == "paired"
    assert rows_of(old, a_run(new, seed=43))["kid"].pairing == "reference paired"
    assert rows_of(old, a_run(new, prompts_identity="others"))["kid"].pairing == "reference paired"
    unknown = a_run(new, prompts_identity="")
    assert rows_of(unknown, unknown)["kid"].pairing == "reference paired", "prompts that are not known make no pairs"


def test_who_is_better_follows_from_which_values_of_the_score_are() -> None:
    def row(old: float, new: float, **changes: object) -> Row:
        runs = [a_run(model(scores=[kid(value, **changes)])) for value in (old, new)]  # type: ignore[arg-type]
        return rows_of(*runs)["kid"]

    assert (row(0.01, 0.02).outcome, row(0.01, 0.02).winner) == ("WIN", "old")
    assert row(0.01, 0.02, better="higher").winner == "new"
    assert row(0.02, 0.01).winner == "new"
    assert row(0.01, 0.02).change == pytest.approx(0.01)


def test_a_score_of_one_run_alone_is_shown_and_not_compared() -> None:
    rows = rows_of(a_run(model(scores=[kid(0.01)])), a_run(model()))
    assert (rows["kid"].old, rows["kid"].new, rows["kid"].reason) == (0.01, None, "the new run has no such score")


def busy(run: RunResult, *numbers: int, cores: float = 1.0, card: str = "") -> RunResult:
    """Return a run of one column in whose rounds other work kept so many of four cores busy."""
    rounds = list(run.models[0].rounds)
    for number in numbers:
        state = MachineState(0.0, card_uuid=card, cpu_cores=4, other_cpu_cores=cores)
        rounds[number] = replace(rounds[number], states=(state,))
    return replace(run, models=(replace(run.models[0], rounds=tuple(rounds)),))


def test_on_a_cpu_a_round_beside_other_work_is_not_held_against_another_run() -> None:
    run = a_run(model(means_s=(1.0, 1.001, 0.999, 2.0), card=None))
    row = rows_of(run, busy(run, 3))["latency"]
    assert (row.rounds, row.reason) == ((4, 3), "")
    row = rows_of(run, busy(run, 2, 3))["latency"]
    assert (row.rounds, row.outcome) == ((4, 2), None)
    assert row.reason.endswith("2 of the new one; 0 and 2 were beside other work on the CPU")
    assert rows_of(run, busy(run, 2, 3, cores=0.1))["latency"].rounds == (4, 4)


def test_beside_a_gpu_other_work_on_the_cpu_leaves_rounds_as_they_are() -> None:
    run = a_run(model(means_s=(1.0, 1.001, 0.999, 1.0)))
    row = rows_of(run, busy(run, 0, 1, 2, 3, cores=4.0, card="GPU-1"))["latency"]
    assert (row.rounds, row.outcome) == ((4, 4), "TIE")
