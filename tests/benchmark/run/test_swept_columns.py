"""The columns of a sweep: their order, titles, folders, baselines, and which of them winner lines compare."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import models
from benchmark.measure.machine import Machine
from benchmark.run.columns import Column, choose_models, list_notes, plan_columns, trained_on
from benchmark.run.folders import place_columns
from benchmark.run.jobs import open_jobs
from benchmark.settings.fields import settings_class
from models.base import LoraVariant, ModelFamily, TrainingData, option

MACHINE = Machine("cpu", "float32", "CPU", {"torch": "2"})


@dataclass(frozen=True)
class Options:
    level: int = option(1, "brightness")
    lora: str = option("", "LoRA")
    lora_scale: float = option(1.0, "strength")


def variants(options: Options, _: Path | None) -> tuple[Options, LoraVariant | None]:
    """A LoRA's content is the last part of its path, and its training image is called likewise."""
    plain = dataclasses.replace(options, lora="", lora_scale=1.0)
    if not options.lora:
        return plain, None
    name = Path(options.lora).name
    seen = TrainingData(name, frozenset({name}), frozenset())
    return plain, LoraVariant(options, "lora", Path(options.lora), name, seen)


def no_generator(*_: object) -> Any:
    raise AssertionError("a plan loads nothing")


GREY = ModelFamily(
    "grey", Options, lambda options: "Grey+LoRA" if options.lora else "Grey", lambda *_: "made up", no_generator,
    variants=variants, lora_folder="grey_lora",
)  # fmt: skip


@pytest.fixture(autouse=True)
def a_family_with_a_lora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, GREY))


def plan(output: Path, sweep: str, machine: Machine | None = MACHINE, **given: Any) -> list[Column]:
    settings = settings_class()(WEIGHTS="tiny", OUTPUT_DIR=output, SWEEP=sweep, **given)
    return plan_columns(settings, choose_models(settings, "Robots", lambda _: None), machine)


def titles(columns: Sequence[Column]) -> list[str]:
    return [column.title for column in columns]


def defaults(columns: Sequence[Column]) -> list[str]:
    return [column.title for column in columns if column.is_default]


def folders(columns: Sequence[Column]) -> list[str]:
    return [folder.name for folder in place_columns(columns[0].settings.output_dir, columns)]


def claim(columns: Sequence[Column]) -> None:
    """Write the fingerprints of the columns as a run does."""
    for job in open_jobs(columns, MACHINE, "robots"):
        with job.journal.locked():
            pass


def test_each_model_has_a_column_for_each_combination_of_its_axes(tmp_path: Path) -> None:
    columns = plan(tmp_path, "sdxl.steps=4,8;sdxl.guidance=1.5,3;var.cfg=2,4", MODELS="sdxl,var,infinity", MODE="eager")
    assert titles(columns) == [
        "SDXL (steps 4, guidance 1.5)", "SDXL (steps 4, guidance 3)", "SDXL (steps 8, guidance 1.5)",
        "SDXL (steps 8, guidance 3)", "VAR-d16 (cfg 2)", "VAR-d16 (cfg 4)", "Infinity-2B",
    ]  # fmt: skip
    assert [column.model.options.steps for column in columns[:4]] == [4, 4, 8, 8]
    assert [column.key.options["SDXL_GUIDANCE"] for column in columns[:2]] == ["1.5", "3.0"]
    assert {column.name for column in columns} == {"SDXL", "VAR-d16", "Infinity-2B"}


def test_mode_and_dtype_vary_more_slowly_than_options(tmp_path: Path) -> None:
    columns = plan(tmp_path, "sdxl.steps=4,8", MODELS="sdxl", MODE="eager,compiled", DTYPE="float32,bfloat16")
    assert titles(columns) == [
        "SDXL (steps 4, float32)", "SDXL (steps 8, float32)", "SDXL (steps 4, bfloat16)", "SDXL (steps 8, bfloat16)",
        "SDXL (steps 4, float32, compiled)", "SDXL (steps 8, float32, compiled)",
        "SDXL (steps 4, bfloat16, compiled)", "SDXL (steps 8, bfloat16, compiled)",
    ]  # fmt: skip
    assert [(column.mode, column.dtype) for column in columns[1:8:2]] == [
        ("eager", "float32"), ("eager", "bfloat16"), ("compiled", "float32"), ("compiled", "bfloat16"),
    ]  # fmt: skip
    assert [column.settings.dtype for column in columns[:3:2]] == [("float32",), ("bfloat16",)]
    assert len({column.key.digest for column in columns}) == 8


