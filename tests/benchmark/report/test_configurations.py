"""What configurations are called in a sentence."""

from __future__ import annotations

from sweep_cases import configuration

from benchmark.report.configurations import configurations_of, describe, describe_beside, has_choice


def test_a_configuration_is_its_model_with_what_tells_it_from_the_others() -> None:
    steps = [configuration("PixArt", 1.0, 0.0, options={"steps": count, "guidance": 4.5}) for count in (20, 8)]
    assert [describe(column, steps) for column in steps] == ["PixArt at 20 steps", "PixArt at 8 steps"]
    assert describe_beside(steps[0], steps[1], steps) == "at 20"
    one = [configuration("PixArt", 1.0, 0.0, options={"steps": count}) for count in (2, 1)]
    assert describe(one[1], one) == "PixArt at 1 step"
    assert describe_beside(one[1], one[0], one) == "at 1"
    cfg = [configuration("VAR-d16", 1.0, 0.0, options={"cfg": value}) for value in (1.5, 4.0)]
    assert describe(cfg[0], [*steps, *cfg]) == "VAR-d16 at cfg 1.5"
    assert describe_beside(cfg[1], cfg[0], cfg) == "at cfg 4.0"
    assert describe_beside(cfg[1], steps[0], [*steps, *cfg]) == "VAR-d16 at cfg 4.0"


def test_a_mode_or_dtype_is_named_where_it_differs() -> None:
    modes = [configuration("SDXL", 1.0, 0.0, mode=mode) for mode in ("eager", "compiled")]
    assert [describe(column, modes) for column in modes] == ["SDXL eager", "SDXL compiled"]
    assert describe_beside(modes[0], modes[1], modes) == "eager"
    both = [
        configuration("PixArt", 1.0, 0.0, options={"steps": steps}, mode=mode)
        for steps in (20, 8) for mode in ("eager", "compiled")
    ]  # fmt: skip
    assert [describe(column, both) for column in both] == [
        "PixArt at 20 steps", "PixArt at 20 steps, compiled", "PixArt at 8 steps", "PixArt at 8 steps, compiled"
    ]  # fmt: skip
    assert describe_beside(both[0], both[3], both) == "at 20, eager"
    assert describe_beside(both[2], both[3], both) == "eager"
    dtypes = [configuration("SDXL", 1.0, 0.0, dtype=dtype) for dtype in ("float32", "bfloat16")]
    assert [describe(column, dtypes) for column in dtypes] == ["SDXL float32", "SDXL bfloat16"]


def test_a_model_with_one_configuration_is_called_by_its_name() -> None:
    alone = configuration("VAR-d16", 1.0, 0.0, options={"cfg": 4.0})
    others = [configuration("PixArt", 1.0, 0.0, options={"steps": steps}) for steps in (20, 8)]
    assert describe(alone, [alone, *others]) == "VAR-d16"
    assert has_choice([alone, *others])
    assert not has_choice([alone, others[0]])


def test_a_value_that_is_a_path_is_told_by_the_columns_title() -> None:
    loras = [
        configuration("PixArt", 1.0, 0.0, options={"lora": f"/data/{name}/x"}, name=f"PixArt ({name})") for name in "ab"
    ]
    assert describe(loras[0], loras) == "PixArt (a)"
    assert describe_beside(loras[1], loras[0], loras) == "PixArt (b)"


def test_models_of_one_name_from_two_folders_are_two_models() -> None:
    columns = [
        configuration(
            "x", 1.0, 0.0, options={"model": f"./{folder}/x", "steps": steps}, name=f"x ({folder}/x, {steps})"
        )
        for folder, steps in (("a", 20), ("b", 20))
    ]
    assert not has_choice(columns)
    more = configuration("x", 1.0, 0.0, options={"model": "./a/x", "steps": 8}, name="x (a/x, 8)")
    assert {name: len(alike) for name, alike in configurations_of([*columns, more]).items()} == {
        "x (a/x, 20)": 2, "x (b/x, 20)": 1,
    }  # fmt: skip


def test_a_slash_in_a_prompt_makes_no_model_of_its_own() -> None:
    columns = [
        configuration("SDXL", 1.0, 0.0, options={"negative_prompt": text}, name=f"SDXL ({text})")
        for text in ("blurry", "black/white")
    ]
    assert {name: len(alike) for name, alike in configurations_of(columns).items()} == {"SDXL": 2}
    assert describe(columns[1], columns) == "SDXL (black/white)"


def test_a_strength_is_named_in_words() -> None:
    strengths = [configuration("PixArt + LoRA", 1.0, 0.0, options={"lora_scale": value}) for value in (0.5, 1.0)]
    renamed = [
        column.__class__(**(column.__dict__ | {"family": "pixart", "options": {"PIXART_LORA_SCALE": scale}}))
        for column, scale in zip(strengths, ("0.5", "1.0"), strict=True)
    ]
    assert describe(renamed[0], renamed) == "PixArt + LoRA at LoRA scale 0.5"
