"""Pipelines as people have them: half-size weights, parts that lack, named components, decoders, random weights."""

from __future__ import annotations

import dataclasses
import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import build_kandinsky, build_pixart, build_sdxl, build_stable_diffusion, write_sdxl

from models import diffusers_hub
from models.base import ImageGenerator, Request, Runtime
from models.pipelines.components import Place, component_class

REQUEST = Request(0, "a pink robot", 0)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture
def folder(sdxl: Path, tmp_path: Path) -> Path:
    """Return a copy of a tiny SDXL that the test may change."""
    shutil.copytree(sdxl, tmp_path / "model")
    return tmp_path / "model"


def load(folder: Path, changes: dict[str, Any] | None = None, **options: Any) -> ImageGenerator:
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    runtime = dataclasses.replace(runtime, **(changes or {}))
    named = options.pop("components", None)
    asked = diffusers_hub.Options(id=str(folder), steps=2, components=json.dumps(named) if named else "", **options)
    return diffusers_hub.FAMILY.load(asked, runtime)


def refusal(folder: Path, kind: type[Exception], changes: dict[str, Any] | None = None, **options: Any) -> str:
    with pytest.raises(kind) as caught:
        load(folder, changes, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def change(folder: Path, **components: object) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | components))


def strip(folder: Path) -> None:
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()


def largest_difference(first: ImageGenerator, second: ImageGenerator) -> int:
    return int((first.generate([REQUEST]).int() - second.generate([REQUEST]).int()).abs().max())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_folder_with_half_size_weights_alone_loads(tmp_path: Path, sdxl: Path, dtype: str) -> None:
    build_sdxl().to(torch.float16).save_pretrained(tmp_path / "half", variant="fp16")
    loaded = load(tmp_path / "half", {"dtype": dtype})
    assert {str(part.dtype) for part in (loaded.pipeline.unet, loaded.pipeline.text_encoder)} == {f"torch.{dtype}"}
    if dtype == "float32":
        assert largest_difference(loaded, load(sdxl)) <= 2


def test_half_size_weights_are_read_only_for_parts_without_others(folder: Path) -> None:
    half = build_sdxl().to(torch.float16)
    shutil.rmtree(folder / "unet")
    half.unet.save_pretrained(folder / "unet", variant="fp16")
    with torch.no_grad():
        half.vae.decoder.conv_out.weight.mul_(0)  # weights that are to be seen where they are read
    half.vae.save_pretrained(folder / "vae", variant="fp16")
    loaded = load(folder)
    assert loaded.pipeline.unet.dtype == torch.float32
    assert loaded.pipeline.vae.decoder.conv_out.weight.abs().sum() > 0


@pytest.mark.parametrize("name", ["unet", "vae", "scheduler", "text_encoder", "text_encoder_2", "tokenizer"])
def test_needed_component_that_the_index_leaves_empty_is_one_line(folder: Path, name: str) -> None:
    change(folder, **{name: [None, None]})
    line = refusal(folder, ValueError)
    assert f"model_index.json names no {name}, and a StableDiffusionXLPipeline needs one" in line
    assert f'HUB_COMPONENTS=\'{{"{name}": "FOLDER"}}\'' in line


def test_optional_component_that_the_index_leaves_empty_loads(folder: Path) -> None:
    change(folder, image_encoder=[None, None], feature_extractor=[None, None])
    assert load(folder).pipeline.image_encoder is None


def test_component_that_the_index_leaves_empty_is_taken_from_where_it_is_named(folder: Path, sdxl: Path) -> None:
    change(folder, vae=[None, None], tokenizer_2=[None, None])
    loaded = load(folder, components={"vae": str(sdxl), "tokenizer_2": str(sdxl / "tokenizer_2")})
    assert largest_difference(loaded, load(sdxl)) == 0
    assert f"vae: {sdxl}" in loaded.notes


