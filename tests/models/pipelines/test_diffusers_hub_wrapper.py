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
    assert (loaded.name, loaded.image_size) == ("my-sdxl", 32)
    assert loaded.notes == (
        "asked for num_inference_steps 2, guidance_scale 5, 32 px, EulerDiscreteScheduler, leading timesteps, "
        "no negative prompt",
    )
    assert images_BCHW.shape == (2, 3, 32, 32)
    assert loaded.parameters == sum(weights.numel() for weights in loaded.pipeline.unet.parameters())
    assert loaded.pipeline.scheduler.num_inference_steps == 2


def test_transformer_pipelines_are_counted_by_their_transformer(tmp_path: Path) -> None:
    build_pixart().save_pretrained(tmp_path / "small")
    options = diffusers_hub.Options(id=str(tmp_path / "small"), steps=2, guidance=1.0)
    loaded = diffusers_hub.FAMILY.load(options, runtime(tmp_path))
    assert loaded.parameters == sum(weights.numel() for weights in loaded.pipeline.transformer.parameters())
    assert loaded.generate(REQUESTS).dtype == torch.uint8


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
    with pytest.raises(OSError, match=r"no folder \./nowhere"):
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id="./nowhere"), runtime(tmp_path))
    with pytest.raises(OSError, match=r"holds no model_index\.json") as caught:
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(tmp_path)), runtime(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"WEIGHTS=tiny: set WEIGHTS=pretrained or WEIGHTS=random"):
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id="a/b"), runtime(tmp_path, weights="tiny"))


def write_index(folder: Path, class_name: str) -> str:
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": class_name, "_diffusers_version": "0.42.1"}))
    return str(folder)


@pytest.mark.parametrize(
    ("class_name", "reason"),
    [
        ("WanPipeline", "makes video"),
        ("StableAudioPipeline", "makes sound"),
        ("KandinskyV22PriorPipeline", "is a prior alone"),
        ("FluxKontextPipeline", "changes an image"),
        ("FluxControlPipeline", "follows a control image"),
        ("QwenImageLayeredPipeline", "takes an image apart"),
        ("ShapEPipeline", "makes 3D objects"),
        ("StableDiffusionUpscalePipeline", "enlarges or refines"),
    ],
)
def test_check_refuses_by_class_name_with_the_reason(tmp_path: Path, class_name: str, reason: str) -> None:
    assert diffusers_hub.FAMILY.check is not None
    options = diffusers_hub.Options(id=write_index(tmp_path / "x", class_name))
    with pytest.raises(ValueError, match=f"x is a {class_name}, which {reason}") as caught:
        diffusers_hub.FAMILY.check(options, runtime(tmp_path))
    assert "\n" not in str(caught.value)


def test_check_refuses_a_size_that_no_checkpoint_of_the_class_makes(tmp_path: Path) -> None:
    assert diffusers_hub.FAMILY.check is not None
    options = diffusers_hub.Options(id=write_index(tmp_path / "x", "SanaPipeline"))
    diffusers_hub.FAMILY.check(options, runtime(tmp_path))
    with pytest.raises(ValueError, match="IMAGE_SIZE=48: SanaPipeline needs a multiple of 32"):
        diffusers_hub.FAMILY.check(options, runtime(tmp_path, image_size=48))


def test_check_refuses_arguments_that_the_program_sets_itself(tmp_path: Path) -> None:
    assert diffusers_hub.FAMILY.check is not None
    folder = write_index(tmp_path / "x", "FluxPipeline")
    with pytest.raises(ValueError, match="HUB_ARGS names height, which this program sets itself: use IMAGE_SIZE"):
        diffusers_hub.FAMILY.check(diffusers_hub.Options(id=folder, args='{"height": 8}'), runtime(tmp_path))


def test_a_package_that_is_missing_is_named_before_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert diffusers_hub.FAMILY.check is not None
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "ftfy" else object())
    options = diffusers_hub.Options(id=write_index(tmp_path / "x", "PRXPipeline"))
    with pytest.raises(ValueError, match=r"needs the package ftfy: install it \(pip install ftfy\)"):
        diffusers_hub.FAMILY.check(options, runtime(tmp_path))


def test_a_pipeline_that_does_not_run_in_the_dtype_is_refused_before_its_weights_are_read(tmp_path: Path) -> None:
    options = diffusers_hub.Options(id=write_index(tmp_path / "x", "VQDiffusionPipeline"))
    with pytest.raises(ValueError, match="does not run in bfloat16: set DTYPE=float32 or float16"):
        diffusers_hub.FAMILY.load(options, runtime(tmp_path, dtype="bfloat16"))


def test_an_unknown_class_is_judged_by_its_call_before_data_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import diffusers

    class LaterPipeline(diffusers.DiffusionPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str, num_frames: int = 8, output_type: str = "pil") -> None: ...

    assert diffusers_hub.FAMILY.needs is not None
    options = diffusers_hub.Options(id=write_index(tmp_path / "x", "LaterPipeline"))
    with pytest.raises(ValueError, match=r"a pipeline of class LaterPipeline, which diffusers .* does not have"):
        diffusers_hub.FAMILY.needs(options, runtime(tmp_path))
    monkeypatch.setattr(diffusers, "LaterPipeline", LaterPipeline, raising=False)
    with pytest.raises(ValueError, match="x is a LaterPipeline, which makes video or sound"):
        diffusers_hub.FAMILY.needs(options, runtime(tmp_path))


def test_a_scheduler_of_another_kind_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    folder = Path(write_index(tmp_path / "x", "FluxPipeline"))
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = ["diffusers", "FlowMatchEulerDiscreteScheduler"]
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="ddim is not for networks trained by flow matching"):
        diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), scheduler="ddim"), runtime(tmp_path))


def test_wrong_values_in_arguments_are_told_in_one_line_and_lists_stand_for_tuples(tmp_path: Path) -> None:
    folder = str(write_sdxl(tmp_path / "my-sdxl"))
    options = diffusers_hub.Options(id=folder, steps=1, args='{"latents": "x"}')
    with pytest.raises(
        ValueError, match=r"the pipeline's call failed with HUB_ARGS=.*latents.*: AttributeError: "
    ) as told:
        diffusers_hub.FAMILY.load(options, runtime(tmp_path)).generate(REQUESTS)
    assert "\n" not in str(told.value)
    sized = diffusers_hub.Options(id=folder, steps=1, args='{"original_size": [64, 64]}')
    assert len(diffusers_hub.FAMILY.load(sized, runtime(tmp_path)).generate(REQUESTS)) == 2