def test_the_dtype_that_auto_became_is_in_the_key_and_none_before_that_is_known(tmp_path: Path) -> None:
    (column,) = plan(tmp_path, "", MODELS="sdxl")
    assert column.key.axes == {"MODE": "eager", "DTYPE": "float32"}
    (column,) = plan(tmp_path, "", None, MODELS="sdxl")
    assert (column.key.axes, column.dtype) == ({"MODE": "eager"}, "")


def test_the_run_s_own_value_is_the_default_in_each_mode_and_dtype(tmp_path: Path) -> None:
    given: dict[str, Any] = {"MODELS": "sdxl,var", "SDXL_STEPS": 8, "MODE": "eager,compiled"}
    columns = plan(tmp_path, "sdxl.steps=4,8,12", **given)
    assert defaults(columns) == ["SDXL (steps 8)", "SDXL (steps 8, compiled)", "VAR-d16", "VAR-d16 (compiled)"]
    assert list_notes(columns) == []


def test_the_first_value_stands_for_an_own_one_that_the_sweep_lacks_and_a_note_says_so(tmp_path: Path) -> None:
    columns = plan(tmp_path, "sdxl.steps=4,8;sdxl.guidance=1.5,3", MODELS="sdxl", MODE="eager,compiled", SDXL_STEPS=9)
    assert defaults(columns) == ["SDXL (steps 4, guidance 1.5)", "SDXL (steps 4, guidance 1.5, compiled)"]
    assert list_notes(columns) == ["Winner lines compare SDXL at steps 4: SWEEP lacks the run's own steps 9"]


def test_a_single_value_is_no_sweep_to_speak_of(tmp_path: Path) -> None:
    (column,) = plan(tmp_path, "sdxl.steps=4", MODELS="sdxl")
    assert (column.title, column.model.options.steps, column.is_default, column.note) == ("SDXL", 4, True, "")


def test_an_option_that_chooses_another_model_gives_models_with_a_default_each(tmp_path: Path) -> None:
    given = {"WEIGHTS": "random", "MODELS": "var"}
    settings = settings_class()(OUTPUT_DIR=tmp_path, SWEEP="var.depth=20,30;var.cfg=2,4", **given)
    columns = plan_columns(settings, choose_models(settings, "Robots", lambda _: None), MACHINE)
    assert titles(columns) == ["VAR-d20 (cfg 2)", "VAR-d20 (cfg 4)", "VAR-d30 (cfg 2)", "VAR-d30 (cfg 4)"]
    assert defaults(columns) == ["VAR-d20 (cfg 2)", "VAR-d30 (cfg 2)"]
    assert {column.name for column in columns} == {"VAR-d20", "VAR-d30"}


def test_two_folders_of_one_name_are_two_models_and_both_are_compared(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "x").mkdir(parents=True)
        (tmp_path / name / "x" / "model_index.json").write_text("{}")
    named = f"hub:{tmp_path}/a/x,hub:{tmp_path}/b/x"
    settings = settings_class()(OUTPUT_DIR=tmp_path / "out", MODELS=named, SWEEP="hub.steps=2,4", HUB_STEPS=4)
    columns = plan_columns(settings, choose_models(settings, "Robots", lambda _: None), MACHINE)
    assert [column.is_default for column in columns] == [False, True, False, True]


def test_the_strength_of_a_lora_varies_its_columns_alone(tmp_path: Path) -> None:
    columns = plan(tmp_path, "grey.level=1,2;grey.lora_scale=0.5,1", MODELS="grey", GREY_LORA="./a/one")
    assert titles(columns) == [
        "Grey (level 1)", "Grey (level 2)", "Grey+LoRA (level 1, lora scale 0.5)", "Grey+LoRA (level 1, lora scale 1)",
        "Grey+LoRA (level 2, lora scale 0.5)", "Grey+LoRA (level 2, lora scale 1)",
    ]  # fmt: skip
    assert [column.baseline for column in columns] == ["", "", *["Grey (level 1)"] * 2, *["Grey (level 2)"] * 2]
    assert defaults(columns) == ["Grey (level 1)", "Grey+LoRA (level 1, lora scale 1)"]


