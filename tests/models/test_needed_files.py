"""What models say they need of the hub is what loading them reads, no more and no less."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_sdxl, write_pixart_split

from files.downloads import FirstOf, HubFiles
from files.hub import select_files
from metrics.needed import hub_network
from models import imagenet, infinity, pixart, sdxl, var
from models.base import ModelFamily, Need, Request, Runtime, Weights

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# As published; the names alone.
SDXL_FILES = (
    "README.md", "model_index.json", "sd_xl_base_1.0.safetensors", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/flax_model.msgpack", "text_encoder/model.fp16.safetensors",
    "text_encoder/model.onnx", "text_encoder/model.safetensors", "text_encoder/openvino_model.bin",
    "text_encoder_2/config.json", "text_encoder_2/model.fp16.safetensors", "text_encoder_2/model.onnx_data",
    "text_encoder_2/model.safetensors", "tokenizer/merges.txt", "tokenizer/vocab.json", "tokenizer_2/merges.txt",
    "tokenizer_2/vocab.json", "unet/config.json", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.safetensors", "unet/model.onnx", "vae/config.json",
    "vae/diffusion_pytorch_model.fp16.safetensors", "vae/diffusion_pytorch_model.safetensors",
    "vae_1_0/diffusion_pytorch_model.safetensors",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def runtime(tmp_path: Path, dtype: str = "float32") -> Runtime:
    return Runtime("pretrained", "cpu", dtype, 32, tmp_path / "assets", tmp_path / "kept")  # type: ignore[arg-type]


def download(cache: Path, published: Path, need: HubFiles) -> list[str]:
    """Put what `need` asks for of a published folder into the hub's cache, and return the names."""
    sizes = {path.relative_to(published).as_posix(): 1 for path in published.rglob("*") if path.is_file()}
    place = cache / f"models--{need.repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(COMMIT)
    names = sorted(select_files(sizes, need.patterns, need.ignored))
    for name in names:
        target = place / "snapshots" / COMMIT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(published / name, target)
    return names


def hub_files(needs: Sequence[Need]) -> list[HubFiles]:
    found = [need for need in needs if isinstance(need, HubFiles)]
    assert len(found) == len(needs)
    return found


@pytest.mark.parametrize(("dtype", "variant"), [("float32", None), ("bfloat16", "fp16")])
def test_sdxl_loads_from_what_it_needs(tmp_path: Path, dtype: str, variant: str | None) -> None:
    published = tmp_path / "published"
    pipeline = build_sdxl()
    pipeline.save_pretrained(published)
    pipeline.save_pretrained(published, variant="fp16")
    options = sdxl.Options(model="org/sdxl", steps=1)
    assert sdxl.FAMILY.needs is not None
    (either,) = sdxl.FAMILY.needs(options, runtime(tmp_path, dtype))
    assert isinstance(either, FirstOf)
    assert not either.here()
    names = download(tmp_path / "cache", published, *hub_files(either.needs[:1]))
    assert either.here()
    weights = [name for name in names if name.endswith(".safetensors")]
    assert len(weights) == 4
    assert all((".fp16." in name) == (variant is not None) for name in weights)
    made = sdxl.FAMILY.load(options, runtime(tmp_path, dtype)).generate([Request(0, "a cat", 1)])
    assert made.shape == (1, 3, 32, 32)


@pytest.mark.parametrize(("dtype", "half"), [("float32", False), ("float16", True)])
def test_of_the_published_sdxl_four_files_of_weights_are_needed(dtype: str, half: bool) -> None:
    first = sdxl.hub_model(sdxl.HUB_MODEL, dtype).needs[0]  # type: ignore[arg-type]
    assert isinstance(first, HubFiles)
    names = select_files(dict.fromkeys(SDXL_FILES, 1), first.patterns, first.ignored)
    large = {name for name in names if not name.endswith((".json", ".txt"))}
    kind = ".fp16.safetensors" if half else ".safetensors"
    assert large == {
        f"{part}/{stem}{kind}"
        for part, stem in (
            ("unet", "diffusion_pytorch_model"), ("vae", "diffusion_pytorch_model"), ("text_encoder", "model"),
            ("text_encoder_2", "model"),
        )
    }  # fmt: skip
    assert {"model_index.json", "tokenizer_2/vocab.json", "scheduler/scheduler_config.json"} <= set(names)


def test_pixart_loads_from_what_it_needs(tmp_path: Path) -> None:
    transformer, base = write_pixart_split(tmp_path / "published")
    options = pixart.Options(model="org/transformer", base="org/base", steps=1)
    assert pixart.FAMILY.needs is not None
    needs = hub_files(pixart.FAMILY.needs(options, runtime(tmp_path)))
    assert [need.repository for need in needs] == ["org/transformer", "org/base"]
    for need, published in zip(needs, (transformer, base), strict=True):
        assert not need.here()
        download(tmp_path / "cache", published, need)
        assert need.here()
    made = pixart.FAMILY.load(options, runtime(tmp_path)).generate([Request(0, "a cat", 1)])
    assert made.shape == (1, 3, 32, 32)


