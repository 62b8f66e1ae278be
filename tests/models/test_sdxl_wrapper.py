"""SDXL behind generate(): official folders, embedded layout, batches, parameter counts, errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_sdxl, write_sdxl

from models import sdxl
from models.base import ImageGenerator, Request, Runtime

REQUESTS = [
    Request(seed, prompt, seed)
    for seed, prompt in enumerate(("a pink robot", "a blue cat", "tree", "", "a", "b c", "d", "e"))
]


def runtime(folder: Path, **changes: object) -> Runtime:
    whole = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    return dataclasses.replace(whole, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sdxl(tmp_path_factory.mktemp("sdxl"))


@pytest.fixture(scope="module")
def generator(folder: Path) -> ImageGenerator:
    return sdxl.FAMILY.load(sdxl.Options(model=str(folder), steps=3), runtime(folder))


def test_official_folder_makes_uint8_images(generator: ImageGenerator) -> None:
    images_BCHW = generator.generate(REQUESTS[:2])
    assert images_BCHW.shape == (2, 3, 32, 32)
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.float().std() > 1
    assert (generator.name, generator.image_size) == ("SDXL", 32)
    assert generator.notes == (
        "asked for num_inference_steps 3, guidance_scale 7.5, 32 px, EulerDiscreteScheduler, leading timesteps, "
        "no negative prompt",
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_images_do_not_depend_on_the_batch(generator: ImageGenerator, batch: int) -> None:
    whole = generator.generate(REQUESTS).int()
    parts = torch.cat([generator.generate(REQUESTS[i : i + batch]) for i in range(0, 8, batch)]).int()
    assert (whole - parts).abs().max() <= 1


def test_an_image_depends_on_its_own_seed_and_prompt(generator: ImageGenerator) -> None:
    first = generator.generate(REQUESTS[:2])
    other_neighbour = generator.generate([REQUESTS[0], Request(1, "a forest painting", 99)])
    other_seed = generator.generate([Request(0, REQUESTS[0].prompt, 5)])
    assert (first[0].int() - other_neighbour[0].int()).abs().max() <= 1
    assert not torch.equal(first[1], other_neighbour[1])
    assert not torch.equal(first[0], other_seed[0])


def test_the_wrapper_returns_what_the_stock_pipeline_makes(generator: ImageGenerator, folder: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    stock = StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    stock.set_progress_bar_config(disable=True)
    picture = stock(
        "a pink robot",
        generator=torch.Generator().manual_seed(0),
        num_inference_steps=3,
        guidance_scale=7.5,
        height=32,
        width=32,
        output_type="np",
    ).images[0]
    expected_CHW = torch.from_numpy((picture * 255).round()).permute(2, 0, 1).int()
    assert (generator.generate(REQUESTS[:1])[0].int() - expected_CHW).abs().max() <= 1


def test_half_size_files_are_read_where_the_run_needs_no_more(tmp_path: Path) -> None:
    write_sdxl(tmp_path, variant="fp16")
    loaded = sdxl.FAMILY.load(sdxl.Options(model=str(tmp_path), steps=1), runtime(tmp_path, dtype="bfloat16"))
    assert loaded.generate(REQUESTS[:1]).shape == (1, 3, 32, 32)


def test_embedded_layout_shares_the_vae(tmp_path: Path) -> None:
    pipeline = build_sdxl()
    pipeline.to(torch.float16).save_pretrained(tmp_path / "assets" / "sdxl")
    (tmp_path / "assets" / "sdxl" / "vae").rename(tmp_path / "assets" / "vae")
    asked = runtime(tmp_path, weights="tiny", image_size=512)
    options = sdxl.Options(**sdxl.FAMILY.tiny_options)
    loaded = sdxl.FAMILY.load(options, asked)
    assert (options.steps, options.guidance) == (10, 1.5)
    assert loaded.image_size == 32
    assert loaded.notes[:-1] == ("the embedded model makes 32 px images",)
    assert loaded.notes[-1].startswith("asked for num_inference_steps 10, guidance_scale 1.5, 32 px, ")
    assert loaded.generate(REQUESTS[:1]).shape == (1, 3, 32, 32)


def test_another_size_than_the_native_one_is_noted(folder: Path) -> None:
    loaded = sdxl.FAMILY.load(sdxl.Options(model=str(folder), steps=1), runtime(folder, image_size=64))
    assert loaded.notes[:-1] == ("made 64 px images; trained at 32 px",)
    assert loaded.notes[-1].startswith("asked for num_inference_steps 1, ")
    assert loaded.generate(REQUESTS[:1]).shape == (1, 3, 64, 64)


def test_published_parameter_counts() -> None:
    from models.pipelines.networks import count_parameters

    with torch.device("meta"):
        counts = {name: count_parameters(build()) for name, build in sdxl.build_networks().items()}
    assert counts["unet"] == 2_567_463_684
    assert counts["vae"] == 83_653_863
    assert counts["text_encoder"] == 123_060_480
    assert counts["text_encoder_2"] == 694_659_840


def test_random_weights_need_no_file(tmp_path: Path) -> None:
    asked = runtime(tmp_path, weights="random", random_size="small", dtype="bfloat16")
    loaded = sdxl.FAMILY.load(sdxl.Options(steps=2), asked)
    images_BCHW = loaded.generate(REQUESTS[:3])
    assert images_BCHW.shape == (3, 3, 32, 32)
    assert images_BCHW.float().std() > 1


def test_small_networks_have_the_full_ones_kinds_of_layers() -> None:
    with torch.device("meta"):
        full, small = (
            {name: {type(part) for part in build().modules()} for name, build in sdxl.build_networks(size).items()}
            for size in (sdxl.FULL, sdxl.SMALL)
        )
    assert small == full


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({}, {"model": "./nowhere"}, OSError, "no folder ./nowhere"),
        ({"offload": True}, {}, ValueError, "OFFLOAD=1"),
        ({"image_size": 50}, {}, ValueError, "multiple of 8"),
        ({"weights": "tiny"}, {}, OSError, "WEIGHTS=tiny needs"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, object], options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        sdxl.FAMILY.load(sdxl.Options(**options), runtime(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_missing_weights_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match="SDXL_MODEL=FOLDER, or use WEIGHTS=tiny") as caught:
        sdxl.FAMILY.load(sdxl.Options(), runtime(tmp_path))
    assert "\n" not in str(caught.value)


def test_incomplete_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="SDXL_MODEL=FOLDER") as caught:
        sdxl.FAMILY.load(sdxl.Options(model=str(tmp_path)), runtime(tmp_path))
    assert "\n" not in str(caught.value)


def test_stock_vae_is_decoded_in_float32_where_float16_overflows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    build_sdxl(force_upcast=True).save_pretrained(tmp_path)
    loaded = sdxl.FAMILY.load(sdxl.Options(model=str(tmp_path)), runtime(tmp_path, dtype="float16"))
    assert any("float32" in note and "SDXL_VAE" in note for note in loaded.notes)
