"""What a pipeline's index and files tell before anything is downloaded, prepared or made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models import diffusers_hub
from models.base import Runtime


def write(folder: Path, *, with_weights: bool = True) -> Path:
    index = {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "UNet2DConditionModel"],
             "vae": ["diffusers", "AutoencoderKL"], "scheduler": ["diffusers", "DDIMScheduler"]}  # fmt: skip
    for part in ("unet", "vae"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text("{}")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").touch()
    if with_weights:
        (folder / "unet" / "diffusion_pytorch_model.fp16.safetensors").touch()
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def needs(folder: Path, weights: str = "pretrained", **more: Any) -> list[Any]:
    runtime = Runtime(weights, "cpu", "float32", 64, folder, folder)  # type: ignore[arg-type]
    assert diffusers_hub.FAMILY.needs is not None
    return list(diffusers_hub.FAMILY.needs(diffusers_hub.Options(id=str(folder), **more), runtime))


def test_a_folder_without_weights_is_refused_by_the_names_of_its_files(tmp_path: Path) -> None:
    assert needs(write(tmp_path / "whole")) == []
    folder = write(tmp_path / "bare", with_weights=False)
    with pytest.raises(OSError, match=r"bare holds no weights in unet: expected a \.safetensors"):
        needs(folder)
    assert needs(folder, "random") == []
    assert needs(folder, components=json.dumps({"unet": str(tmp_path / "whole")})) == []


def test_names_that_the_pipeline_does_not_have_are_refused_before_loading(tmp_path: Path) -> None:
    folder = write(tmp_path / "whole")
    with pytest.raises(ValueError, match=r"HUB_COMPONENTS names vea, which .* its components are unet, vae, sched"):
        needs(folder, components='{"vea": "org/name"}')
    with pytest.raises(ValueError, match="HUB_ARGS names foo, which the call of StableDiffusionPipeline does not have"):
        needs(folder, args='{"foo": 1}')
