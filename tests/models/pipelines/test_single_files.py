"""Whole models in one .safetensors file: told by their headers, loaded with configurations from a named folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import write_sdxl
from safetensors.torch import load_file, save_file
from single_file_layouts import build_file_sd1, build_file_sdxl, write_file, write_layout

import run_inference
from models import diffusers_hub, sdxl
from models.base import ImageGenerator, Request, Runtime
from models.pipelines.single_files import _KINDS, SDXL, recognise_file

REQUEST = Request(0, "a pink robot", 0)
UNET = "model.diffusion_model."


@dataclasses.dataclass(frozen=True)
class Published:
    """A pipeline as one file, its configurations in a folder, and the whole pipeline in another."""

    file: Path
    layout: Path
    folder: Path


def publish(root: Path, pipeline: Any) -> Published:
    pipeline.save_pretrained(root / "folder")
    return Published(
        write_file(root / "my_finetune.safetensors", pipeline), write_layout(root / "layout", pipeline), root / "folder"
    )


@pytest.fixture(scope="module")
def xl(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("xl"), build_file_sdxl())


@pytest.fixture(scope="module")
def sd1(tmp_path_factory: pytest.TempPathFactory) -> Published:
    return publish(tmp_path_factory.mktemp("sd1"), build_file_sd1())


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep every test from the network, with an empty cache."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def runtime(folder: Path, **changes: Any) -> Runtime:
    whole = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    return dataclasses.replace(whole, **changes)


def load(source: Path, config: Path | None = None, **components: str) -> ImageGenerator:
    options = diffusers_hub.Options(
        id=str(source),
        steps=2,
        config=str(config) if config else "",
        components=json.dumps(components) if components else "",
    )
    return diffusers_hub.FAMILY.load(options, runtime(source.parent))


def assert_same(first: ImageGenerator, second: ImageGenerator) -> None:
    """Hold that two generators have the same weights, and make the same image but for the last bit of arithmetic."""
    for name, part in first.pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            others = getattr(second.pipeline, name).state_dict()
            assert all(torch.equal(weights, others[key]) for key, weights in part.state_dict().items()), name
    difference = first.generate([REQUEST]).int() - second.generate([REQUEST]).int()
    assert difference.abs().max() <= 1


@pytest.mark.parametrize("kind", ["xl", "sd1"])
def test_file_makes_the_images_of_the_folder_that_it_was_made_of(kind: str, request: pytest.FixtureRequest) -> None:
    published: Published = request.getfixturevalue(kind)
    loaded = load(published.file, published.layout)
    assert loaded.name == "my_finetune"
    assert_same(loaded, load(published.folder))
    assert f"configurations and tokenizers: {published.layout}" in loaded.notes


def test_sdxl_model_takes_a_file(xl: Published) -> None:
    options = sdxl.Options(model=str(xl.file), config=str(xl.layout), steps=2)
    assert sdxl.FAMILY.check is not None
    sdxl.FAMILY.check(options, runtime(xl.file.parent))
    loaded = sdxl.FAMILY.load(options, runtime(xl.file.parent))
    whole = sdxl.FAMILY.load(sdxl.Options(model=str(xl.folder), steps=2), runtime(xl.file.parent))
    assert_same(loaded, whole)
    assert sdxl.FAMILY.source(options, runtime(xl.file.parent)).startswith(f"file {xl.file}")
    assert sdxl.FAMILY.needs is not None
    assert list(sdxl.FAMILY.needs(options, runtime(xl.file.parent))) == []


def test_file_runs_through_the_whole_program(xl: Published, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a pink robot\n")
    flags = [
        f"--sdxl-model={xl.file}", f"--sdxl-config={xl.layout}", "--models=sdxl", "--sdxl-steps=2", "--image-size=32",
        f"--dataset={tmp_path / 'prompts.txt'}", "--num-samples=1", "--warmup=0", "--device=cpu", "--dtype=float32",
        f"--output-dir={tmp_path / 'out'}", "--metrics=psnr",
    ]  # fmt: skip
    assert run_inference.main([*flags, "--check"]) == 0
    assert run_inference.main(flags) == 0
    assert len(list((tmp_path / "out").rglob("SDXL/output/*.png"))) == 1


def test_without_the_hub_a_file_says_what_is_missing(xl: Published) -> None:
    with pytest.raises(OSError, match=r"stable-diffusion-xl-base-1\.0 is not in the hub's cache") as caught:
        sdxl.FAMILY.load(sdxl.Options(model=str(xl.file)), runtime(xl.file.parent))
    assert "\n" not in str(caught.value)
    runtime_ = runtime(xl.file.parent)
    needs = sdxl.FAMILY.needs
    assert needs is not None
    with pytest.raises(OSError, match=r"SDXL_MODEL=.*set SDXL_CONFIG to a folder of an SDXL model"):
        needs(sdxl.Options(model=str(xl.file)), runtime_)


def test_vae_that_a_file_lacks_is_told_or_taken_from_where_it_is_named(xl: Published, tmp_path: Path) -> None:
    file = write_file(tmp_path / "x.safetensors", build_file_sdxl(), without="vae")
    with pytest.raises(OSError, match="it holds no vae") as caught:
        load(file, xl.layout)
    assert "HUB_COMPONENTS" in str(caught.value)
    for loaded in (load(file, xl.layout, vae=str(xl.folder)), load(file, xl.folder)):
        assert_same(loaded, load(xl.folder))
    options = sdxl.Options(model=str(file), config=str(xl.layout), vae=str(xl.folder / "vae"), steps=2)
    assert sdxl.FAMILY.load(options, runtime(tmp_path)).generate([REQUEST]).shape == (1, 3, 32, 32)


def test_file_marked_as_predicting_velocity_sets_the_scheduler(xl: Published, tmp_path: Path) -> None:
    marks = {"v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}
    loaded = load(write_file(tmp_path / "x.safetensors", build_file_sdxl(), **marks), xl.layout)
    config = loaded.pipeline.scheduler.config
    assert (config.prediction_type, config.rescale_betas_zero_snr) == ("v_prediction", True)
    assert any("predicts velocity" in note for note in loaded.notes)


def test_file_that_lacks_a_tensor_is_refused(xl: Published, tmp_path: Path) -> None:
    tensors = load_file(xl.file)
    del tensors[f"{UNET}input_blocks.1.0.in_layers.0.weight"]
    save_file(tensors, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="lacks tensors that the configurations of") as caught:
        load(tmp_path / "x.safetensors", xl.layout)
    assert "\n" not in str(caught.value)


def test_configurations_of_another_size_or_class_are_refused(xl: Published, sd1: Published, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not load as a StableDiffusionXLPipeline") as caught:
        load(xl.file, write_sdxl(tmp_path / "other"))
    assert "\n" not in str(caught.value)
    with pytest.raises(
        ValueError, match=r"is a Stable Diffusion 1 model, but .* is of class StableDiffusionXLPipeline"
    ):
        load(sd1.file, xl.layout)


def test_code_beside_the_configurations_is_refused(xl: Published, tmp_path: Path) -> None:
    layout = write_layout(tmp_path / "layout", build_file_sdxl())
    config = layout / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Evil"}}))
    with pytest.raises(ValueError, match="names code of its own"):
        load(xl.file, layout)


def test_model_of_another_family_is_refused_by_name(sd1: Published) -> None:
    options = sdxl.Options(model=str(sd1.file))
    assert sdxl.FAMILY.check is not None
    for refuse in (sdxl.FAMILY.check, sdxl.FAMILY.load):
        with pytest.raises(ValueError, match=r"is a Stable Diffusion 1 model, and not an SDXL model: .*MODELS=hub:"):
            refuse(options, runtime(sd1.file.parent))


def test_configurations_that_reach_nothing_are_refused(tmp_path: Path) -> None:
    assert sdxl.FAMILY.check is not None
    with pytest.raises(ValueError, match="SDXL_CONFIG reaches nothing"):
        sdxl.FAMILY.check(sdxl.Options(config=str(tmp_path)), runtime(tmp_path))


def header(file: Path, *names: str, **shapes: tuple[int, ...]) -> Path:
    """Write a file whose tensors have these names; their values say nothing."""
    first = {f"{UNET}input_blocks.0.0.weight": (8, 4, 3, 3)} if "unet" in shapes else {}
    shapes.pop("unet", None)
    save_file(
        {name: torch.zeros(shape) for name, shape in {**dict.fromkeys(names, (1,)), **first, **shapes}.items()}, file
    )
    return file


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["model.diffusion_model.who.knows"], "no text-to-image model that is known"),
        ([], "no text-to-image model that is known .it begins with no tensors"),
        (["lora_unet_down_blocks_0.lora_down.weight"], "holds a LoRA"),
        (["down_blocks.0.resnets.0.conv1.weight"], "one network in diffusers' layout"),
        (["control_model.input_blocks.0.0.weight"], "a ControlNet"),
        (["conditioner.embedders.0.model.text_projection"], "an SDXL refiner"),
        (["double_blocks.0.img_attn.qkv.scale_weight"], "quantised weights"),
        (["double_blocks.0.img_attn.qkv.weight.quant_state.bitsandbytes__nf4"], "quantised weights"),
        (["double_blocks.0.img_attn.qkv.weight.absmax"], "quantised weights"),
        (["double_blocks.0.img_attn.qkv.SCB"], "quantised weights"),
        (["double_blocks.0.img_attn.qkv.qweight"], "quantised weights"),
    ],
)
def test_file_of_something_else_is_refused_by_what_it_holds(tmp_path: Path, names: list[str], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        recognise_file(header(tmp_path / "x.safetensors", *names))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("channels", "words"), [(9, "an inpainting model"), (8, "a model that changes images")])
def test_model_of_images_is_refused_by_its_first_layer(tmp_path: Path, channels: int, words: str) -> None:
    shapes = {f"{UNET}input_blocks.0.0.weight": (8, channels, 3, 3)}
    with pytest.raises(ValueError, match=words):
        recognise_file(header(tmp_path / "x.safetensors", **shapes))


@pytest.mark.parametrize("prefix", ["", UNET])
@pytest.mark.parametrize(
    ("channels", "words"),
    [(384, "FLUX.1 Fill"), (128, "FLUX.1 Depth or Canny"), (96, "a model of 96 input channels"), (64, "")],
)
def test_flux_models_of_images_are_refused_by_their_first_layer(
    tmp_path: Path, prefix: str, channels: int, words: str
) -> None:
    marks = dict.fromkeys(
        (f"{prefix}double_blocks.0.img_attn.norm.key_norm.scale", f"{prefix}guidance_in.in_layer.bias"), (1,)
    )
    file = header(tmp_path / "x.safetensors", **marks, **{f"{prefix}img_in.weight": (8, channels)})
    if not words:
        assert recognise_file(file).class_name == "FluxPipeline"
        return
    with pytest.raises(ValueError, match=f"{words}.*: only text-to-image models"):
        recognise_file(file)


def test_flux_2_has_more_channels(tmp_path: Path) -> None:
    shapes = {"single_stream_modulation.lin.weight": (1,), "img_in.weight": (8, 128)}
    assert recognise_file(header(tmp_path / "x.safetensors", **shapes)).class_name == "Flux2Pipeline"


def test_suffix_in_capital_letters_is_accepted(xl: Published, tmp_path: Path) -> None:
    file = tmp_path / "Mine.SAFETENSORS"
    file.hardlink_to(xl.file)
    loaded = load(file, xl.layout)
    assert loaded.name == "Mine"
    assert_same(loaded, load(xl.file, xl.layout))
    options = sdxl.Options(model=str(file), config=str(xl.layout), steps=2, guidance=5.0)
    sdxl.Options.__dataclass_fields__["model"].metadata["check"](str(file))
    assert_same(sdxl.FAMILY.load(options, runtime(tmp_path)), loaded)


@pytest.mark.parametrize("named", ["", "empty"])
def test_sdxl_file_without_a_vae_names_the_setting_of_sdxl(xl: Published, tmp_path: Path, named: str) -> None:
    (tmp_path / "empty").mkdir()
    file = write_file(tmp_path / "x.safetensors", build_file_sdxl(), without="vae")
    vae = str(tmp_path / named) if named else ""
    with pytest.raises(OSError, match="SDXL_VAE") as caught:
        sdxl.FAMILY.load(sdxl.Options(model=str(file), config=str(xl.layout), vae=vae), runtime(tmp_path))
    assert not any(words in str(caught.value) for words in ("HUB_", "WEIGHTS=random", "\n"))


@pytest.mark.parametrize("kind", _KINDS, ids=lambda kind: kind.what)
@pytest.mark.parametrize("prefix", ["", UNET])
def test_kinds_are_told_by_the_names_of_their_tensors(tmp_path: Path, kind: Any, prefix: str) -> None:
    marks = [
        mark if mark.startswith(("model.", "cond_stage_model.", "conditioner.", "edm")) else prefix + mark
        for mark in kind.marks
    ]
    assert recognise_file(header(tmp_path / "x.safetensors", *marks, unet=())).class_name == kind.class_name


def test_kinds_and_repositories_are_those_of_diffusers() -> None:
    from diffusers.loaders import single_file_utils as known

    names = {
        name for entry in known.CHECKPOINT_KEY_NAMES.values() for name in ([entry] if isinstance(entry, str) else entry)
    }
    own = {"guidance_in.in_layer.bias", "joint_blocks.0.x_block.attn2.qkv.weight", f"{UNET}input_blocks.0.0.weight"}
    repositories = {entry["pretrained_model_name_or_path"] for entry in known.DIFFUSERS_DEFAULT_PIPELINE_PATHS.values()}
    for kind in _KINDS:
        assert set(kind.marks) - own <= names
        assert kind.repository in repositories | {""}


def test_version_that_a_file_does_not_tell_has_to_be_named(tmp_path: Path) -> None:
    file = header(tmp_path / "x.safetensors", "cond_stage_model.model.token_embedding.weight", unet=())
    with pytest.raises(ValueError, match=r"a Stable Diffusion 2 model, and does not say which version: .*HUB_CONFIG"):
        load(file)


def test_pickled_checkpoints_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.ckpt").write_bytes(b"PK")
    check = sdxl.Options.__dataclass_fields__["model"].metadata["check"]
    with pytest.raises(OSError, match=r"convert it to \.safetensors"):
        check(str(tmp_path / "model.ckpt"))
    with pytest.raises(OSError, match=r"convert it to \.safetensors"):
        load(tmp_path / "model.ckpt")


def test_sdxl_file_is_recognised(xl: Published) -> None:
    assert recognise_file(xl.file).what == SDXL
