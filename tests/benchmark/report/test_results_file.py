"""results.json: what is read back is what was written, and a file of another form is refused by what differs."""

from __future__ import annotations

import json
import math
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from report_cases import PIXART, SDXL, VAR, report, run_with, timed_round, with_scores

from benchmark.report.results import Bulk, RunResult, read_results, write_results
from benchmark.report.table import format_report
from files.records import read_record, write_record

SINGLE = replace(VAR, rounds=(timed_round(0, 1.5),))


def test_json_keeps_the_raw_latencies_of_every_round_and_has_a_schema_version(tmp_path: Path) -> None:
    write_results(report(SDXL, SINGLE), tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["schema_version"] == 5
    assert [found["latencies_s"] for found in content["models"][0]["rounds"]] == [
        list(found.latencies_s) for found in SDXL.rounds
    ]
    assert content["models"][1]["latency_s"]["std"] is None, "one batch has no spread, and JSON has no NaN"
    assert content["models"][1]["round_spread"] is None, "nor has one round"


def eventful_run() -> RunResult:
    """Return a run with everything that a report can say."""
    warned = replace(
        with_scores(VAR, 64, 0.0300), warnings=("copies",), notes=("a note", "another"), images=30,
        bulk=Bulk((16, 8), 28, 7.0, 4.0, ((1, 0.5), (2, 0.375))), looks=(3, 4),
        rounds=(timed_round(0, 1.5, 1.6), timed_round(1, 1.25, complete=False, equal=0, warmup_agreed=False)),
    )  # fmt: skip
    adapted = replace(
        with_scores(PIXART, 64, 0.0300), name="PixArt+LoRA", baseline="PixArt", family="pixart",
        options={"STEPS": "20"}, axes={"MODE": "eager"}, peak_memory_bytes=123,
    )  # fmt: skip
    classes = replace(SDXL, mode="compiled", class_conditional=True, scores=(), unscored={"fid": "no reference images"})
    return report(
        warned, with_scores(PIXART, 64, 0.0321), adapted, classes, failures={"Infinity": "no weights"}, num_samples=30,
        dataset_note="; a note", settings={"SEED": "0"}, interrupted=True, stop_status=143,
    )  # fmt: skip


@pytest.mark.parametrize(
    "run",
    [
        report(SDXL, VAR),
        report(SINGLE),
        report(failures={"SDXL": "no weights"}),
        report(*(replace(model, scores=(), unscored={"fid": "random weights"}) for model in (SDXL, VAR)),
               weights="random", no_quality="random weights"),
        eventful_run(),
    ],
    ids=["two columns", "one batch", "no result", "random weights", "eventful"],
)  # fmt: skip
def test_what_is_read_is_the_run_that_was_written_and_prints_the_same(tmp_path: Path, run: RunResult) -> None:
    path = tmp_path / "results.json"
    write_results(run, path)
    found = read_results(str(path))
    assert found == run
    assert format_report(found) == format_report(run)
    assert type(found.models) is tuple
    assert all(type(made.latencies_s) is tuple for model in found.models for made in model.rounds)


def test_a_figure_that_is_no_number_is_null_then_none_and_printed_as_before(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    odd = replace(
        with_scores(VAR, 64, 0.03).scores[1], value=math.nan, interval=(math.nan, 0.1), floor=math.inf,
        replicates={"generated": (math.nan, 0.1)},
    )  # fmt: skip
    cold = tuple(replace(found, first_call_s=math.nan) for found in VAR.rounds)
    run = report(replace(VAR, scores=(odd,), rounds=cold, mode="compiled"), with_scores(SDXL, 64, 0.04))
    write_results(run, path)
    assert "NaN" not in path.read_text(encoding="utf-8")
    found = read_results(path)
    as_read = replace(odd, value=None, interval=(None, 0.1), floor=None, replicates={"generated": (None, 0.1)})
    cold = tuple(replace(made, first_call_s=None) for made in cold)  # type: ignore[arg-type]
    assert found == replace(run, models=(replace(run.models[0], scores=(as_read,), rounds=cold), run.models[1]))
    assert format_report(found) == format_report(run)
    assert "nan" not in format_report(run)
    write_results(found, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_the_verdicts_in_the_file_are_printed_not_decided_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(report(SDXL, VAR), path)
    content = read_record(path)
    assert content["verdicts"][0]["outcome"] == "WIN"
    content["verdicts"][0]["winner"] = "SDXL"
    write_record(path, content)
    assert "Speed Winner: SDXL (1.8x faster)" in format_report(read_results(path))


def test_figures_that_follow_from_others_are_computed_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(report(SDXL, VAR), path)
    content = read_record(path)
    content["models"][0]["throughput_per_s"] = 1000.0
    del content["models"][1]["latency_s"]
    write_record(path, content)
    assert read_results(path) == report(SDXL, VAR)


def test_a_field_that_an_earlier_file_lacks_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(report(replace(VAR, family="var", axes={"MODE": "eager"})), path)
    content = read_record(path)
    del content["models"][0]["family"], content["models"][0]["axes"]
    write_record(path, content)
    assert read_results(path) == report(VAR)


def test_damaged_bytes_are_seen_or_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    path = tmp_path / "results.json"
    write_results(run_with("a"), path)
    whole, right = path.read_bytes(), read_results(path)
    draw = random.Random(3)
    told: list[str] = []
    for _ in range(300):
        damaged = bytearray(whole)
        for _ in range(draw.randint(1, 3)):
            damaged[draw.randrange(len(damaged))] = draw.randrange(256)
        path.write_bytes(damaged[: draw.choice((len(damaged), draw.randrange(len(damaged))))])
        try:
            found = read_results(path)
        except ValueError as error:
            told.append(str(error))
        else:
            assert found == right
    assert len(told) > 250
    assert all(text.startswith(str(path)) and "\n" not in text for text in told)


def first_round(content: dict[str, Any], model: int) -> dict[str, Any]:
    found: dict[str, Any] = content["models"][model]["rounds"][0]
    return found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content.update(schema_version=3), "schema_version 3, and .* reads 5; run the "),
        (lambda content: content.update(schema_version=6), "schema_version 6, and .* reads 5; run the "),
        (lambda content: content.update(schema_version=True), "schema_version True"),
        (lambda content: content.pop("schema_version"), "schema_version None"),
        (lambda content: content.update(program="other"), "is not of text-to-image-benchmark"),
        (lambda content: content.pop("models"), r": models is missing"),
        (lambda content: content.update(models={}), "models is an object instead of a list"),
        (lambda content: content.update(num_samples=True), "num_samples is a boolean instead of an integer"),
        (lambda content: content.update(weights="heavy"), "weights is 'heavy' instead of one of 'pre"),
        (lambda content: content["failures"].update(SDXL=None), "failures.SDXL is null instead of a string"),
        (lambda content: content["models"].append(None), r"models\[2\] is null instead of an object"),
        (lambda content: content["models"][0].pop("parameters"), r"models\[0\]\.parameters is missing"),
        (lambda content: content["models"][1].update(speed=1), r"models\[1\]\.speed is not a known field"),
        (lambda content: first_round(content, 0).update(latencies_s=[-1.0]), r"models\[0\].* not all numbers above 0"),
        (lambda content: first_round(content, 1).update(latencies_s=[]), r"models\[1\].* not all numbers above 0"),
        (lambda content: first_round(content, 0).update(latencies_s=[None]), "not all numbers above 0"),
        (lambda content: first_round(content, 0).update(load_s="1"), r"\]\.load_s is a string instead of a number"),
        (lambda content: first_round(content, 0).update(load_s=10**400), r"ds\[0\]\.load_s is a number beyond any"),
        (lambda content: first_round(content, 0).update(number=1), r"models\[0\]\.rounds are not in order"),
        (lambda content: first_round(content, 0).update(number=-1), r"models\[0\]\.rounds are not in order"),
        (lambda content: first_round(content, 0).update(equal=1), r"models\[0\]\.rounds\[0\]: 1 of 0 images cannot"),
        (lambda content: content["models"][1].update(rounds=[]), r"models\[1\]\.rounds is empty"),
        (lambda content: content["models"][0]["bulk"].update(batch_sizes=[]), r"models\[0\]\.bulk has no batch size"),
        (lambda content: content["models"][0]["bulk"].update(images_per_s=None), "its images_per_s is not a number"),
        (lambda content: content["models"][0]["scores"][0].update(key=1), r"\[0\]\.scores\[0\]\.key is an integer"),
        (lambda content: content["models"][0]["scores"][0].update(interval=[1]), r"interval has 1 values instead of 2"),
        (lambda content: content["verdicts"][0].update(outcome="WON"), r"verdicts\[0\]\.outcome is 'WON' instead of"),
    ],
)  # fmt: skip
def test_results_of_another_form_are_refused_by_what_differs(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    path = tmp_path / "results.json"
    write_results(run_with("a"), path)
    content = read_record(path)
    change(content)
    write_record(path, content)
    with pytest.raises(ValueError, match=words) as caught:
        read_results(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_another_version_is_told_from_damage_whatever_its_checksum(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    path.write_text('{"program": "text-to-image-benchmark", "schema_version": 7, "checksum": "of another kind"}')
    with pytest.raises(ValueError, match="it has schema_version 7"):
        read_results(path)
    path.write_text('{"program": "text-to-image-benchmark", "schema_version": 5, "checksum": "of another kind"}')
    with pytest.raises(ValueError, match="its checksum does not fit"):
        read_results(path)


def test_results_that_are_not_there_are_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"results\.json"):
        read_results(tmp_path / "results.json")
