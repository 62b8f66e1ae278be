"""An interrupted sweep: which of the columns that it did not come to hold up a verdict."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.run_data import Data
from benchmark.measure.machine import Machine
from benchmark.report.model_result import ModelResult, Round
from benchmark.report.results import RunResult
from benchmark.run.columns import Column, choose_models, plan_columns
from benchmark.run.summary import describe_run
from benchmark.settings.fields import settings_class

MACHINE = Machine("cpu", "float32", "CPU", {"torch": "2"})
DATA = Data(PromptSet("Robots", "robots", (), (Prompt(0, "a robot"),), exhausted=True))
GIVEN: dict[str, Any] = {
    "WEIGHTS": "tiny", "MODELS": "sdxl,var,pixart", "SWEEP": "sdxl.steps=2,4;var.cfg=1,2", "SDXL_STEPS": 2,
    "VAR_CFG": 1.0, "ROUNDS": 3, "DTYPE": "float32,bfloat16", "OUTPUT_DIR": Path("nowhere"),
}  # fmt: skip
SETTINGS = settings_class()(**GIVEN)
COLUMNS = plan_columns(SETTINGS, choose_models(SETTINGS, "Robots", lambda _: None), MACHINE)


def result(column: Column) -> ModelResult:
    """Return a column with three rounds; each column is slower than those before it."""
    seconds = 1.0 + COLUMNS.index(column)
    first = Round(
        0, ("00000000",), (seconds, 1.01 * seconds), images=2, complete=True, equal=0, compared=0, load_s=1.0,
        first_call_s=1.0, warmup_s=1.0, warmup_agreed=True,
    )  # fmt: skip
    return ModelResult(
        column.title, column.mode, 1, 64, 1, 2, 2, tuple(replace(first, number=number) for number in range(3)), None,
        (), "", axes=column.key.axes, model=column.name, is_default=column.is_default,
    )  # fmt: skip


def interrupted_before(*titles: str) -> RunResult:
    made: Sequence[Column] = [column for column in COLUMNS if column.title not in titles]
    started = datetime.datetime.now().astimezone()
    return describe_run(SETTINGS, MACHINE, DATA, [result(column) for column in made], {}, started, True, COLUMNS)


def rules(run: RunResult) -> dict[str, str]:
    return {verdict.group: verdict.reason for verdict in run.verdicts if verdict.question == "speed"}


def test_a_configuration_beside_the_default_holds_up_no_verdict() -> None:
    run = interrupted_before("SDXL (steps 4, float32)", "VAR-d16 (cfg 2, bfloat16)")
    assert run.not_started == ("SDXL (steps 4, float32)", "VAR-d16 (cfg 2, bfloat16)")
    assert rules(run) == {"float32": "", "bfloat16": ""}
    assert [verdict.winner for verdict in run.verdicts if verdict.question == "speed"] == [
        "SDXL (steps 2, float32)", "SDXL (steps 2, bfloat16)",
    ]  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_default_configuration_holds_up_the_verdict_of_its_dtype(dtype: str) -> None:
    missing = f"SDXL (steps 2, {dtype})"
    other = {"float32": "bfloat16", "bfloat16": "float32"}[dtype]
    assert rules(interrupted_before(missing)) == {dtype: f"{missing} has 0 of 3 rounds", other: ""}
