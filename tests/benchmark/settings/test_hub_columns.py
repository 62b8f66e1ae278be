"""Columns of `hub:`: what an option reaches, and what two folders of one name are called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmark.settings.column_key import ColumnKey
from benchmark.settings.fields import Settings, settings_class
from benchmark.settings.preconditions import check_reach
from benchmark.settings.titles import titles_of


def write(folder: Path, class_name: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name, "_diffusers_version": "0.42.1"}))
    return folder


def settings(*folders: Path, **more: Any) -> Settings:
    models = ",".join(f"hub:{folder}" for folder in folders)
    return settings_class()(MODELS=models, **{name.upper(): value for name, value in more.items()})


def test_an_option_that_reaches_no_column_is_refused_in_one_line(tmp_path: Path) -> None:
    klein = write(tmp_path / "klein", "Flux2KleinKVPipeline")
    check_reach(settings(klein, hub_steps=2))
    with pytest.raises(ValueError, match="HUB_SAFETY=1 reaches no column: klein: it has no safety checker"):
        check_reach(settings(klein, hub_safety=True))
    with pytest.raises(ValueError, match=r"HUB_GUIDANCE=2\.0 reaches no column: klein: it has no guidance") as caught:
        check_reach(settings(klein, hub_guidance=2.0))
    assert "\n" not in str(caught.value)


def test_an_option_that_reaches_one_of_two_columns_is_taken(tmp_path: Path) -> None:
    folders = write(tmp_path / "klein", "Flux2KleinKVPipeline"), write(tmp_path / "sd", "StableDiffusionPipeline")
    check_reach(settings(*folders, hub_guidance=2.0, hub_safety=True))
    with pytest.raises(ValueError, match="HUB_NEGATIVE_PROMPT=blur reaches no column: klein: it takes no negative"):
        check_reach(settings(*folders, hub_guidance=1.0, hub_negative_prompt="blur"))


def test_a_class_that_only_the_hub_knows_is_not_judged_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "empty"))
    check_reach(settings_class()(MODELS="hub:org/never-seen-here", HUB_GUIDANCE=2.0))


def test_two_folders_of_one_name_have_two_titles(tmp_path: Path) -> None:
    folders = [write(tmp_path / where / "model", "StableDiffusionPipeline") for where in ("old", "new")]
    selected = settings(*folders).selected_models()
    keys = [ColumnKey(model.family.key, model.values) for model in selected]
    assert titles_of([model.title for model in selected], keys) == ["model (old/model)", "model (new/model)"]


def test_equal_arguments_in_other_words_are_one_column(tmp_path: Path) -> None:
    folder = write(tmp_path / "flux", "FluxPipeline")
    texts = ('{"max_sequence_length": 64, "true_cfg_scale": 4}', '{"true_cfg_scale":4,"max_sequence_length":64}')
    first, second = (settings(folder, hub_args=text).selected_models()[0].values for text in texts)
    assert first == second
    assert first["HUB_ARGS"] == '{"max_sequence_length":64,"true_cfg_scale":4}'


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1, "a": 2}', '{"a": NaN}'])
def test_arguments_that_are_no_json_object_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="HUB_ARGS"):
        settings(write(tmp_path / "flux", "FluxPipeline"), hub_args=text)