def test_missing_folder_of_a_component_is_named_with_the_remedy(folder: Path, sdxl: Path) -> None:
    shutil.rmtree(folder / "vae")
    line = refusal(folder, OSError)
    assert "there is no folder vae, which model_index.json names" in line
    assert "HUB_COMPONENTS" in line
    assert largest_difference(load(folder, components={"vae": str(sdxl / "vae")}), load(sdxl)) == 0


def test_folder_without_weights_says_what_runs_without(folder: Path) -> None:
    strip(folder)
    line = refusal(folder, OSError)
    assert "its folder text_encoder holds no weights" in line
    assert "WEIGHTS=random" in line
    assert "WEIGHTS=tiny" not in line


@pytest.mark.parametrize(
    ("components", "kind", "words"),
    [
        ({"vea": "."}, ValueError, "HUB_COMPONENTS names vea, but"),
        ({"prior": "."}, ValueError, "HUB_COMPONENTS names prior, but"),
        ({"add_watermarker": "."}, ValueError, "HUB_COMPONENTS names add_watermarker, but"),
        ({"vae": "./nowhere"}, OSError, "no folder ./nowhere"),
    ],
)
def test_component_that_cannot_be_used_is_refused(
    sdxl: Path, components: dict[str, str], kind: type[Exception], words: str
) -> None:
    assert words in refusal(sdxl, kind, components=components)


def test_named_component_of_another_class_is_what_its_folder_says(sdxl: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderTiny

    tiny = AutoencoderTiny(
        latent_channels=4, encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1), num_decoder_blocks=(1, 1, 1),
    )  # fmt: skip
    tiny.save_pretrained(tmp_path / "tiny")
    assert type(load(sdxl, components={"vae": str(tmp_path / "tiny")}).pipeline.vae) is AutoencoderTiny


def test_named_component_without_all_of_its_weights_is_refused(sdxl: Path, tmp_path: Path) -> None:
    """The libraries would draw them at random, and say so in a warning at most."""
    from safetensors.torch import load_file, save_file

    for part, file in (("vae", "diffusion_pytorch_model.safetensors"), ("text_encoder", "model.safetensors")):
        folder = tmp_path / part
        shutil.copytree(sdxl / part, folder)
        tensors = load_file(folder / file)
        gone = sorted(tensors)[0]
        del tensors[gone]
        save_file(tensors, folder / file, metadata={"format": "pt"})
        assert f"it lacks {gone}" in refusal(sdxl, ValueError, components={part: str(folder)})


def test_code_in_a_named_component_is_refused(folder: Path, sdxl: Path) -> None:
    config = folder / "vae" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"auto_map": {"AutoModel": "evil.Evil"}}))
    assert "names code of its own" in refusal(sdxl, ValueError, components={"vae": str(folder / "vae")})


def test_classes_of_components_come_from_the_index_the_folder_or_the_signature(sdxl: Path, tmp_path: Path) -> None:
    from diffusers import AutoencoderKL, HiDreamImagePipeline
    from transformers import AutoTokenizer, CLIPTextModelWithProjection, LlamaForCausalLM, T5EncoderModel

    types = HiDreamImagePipeline._get_signature_types()
    nowhere, none = Place(tmp_path), [None, None]
    assert component_class("vae", none, Place(sdxl, "vae")) is AutoencoderKL
    assert component_class("text_encoder_4", none, nowhere, types["text_encoder_4"]) is LlamaForCausalLM
    assert component_class("tokenizer_4", none, nowhere, types["tokenizer_4"]) is AutoTokenizer
    assert component_class("text_encoder", none, Place(sdxl, "text_encoder_2")) is CLIPTextModelWithProjection
    assert component_class("text_encoder_3", ["transformers", "T5EncoderModel"], nowhere) is T5EncoderModel
    with pytest.raises(ValueError, match="does not say what class"):
        component_class("part", none, nowhere)


