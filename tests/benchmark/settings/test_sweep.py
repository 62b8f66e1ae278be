"""SWEEP and DTYPE as a list: what is read, and what is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
from parsing import no_settings_in_the_environment as no_settings_in_the_environment
from parsing import parse, refusal

from benchmark.settings.axes import axes_of
from benchmark.settings.fields import Settings
from benchmark.settings.runtime import runtime_of


def swept(monkeypatch: pytest.MonkeyPatch, sweep: str, **variables: str) -> dict[str, tuple[Any, ...]]:
    settings = parse(monkeypatch, ["--sweep", sweep], {"WEIGHTS": "tiny", **variables})
    return {axis.setting: axis.values for axis in settings.swept()}


def refused(monkeypatch: pytest.MonkeyPatch, sweep: str, **variables: str) -> str:
    return refusal(monkeypatch, [], {"WEIGHTS": "tiny", "SWEEP": sweep, **variables})


def test_values_have_the_types_of_their_settings_wherever_blanks_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    text = " sdxl.steps = 4, 8 ;pixart.guidance=2,4.5;  sdxl . scheduler=euler ;"
    expected: dict[str, tuple[Any, ...]] = {
        "sdxl_steps": (4, 8), "pixart_guidance": (2.0, 4.5), "sdxl_scheduler": ("euler",),
    }  # fmt: skip
    found = swept(monkeypatch, text)
    assert found == expected
    assert list(found) == list(expected), "in the order of SWEEP, since the last one varies fastest"
    assert isinstance(found["pixart_guidance"][0], float)


def test_a_sweep_may_be_left_out_or_have_one_value(monkeypatch: pytest.MonkeyPatch) -> None:
    assert swept(monkeypatch, "") == {}
    assert swept(monkeypatch, "sdxl.steps=4") == {"sdxl_steps": (4,)}


def test_an_option_in_capitals_and_one_that_is_set_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert swept(monkeypatch, "sdxl.STEPS=4,8", SDXL_STEPS="8") == {"sdxl_steps": (4, 8)}


def test_a_sweep_is_the_last_of_the_axes(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse(monkeypatch, [], {"WEIGHTS": "tiny", "SWEEP": "sdxl.steps=4,8", "DTYPE": "float32,bfloat16"})
    assert [(axis.setting, axis.values) for axis in axes_of(settings)] == [
        ("mode", ("eager",)), ("dtype", ("float32", "bfloat16")), ("sdxl_steps", (4, 8)),
    ]  # fmt: skip


def test_a_name_of_one_depth_means_that_model_alone_and_a_key_all_of_the_family(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def concerned(sweep: str) -> list[str]:
        settings = parse(monkeypatch, ["--sweep", sweep, "--weights", "random", "--models", "var-d16,var-d30"], {})
        (axis,) = settings.swept()
        return [model.title for model in settings.selected_models() if axis.varies(model)]

    assert concerned("var-d30.cfg=2,4") == ["VAR-d30"]
    assert concerned("var.cfg=2,4") == ["VAR-d16", "VAR-d30"]


def test_a_model_of_the_hub_may_have_dots_and_slashes(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {"MODELS": "hub:org/name-1.0,hub:org/other", "SWEEP": "hub:org/name-1.0.steps=4,8"}
    settings = parse(monkeypatch, [], variables)
    (axis,) = settings.swept()
    assert [axis.varies(model) for model in settings.selected_models()] == [True, False]
    assert axis.values == (4, 8)


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ("sdxl.step=4", "sdxl has no option 'step'; there are model, config, steps,"),
        ("sdxl.step=4", "(did you mean steps?)"),
        ("sdxl.cfg=4", "(did you mean guidance?)"),
        ("sdlx.steps=4", "'sdlx' is no model; there are sdxl, var, pixart, infinity, hub (did you mean sdxl?)"),
        ("SDXL.steps=4", "(did you mean sdxl?)"),
        ("steps=4", "steps names no model; write model.option=value,value"),
        ("sdxl.steps", "sdxl.steps has no values; write model.option="),
        ("sdxl.steps=", "sdxl.steps has no values"),
        ("sdxl.steps=,", "sdxl.steps has no values"),
        ("sdxl.steps=4,,8", "has an empty value"),
        (";", "has no entries"),
        ("sdxl.steps=4,04", "sdxl.steps has 04 twice"),
        ("sdxl.steps=4;sdxl.steps=8", "names the same option twice (sdxl.steps)"),
        ("var.cfg=1;var-d16.cfg=2", "names the same option twice (var.cfg and var-d16.cfg)"),
        ("sdxl.steps=0", "sdxl.steps=0: input should be greater than or equal to 1 (denoising steps"),
        ("sdxl.steps=four", "sdxl.steps=four: input should be a valid integer"),
        ("sdxl.guidance=inf", "sdxl.guidance=inf: input should be a finite number"),
        ("sdxl.scheduler=euler,nope", "sdxl.scheduler=nope: there is no such scheduler"),
        ("pixart.lora=./nowhere", "pixart.lora=./nowhere: no LoRA in nowhere: there is no such folder"),
        ("var-d16.depth=16,30", "var-d16 says depth itself; write var.depth"),
        ("var-d30.cfg=1", "var-d30 is no column of this run, which has sdxl, var, pixart, infinity"),
        ("hub:org/name.steps=4", "hub:org/name is no column of this run"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, sweep: str, expected: str) -> None:
    text = refused(monkeypatch, sweep)
    assert text.startswith("SWEEP")
    assert expected in text


def test_a_model_that_the_run_leaves_out_is_no_column(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sdxl is no column of this run, which has var" in refused(monkeypatch, "sdxl.steps=4", MODELS="var")


def test_an_option_that_models_fixes_is_not_varied(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused(monkeypatch, "var.depth=20,24", WEIGHTS="random", MODELS="var-d16,var-d30")
    assert text == "SWEEP varies var.depth, but MODELS names var-d16: drop one of them"


def test_values_that_exclude_each_other_are_refused_though_the_settings_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = refused(monkeypatch, "sdxl.guidance=7,0", SDXL_NEGATIVE_PROMPT="blur")
    assert text.startswith("SWEEP: SDXL with guidance=0.0: SDXL_NEGATIVE_PROMPT reaches nothing with SDXL_GUIDANCE=0")
    assert swept(monkeypatch, "sdxl.guidance=7,2", SDXL_NEGATIVE_PROMPT="blur") == {"sdxl_guidance": (7.0, 2.0)}
    text = refused(monkeypatch, "var.depth=16,30")
    assert text.startswith("SWEEP: VAR-d16 with depth=30: VAR_DEPTH=30: WEIGHTS=tiny has a single VAR")


def test_a_swept_option_has_to_reach_each_model_that_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused(monkeypatch, "sdxl.model=a/b,c/d")
    assert "SDXL_MODEL=a/b reaches no column: SDXL: WEIGHTS=tiny reads the embedded weights" in text


def test_several_dtypes_are_a_list_and_auto_stands_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse(monkeypatch, [], {}).dtype == ("auto",)
    assert parse(monkeypatch, ["--dtype", "float32, bfloat16"], {}).dtype == ("float32", "bfloat16")
    assert refusal(monkeypatch, ["--dtype", "auto,float32"], {}) == "DTYPE=auto,float32: auto must stand alone"
    assert refusal(monkeypatch, ["--dtype", "float16,float16"], {}) == "DTYPE=float16,float16: each dtype at most once"
    assert "float9" in refusal(monkeypatch, ["--dtype", "float32,float9"], {})


def test_a_model_is_loaded_in_its_columns_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = parse(monkeypatch, [], {"DTYPE": "float32,bfloat16"})
    loaded = [runtime_of(at_dtype(settings, dtype), "eager").dtype for dtype in settings.dtype]
    assert loaded == ["float32", "bfloat16"]


def at_dtype(settings: Settings, dtype: str) -> Settings:
    return settings.model_copy(update={"dtype": (dtype,)})


def test_what_makes_one_configuration_refuses_several(monkeypatch: pytest.MonkeyPatch) -> None:
    parse(monkeypatch, [], {"DTYPE": "bfloat16"}).refuse_sweep("it")
    for variable, value in {"DTYPE": "float32,bfloat16", "SWEEP": "sdxl.steps=4"}.items():
        settings = parse(monkeypatch, [f"--{variable.lower()}", value], {})
        with pytest.raises(ValueError, match=f"^{variable}={value}: it takes one"):
            settings.refuse_sweep("it")