def test_each_mode_and_dtype_of_a_lora_has_its_own_baseline(tmp_path: Path) -> None:
    given = {"MODELS": "grey", "GREY_LORA": "./a/one", "MODE": "eager,compiled", "DTYPE": "float32,bfloat16"}
    columns = plan(tmp_path, "grey.lora_scale=0.5,1", **given)
    paired = {column.title: column.baseline for column in columns if column.lora is not None}
    assert len(paired) == 8
    assert paired["Grey+LoRA (lora scale 0.5, bfloat16, compiled)"] == "Grey (bfloat16, compiled)"
    assert paired["Grey+LoRA (lora scale 1, float32)"] == "Grey (float32)"


def test_several_loras_are_columns_with_the_same_baseline_and_all_that_they_have_seen_is_known(tmp_path: Path) -> None:
    settings = settings_class()(WEIGHTS="tiny", OUTPUT_DIR=tmp_path, MODELS="grey", SWEEP="grey.lora=./a/one,./b/two")
    chosen = choose_models(settings, "Robots", lambda _: None)
    columns = plan_columns(settings, chosen, MACHINE)
    assert titles(columns) == ["Grey", "Grey+LoRA (one)", "Grey+LoRA (two)"]
    assert [column.baseline for column in columns] == ["", "Grey", "Grey"]
    assert [column.key.options["GREY_LORA"] for column in columns] == ["", "LoRA one", "LoRA two"]
    assert trained_on(chosen) == {"Grey+LoRA": TrainingData("one, two", frozenset({"one", "two"}), frozenset())}


def test_the_same_lora_at_two_paths_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"two values that are the same column, Grey\+LoRA with lora ./b/one"):
        plan(tmp_path, "grey.lora=./a/one,./b/one", MODELS="grey")


def test_a_strength_without_a_lora_reaches_no_column(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"SWEEP: grey.lora_scale=0.5 reaches no column: Grey has no LoRA there"):
        plan(tmp_path, "grey.lora_scale=0.5,1", MODELS="grey")


def test_folders_are_called_by_what_a_sweep_varies(tmp_path: Path) -> None:
    given = {"MODELS": "sdxl", "MODE": "eager,compiled", "DTYPE": "float32,bfloat16"}
    assert folders(plan(tmp_path, "sdxl.guidance=2,3.5", **given))[::3] == [
        "SDXL-guidance-2-float32", "SDXL-guidance-3.5-bfloat16", "SDXL-guidance-2-bfloat16-compiled",
    ]  # fmt: skip
    (named, other) = folders(plan(tmp_path, "sdxl.negative_prompt=a/b?,c", MODELS="sdxl"))
    assert (named, other) == ("SDXL", "SDXL-negative-prompt-c"), "what no folder should be called is left out"


def test_a_column_is_found_again_whatever_sweep_made_it(tmp_path: Path) -> None:
    claim(plan(tmp_path, "", MODELS="sdxl", SDXL_STEPS="2"))
    assert folders(plan(tmp_path, "", MODELS="sdxl", SDXL_STEPS="2")) == ["SDXL"]
    swept = plan(tmp_path, "sdxl.steps=1,2", MODELS="sdxl")
    assert folders(swept) == ["SDXL-steps-1", "SDXL"], "a plain run has made the second one"
    claim(swept)
    assert folders(plan(tmp_path, "sdxl.steps=1,2,4", MODELS="sdxl")) == ["SDXL-steps-1", "SDXL", "SDXL-steps-4"]
    assert folders(plan(tmp_path, "sdxl.guidance=1.5,3;sdxl.steps=1", MODELS="sdxl"))[0] == "SDXL-steps-1"
    assert folders(plan(tmp_path, "", MODELS="sdxl", SDXL_STEPS="1")) == ["SDXL-steps-1"]
    assert folders(plan(tmp_path, "", MODELS="sdxl", DTYPE="bfloat16,float32", SDXL_STEPS="1"))[1] == "SDXL-steps-1"