@pytest.fixture(scope="module")
def kandinsky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a combined pipeline, and the same as a decoder and a prior, as they are published."""
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    root = tmp_path_factory.mktemp("kandinsky")
    whole = build_kandinsky()
    whole.save_pretrained(root / "combined")
    prior = {name.removeprefix("prior_"): part for name, part in whole.components.items() if "prior_" in name}
    KandinskyV22Pipeline(unet=whole.unet, scheduler=whole.scheduler, movq=whole.movq).save_pretrained(root / "decoder")
    KandinskyV22PriorPipeline(**prior).save_pretrained(root / "prior")
    (root / "decoder" / "README.md").write_text("---\nprior:\n- someone/else\n---\n")
    return root


def test_decoder_with_its_named_prior_makes_the_combined_pipelines_images(kandinsky: Path) -> None:
    size = {"image_size": 64}
    combined = load(kandinsky / "combined", size)
    decoder = load(kandinsky / "decoder", size, components={"prior": str(kandinsky / "prior")})
    assert type(decoder.pipeline) is type(combined.pipeline)
    assert largest_difference(decoder, combined) == 0
    assert f"prior: {kandinsky / 'prior'}" in decoder.notes


def test_prior_of_another_model_is_refused(kandinsky: Path, sdxl: Path) -> None:
    line = refusal(kandinsky / "decoder", ValueError, {"image_size": 64}, components={"prior": str(sdxl)})
    assert "a StableDiffusionXLPipeline, which does not fit" in line


def test_random_weights_need_configurations_alone(folder: Path) -> None:
    strip(folder)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
    loaded = load(folder, {"weights": "random", "dtype": "bfloat16"})
    assert loaded.generate([REQUEST]).float().std() > 1
    assert loaded.pipeline.unet.dtype == torch.bfloat16
    assert "tokenizer_2 is a stand-in: its folder holds no tokenizer" in loaded.notes
    assert loaded.pipeline.tokenizer.vocabulary == loaded.pipeline.text_encoder.config.vocab_size


def test_random_weights_are_not_those_of_the_folder(sdxl: Path) -> None:
    first, second = load(sdxl, {"weights": "random"}), load(sdxl, {"weights": "random"})
    assert largest_difference(first, second) == 0
    assert largest_difference(first, load(sdxl)) > 10


def test_random_networks_are_made_in_their_dtype_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network of float32 on its way would need twice the memory of one that just fits the GPU."""
    from diffusers import UNet2DConditionModel

    made = []
    build = UNet2DConditionModel.__init__

    @functools.wraps(build)  # the library reads its signature
    def watched(self: Any, *arguments: Any, **options: Any) -> None:
        build(self, *arguments, **options)
        made.append({weights.dtype for weights in self.parameters()})

    monkeypatch.setattr(UNet2DConditionModel, "__init__", watched)
    load(folder, {"weights": "random", "dtype": "bfloat16"})
    assert made == [{torch.bfloat16}]


def test_tokenizer_that_nothing_stands_in_for_is_named(tmp_path: Path) -> None:
    build_pixart().save_pretrained(tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "tokenizer")
    change(tmp_path / "model", tokenizer=["transformers", "Qwen2Tokenizer"])
    line = refusal(tmp_path / "model", OSError, {"weights": "random"})
    assert "nothing stands in for a Qwen2Tokenizer" in line
    assert "WEIGHTS=random" not in line


