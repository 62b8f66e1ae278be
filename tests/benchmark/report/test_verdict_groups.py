"""Which columns a verdict compares: of each model its default configuration, in one mode and one dtype."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from report_cases import PIXART, SDXL, VAR

from benchmark.report.model_result import ModelResult
from benchmark.report.verdicts import Group, decide, format_verdict

QUESTIONS = 3


def at(model: ModelResult, mode: str = "eager", dtype: str = "float32", faster: float = 1.0) -> ModelResult:
    """Return the model's column of a mode and a dtype; its times are divided by `faster`."""
    rounds = tuple(
        replace(found, latencies_s=tuple(seconds / faster for seconds in found.latencies_s)) for found in model.rounds
    )
    name = f"{model.name} ({dtype}, {mode})"
    return replace(model, name=name, mode=mode, axes={"MODE": mode, "DTYPE": dtype}, rounds=rounds, model=model.name)


def swept(model: ModelResult, steps: int, faster: float = 1.0) -> ModelResult:
    found = replace(at(model, faster=faster), name=f"{model.name} (steps {steps})", is_default=False)
    return replace(found, scores=tuple(replace(score, value=score.value / 2) for score in found.scores))


def test_of_each_model_the_default_configuration_is_compared_alone() -> None:
    """A column of few steps is by far the fastest here, and one of many the best."""
    models = [at(SDXL), swept(SDXL, 1, 50.0), at(VAR), swept(VAR, 2, 90.0), swept(VAR, 3)]
    verdicts = decide(models, 4)
    assert verdicts == decide([at(SDXL), at(VAR)], 4)
    assert [verdict.winner for verdict in verdicts] == ["VAR-d16 (float32, eager)"] * QUESTIONS
    assert {name for verdict in verdicts for name in verdict.ranked} == {model.name for model in (at(SDXL), at(VAR))}


def test_other_configurations_that_failed_or_lack_rounds_hold_up_no_verdict() -> None:
    short = replace(swept(SDXL, 1), rounds=SDXL.rounds[:1])
    models = [at(SDXL), at(VAR), short]
    assert decide(models, 4, True, [swept(VAR, 2).name]) == decide([at(SDXL), at(VAR)], 4)


def test_columns_of_two_dtypes_are_no_pairs() -> None:
    models = [at(model, dtype=dtype) for dtype in ("float32", "bfloat16") for model in (SDXL, VAR, PIXART)]
    verdicts = decide(models, 4)
    assert [verdict.group for verdict in verdicts] == ["float32"] * QUESTIONS + ["bfloat16"] * QUESTIONS
    for verdict in verdicts:
        assert all(verdict.group in name for name in verdict.ranked)
    assert format_verdict(verdicts[3]).startswith("Speed Winner [bfloat16]: VAR-d16 (bfloat16, eager)")


def test_a_group_is_named_by_what_the_run_has_several_of() -> None:
    def groups(modes: tuple[str, ...], dtypes: tuple[str, ...]) -> list[str]:
        models = [at(model, *where) for where in product(modes, dtypes) for model in (SDXL, VAR)]
        return [verdict.group for verdict in decide(models, 4)[::QUESTIONS]]

    both_modes, both_dtypes = ("compiled", "eager"), ("float32", "bfloat16")
    assert groups(("compiled",), ("bfloat16",)) == [""]
    assert groups(both_modes, ("bfloat16",)) == ["eager", "compiled"]
    assert groups(("eager",), both_dtypes) == ["float32", "bfloat16"]
    assert groups(both_modes, both_dtypes) == [
        "eager, float32", "eager, bfloat16", "compiled, float32", "compiled, bfloat16",
    ]  # fmt: skip


@pytest.mark.parametrize("lacking", [Group("eager", "float32"), Group("eager", "bfloat16")])
def test_a_column_that_was_not_come_to_holds_up_its_own_group_alone(lacking: Group) -> None:
    models = [at(model, dtype=dtype) for dtype in ("float32", "bfloat16") for model in (SDXL, VAR)]
    verdicts = decide(models, 4, True, not_started={lacking: ["PixArt"]})
    for verdict in (verdict for verdict in verdicts if verdict.question != "quality"):
        expected = ("incomplete rounds", "PixArt has 0 of 4 rounds") if verdict.group == lacking.dtype else None
        assert (verdict.rule == "incomplete rounds") == (expected is not None)
        assert expected is None or (verdict.rule, verdict.reason) == expected


def test_a_group_whose_defaults_have_no_result_has_no_verdict() -> None:
    assert decide([swept(SDXL, 1), swept(SDXL, 2)], 4) == ()