def test_var_and_infinity_need_their_files_and_what_reads_the_prompt(tmp_path: Path) -> None:
    assert var.FAMILY.needs is not None
    assert infinity.FAMILY.needs is not None
    transformer, vqvae, clip = var.FAMILY.needs(var.VAROptions(depth=20), runtime(tmp_path))
    files = hub_files([transformer, vqvae])
    assert [need.patterns for need in files] == [("var_d20.pth",), ("vae_ch160v4096z32.pth",)]
    assert clip == imagenet.hub_clip(imagenet.DEFAULT_CLIP)
    assert len(var.FAMILY.needs(var.VAROptions(classes="1,2"), runtime(tmp_path))) == 2
    needs = hub_files(infinity.FAMILY.needs(infinity.InfinityOptions(), runtime(tmp_path)))
    assert [need.repository for need in needs] == ["FoundationVision/Infinity"] * 2 + ["google/flan-t5-xl"]


def test_classes_that_were_chosen_before_may_need_no_clip(tmp_path: Path) -> None:
    assert var.FAMILY.needs is not None
    (tmp_path / "kept" / imagenet.ANSWERS).mkdir(parents=True)
    (tmp_path / "kept" / imagenet.ANSWERS / "a.json").write_text("{}")
    *_, clip = var.FAMILY.needs(var.VAROptions(), runtime(tmp_path))
    assert clip == replace(imagenet.hub_clip(imagenet.DEFAULT_CLIP), is_optional=True)


@pytest.mark.parametrize("family", [sdxl.FAMILY, pixart.FAMILY, var.FAMILY, infinity.FAMILY])
@pytest.mark.parametrize("weights", ["tiny", "random"])
def test_embedded_and_random_weights_need_nothing(family: ModelFamily, weights: Weights, tmp_path: Path) -> None:
    assert family.needs is not None
    assert list(family.needs(family.options(), replace(runtime(tmp_path), weights=weights))) == []


def test_a_network_of_a_metric_is_read_where_it_was_published_as_a_pickle(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    from metrics.base import Scoring
    from metrics.extractors.dinov2 import open_dinov2

    published = tmp_path / "published"
    network = Dinov2Model(Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28))
    network.config.save_pretrained(published)
    torch.save(network.state_dict(), published / "pytorch_model.bin")
    both = hub_network("org/dinov2")
    assert not both.here()
    download(tmp_path / "cache", published, *hub_files(both.needs[1:]))
    assert both.here()
    extractor = open_dinov2(Scoring("cpu", tmp_path, tmp_path, dinov2_model="org/dinov2"))
    image_CHW = torch.zeros(3, 28, 28, dtype=torch.uint8)
    assert extractor.extract([image_CHW]).shape == (1, 16)


@pytest.mark.parametrize("place", ["folder", "hub"])
@pytest.mark.parametrize("upcast", [True, False])
def test_vae_for_float16_is_needed_where_the_models_own_overflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, upcast: bool
) -> None:
    published = tmp_path / "published"
    build_sdxl(force_upcast=upcast).save_pretrained(published)
    options = sdxl.Options(model=str(published) if place == "folder" else "org/sdxl", steps=1)
    if place == "hub":
        download(tmp_path / "cache", published, *hub_files(sdxl.hub_model("org/sdxl", "float32").needs[:1]))
    assert sdxl.FAMILY.needs is not None
    needs = sdxl.FAMILY.needs(options, runtime(tmp_path, "float16"))
    assert [need.what for need in needs if not need.here()] == ["SDXL's VAE: " + sdxl.HALF_VAE] * upcast
    assert not list(sdxl.FAMILY.needs(options, runtime(tmp_path, "bfloat16")))[1:]

    def connect(need: HubFiles, *_: object) -> Path:
        raise AssertionError(f"{need.what} is fetched at loading")

    found = options if place == "folder" else replace(options, model=str(published))
    monkeypatch.setattr(HubFiles, "fetch", connect)
    loaded = sdxl.FAMILY.load(found, runtime(tmp_path, "float16"))
    assert any("VAE runs in float32" in note for note in loaded.notes) == upcast


@pytest.mark.parametrize("key", ["sdxl", "pixart"])
def test_a_local_folder_without_weights_is_refused_before_anything_is_loaded(key: str, tmp_path: Path) -> None:
    family = {"sdxl": sdxl.FAMILY, "pixart": pixart.FAMILY}[key]
    (tmp_path / "model_index.json").write_text('{"_class_name": "StableDiffusionXLPipeline"}')
    for part in ("unet", "transformer", "vae", "text_encoder"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text("{}")
    assert family.needs is not None
    runtime = Runtime("pretrained", "cpu", "float32", 512, assets=tmp_path, cache=tmp_path / "cache")
    with pytest.raises(OSError, match=rf"{key.upper()}_MODEL=.*: no weights in its folder (unet|transformer)"):
        family.needs(family.options(model=str(tmp_path)), runtime)