def test_quantised_configuration_is_built_without_its_quantisation(tmp_path: Path) -> None:
    build_stable_diffusion().save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "unet" / "config.json"
    content = json.loads(config.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    config.write_text(json.dumps(content))
    assert load(tmp_path / "model", {"weights": "random"}).generate([REQUEST]).shape == (1, 3, 32, 32)


def test_flux_runs_from_configurations_without_tokenizers(tmp_path: Path) -> None:
    from zoo_pipelines import save_pipeline

    folder = save_pipeline("FluxPipeline", tmp_path / "flux")
    strip(folder)
    for name in ("tokenizer", "tokenizer_2"):
        shutil.rmtree(folder / name)
    loaded = load(folder, {"weights": "random", "dtype": "bfloat16"})
    assert loaded.generate([REQUEST]).float().std() > 1
    assert [note for note in loaded.notes if "stand-in" in note] == [
        "tokenizer is a stand-in: its folder holds no tokenizer",
        "tokenizer_2 is a stand-in: its folder holds no tokenizer",
    ]


def test_hidream_as_published_takes_its_llama_from_where_it_is_named(tmp_path: Path) -> None:
    from zoo_pipelines import save_pipeline

    folder = save_pipeline("HiDreamImagePipeline", tmp_path / "hidream")
    names = ("text_encoder_4", "tokenizer_4")
    whole = load(folder)
    for name in names:
        shutil.move(folder / name, tmp_path / name)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({key: index[key] for key in index if key not in names}))
    assert "names no text_encoder_4, and a HiDreamImagePipeline needs one" in refusal(folder, ValueError)
    named = load(folder, components={name: str(tmp_path / name) for name in names})
    assert largest_difference(named, whole) == 0


def test_memory_that_an_initialisation_leaves_unset_is_drawn_alike_each_time() -> None:
    from models.random_weights import build_any_random

    class Unset(torch.nn.Module):
        _keep_in_fp32_modules = ("kept",)

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.empty(64, 64))
            self.kept = torch.nn.Linear(4, 4)
            self.plain = torch.nn.Linear(4, 4)

    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second = (build_any_random(Unset, "cpu", torch.bfloat16) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert 0.01 < first.weight.float().std() < 0.03
    assert (first.kept.weight.dtype, first.plain.weight.dtype) == (torch.float32, torch.bfloat16)
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.equal(before, torch.get_rng_state())


def test_configurations_of_a_single_file_reach_no_folder(sdxl: Path) -> None:
    assert diffusers_hub.FAMILY.unreached is not None
    options = diffusers_hub.Options(id=str(sdxl), config=str(sdxl))
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=sdxl, cache=sdxl)
    assert diffusers_hub.FAMILY.unreached(options, runtime) == {"config": "it is no single .safetensors file"}


def test_older_folders_name_classes_that_transformers_renamed(tmp_path: Path) -> None:
    from transformers import CLIPImageProcessor

    folder = tmp_path / "old"
    build_stable_diffusion().save_pretrained(folder)
    whole = load(folder)
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    change(folder, feature_extractor=["transformers", "CLIPFeatureExtractor"])
    old = load(folder)
    assert type(old.pipeline.feature_extractor).__name__ == "CLIPImageProcessor"
    assert largest_difference(old, whole) == 0


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_class_that_no_library_has_is_named(folder: Path, weights: str) -> None:
    change(folder, vae=["diffusers", "NoSuchAutoencoder"])
    line = refusal(folder, ValueError, {"weights": weights})
    assert "vae is of class NoSuchAutoencoder, which diffusers does not have" in line


def test_classes_are_found_under_the_names_of_published_indexes() -> None:
    from files.model_folders import find_class, is_moved

    moved = find_class("wuerstchen", "PaellaVQModel")
    assert moved is find_class("diffusers", "PaellaVQModel") is not None
    assert is_moved("wuerstchen", "PaellaVQModel")
    assert find_class("transformers", "T5GemmaEncoder").__name__ == "T5GemmaEncoder"
    assert find_class("transformers", "CLIPFeatureExtractor").__name__ == "CLIPImageProcessor"
    assert find_class("kandinsky", "MultilingualCLIP").__name__ == "MultilingualCLIP"
    assert not is_moved("kandinsky", "MultilingualCLIP")
    assert find_class("os", "system") is find_class("diffusers", "NoSuchModel") is None
