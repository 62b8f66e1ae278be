"""results.json keeps what passes found and the states of the machine, and refuses what cannot be such."""

from __future__ import annotations

import functools
import json
import operator
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from costs_cases import large_run, with_states

from benchmark.report.results import RunResult, read_results, write_results
from benchmark.report.table import format_report
from files.records import read_record, write_record

FIGURES = {
    "energy_j_per_image": 3.1, "images_per_kwh": 3.6e6 / 3.1, "throughput_per_s_per_joule": 1 / 0.00915 / 3.1,
    "energy_spread": 0.01, "peak_tensor_bytes": 1_480_000_000, "peak_reserved_bytes": 1_657_600_000,
    "matrix_share": 0.83e12 / 0.00915 / 6.9e14, "bandwidth_share": 6.1e9 / 0.00915 / 4.05e12,
    "stage_seconds": {"backbone": 0.0074, "decoder": 0.00169},
}  # fmt: skip


def full_run() -> RunResult:
    """Return a run with every finding and with states in which every field is set."""
    run = large_run()
    model = with_states(run.models[0], 1, other_processes=("python3 (4711)",), other_cpu_cores=1.5, unread="why")
    rounds = [*model.rounds[:2], replace(model.rounds[2], findings=replace(
        model.rounds[2].findings, energy=None, unmeasured={"energy": "a MIG slice"}
    ))]  # fmt: skip
    return replace(run, models=(replace(model, rounds=tuple(rounds)), *run.models[1:]))


def test_what_passes_found_and_the_states_of_the_machine_are_read_back(tmp_path: Path) -> None:
    run = full_run()
    write_results(run, tmp_path / "results.json")
    found = read_results(tmp_path / "results.json")
    assert found == run
    assert format_report(found) == format_report(run)


def test_figures_of_passes_are_in_the_file_with_their_units_and_computed_again_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(large_run(), path)
    content = json.loads(path.read_text(encoding="utf-8"))["models"][0]
    assert {name: content[name] for name in FIGURES} == {
        name: pytest.approx(figure, rel=1e-9) for name, figure in FIGURES.items()
    }
    record = read_record(path)
    for name in FIGURES:
        record["models"][0][name] = -1.0
        del record["models"][1][name]
    write_record(path, record)
    assert read_results(path) == large_run()


def first_findings(content: dict[str, Any]) -> Any:
    found: Any = content["models"][0]["rounds"][0]["findings"]
    return found


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("energy.joules_per_image", 0.0, "is not a number above 0"),
        ("energy.joules_per_image", None, "is not a number above 0"),
        ("energy.seconds", 0, "is not a number above 0"),
        ("energy.mean_power_w", 0.0, "is not a number above 0"),
        ("energy.source", "meter", "is 'meter' instead of one of 'counter'"),
        ("stages.timed_seconds", 0.0, "is not a number above 0"),
        ("stages.unwatched_seconds", 0.0, "is not a number above 0"),
        ("stages.batch_size", 0, "is not a number above 0"),
        ("stages.stages[0].seconds", -1.0, "is not a number from 0 on"),
        ("stages.stages[0].call_seconds[1]", None, "is not a number from 0 on"),
        ("stages.stages[0].name", "head", "is 'head' instead of one of 'text encoder'"),
        ("memory.peak_tensor_bytes", -1, "is not a number from 0 on"),
        ("memory.since", "noon", "is 'noon' instead of one of 'call'"),
        ("roofline.copy_bytes_per_s", 0.0, "is not a number above 0"),
        ("roofline.flops_per_image", -1.0, "is not a number from 0 on"),
        ("unmeasured.energy", 1, "is an integer instead of a string"),
        ("heat", 1, "is not a known field"),
    ],
)
def test_findings_from_which_nothing_can_be_computed_are_refused_by_their_place(
    tmp_path: Path, place: str, value: object, words: str
) -> None:
    path = tmp_path / "results.json"
    write_results(full_run(), path)
    content = read_record(path)
    *parents, last = [int(key) if key.isdigit() else key for key in re.findall(r"[^.[\]]+", place)]
    functools.reduce(operator.getitem, parents, first_findings(content))[last] = value
    write_record(path, content)
    with pytest.raises(ValueError, match=re.escape(f"models[0].rounds[0].findings.{place} {words}")):
        read_results(path)


def test_a_state_without_its_time_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(full_run(), path)
    content = read_record(path)
    content["models"][1]["rounds"][2]["states"][1]["unix_s"] = None
    write_record(path, content)
    with pytest.raises(ValueError, match=r"models\[1\]\.rounds\[2\]\.states\[1\]\.unix_s is not a number"):
        read_results(path)
