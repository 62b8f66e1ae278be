"""Any diffusers pipeline from a folder: what is accepted, what is refused, what is passed to it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_pixart, write_sdxl

from models import diffusers_hub
from models.base import Request, Runtime

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]


def runtime(folder: Path, **changes: object) -> Runtime:
    whole = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    return dataclasses.replace(whole, **changes)


def test_name_in_models_selects_the_pipeline() -> None:
    assert diffusers_hub.FAMILY.selected_by("hub:org/name") == {"id": "org/name"}
    assert diffusers_hub.FAMILY.selected_by("hub:./folder") == {"id": "./folder"}
    assert diffusers_hub.FAMILY.selected_by("sdxl") is None
    assert diffusers_hub.FAMILY.title(diffusers_hub.Options(id="org/name")) == "name"
    assert not diffusers_hub.FAMILY.switchable


def test_folder_makes_images_with_the_asked_steps(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    loaded = diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), steps=2), runtime(tmp_path))
    images_BCHW = loaded.generate(REQUESTS)
    assert (loaded.name, loaded.image_size, loaded.notes) == ("my-sdxl", 32, ())
    assert images_BCHW.shape == (2, 3, 32, 32)
    assert loaded.parameters == sum(weights.numel() for weights in loaded.pipeline.unet.parameters())
    assert loaded.pipeline.scheduler.num_inference_steps == 2


def test_transformer_pipelines_are_counted_by_their_transformer(tmp_path: Path) -> None:
    build_pixart().save_pretrained(tmp_path / "small")
    options = diffusers_hub.Options(id=str(tmp_path / "small"), steps=2, guidance=1.0)
    loaded = diffusers_hub.FAMILY.load(options, runtime(tmp_path))
    assert loaded.parameters == sum(weights.numel() for weights in loaded.pipeline.transformer.parameters())
    assert loaded.generate(REQUESTS).dtype == torch.uint8


def test_only_arguments_of_the_signature_are_passed() -> None:
    class Narrow:
        def __call__(self, prompt: str, width: int = 8, num_inference_steps: int = 50) -> None: ...

    options = diffusers_hub.Options(id="a/b", steps=5, guidance=2.0)
    assert diffusers_hub.call_arguments(Narrow(), options, 64) == {"width": 64, "num_inference_steps": 5}
    assert diffusers_hub.call_arguments(Narrow(), diffusers_hub.Options(id="a/b"), 64) == {"width": 64}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"_class_name": "DDPMPipeline"}, "DDPMPipeline, which takes no prompt"),
        ({"_class_name": "NoSuchPipeline"}, "NoSuchPipeline, which diffusers"),
        ({"_class_name": "StableDiffusionXLImg2ImgPipeline"}, "changes an image"),
    ],
)
def test_other_pipelines_are_refused_by_name(tmp_path: Path, index: dict[str, str], words: str) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"_diffusers_version": "0.42.1"}))
    with pytest.raises(ValueError, match=words) as caught:
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(tmp_path)), runtime(tmp_path))
    assert "\n" not in str(caught.value)


def test_missing_and_unfitting_requests_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no folder"):
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id="./nowhere"), runtime(tmp_path))
    with pytest.raises(OSError, match="HUB_ID=FOLDER") as caught:
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(tmp_path)), runtime(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="WEIGHTS=random"):
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id="a/b"), runtime(tmp_path, weights="random"))
