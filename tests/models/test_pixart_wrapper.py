"""PixArt-Sigma behind generate(): split and whole folders, embedded layout, batches, parameter counts, errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from diffusers_folders import build_pixart, write_pixart_split

from models import pixart
from models.base import ImageGenerator, Request, Runtime

PROMPTS = ("a pink robot", "a blue cat", "tree", "", "a forest painting", "cat", "robot head", "round")
REQUESTS = [Request(seed, prompt, seed) for seed, prompt in enumerate(PROMPTS)]


def runtime(folder: Path, **changes: object) -> Runtime:
    whole = Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache")
    return dataclasses.replace(whole, **changes)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_pixart_split(tmp_path_factory.mktemp("pixart"))


@pytest.fixture(scope="module")
def generator(folders: tuple[Path, Path]) -> ImageGenerator:
    model, base = folders
    return pixart.FAMILY.load(pixart.Options(model=str(model), base=str(base), steps=4), runtime(model))


def test_split_folders_make_uint8_images(generator: ImageGenerator) -> None:
    images_BCHW = generator.generate(REQUESTS[:2])
    assert images_BCHW.shape == (2, 3, 32, 32)
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.float().std() > 1
    assert (generator.name, generator.image_size) == ("PixArt", 32)
    assert generator.notes == (
        "asked for num_inference_steps 4, guidance_scale 4.5, 32 px, DPMSolverMultistepScheduler, linspace timesteps, "
        "no negative prompt, max_sequence_length 40",
    )


@pytest.mark.parametrize("batch", [1, 3])
def test_images_do_not_depend_on_the_batch(generator: ImageGenerator, batch: int) -> None:
    whole = generator.generate(REQUESTS).int()
    parts = torch.cat([generator.generate(REQUESTS[i : i + batch]) for i in range(0, 8, batch)]).int()
    assert (whole - parts).abs().max() <= 1


def test_an_image_depends_on_its_own_seed_alone(generator: ImageGenerator) -> None:
    first = generator.generate(REQUESTS[:2]).int()
    other_neighbour = generator.generate([REQUESTS[0], Request(1, "a forest painting", 99)]).int()
    other_seed = generator.generate([Request(0, REQUESTS[0].prompt, 5)]).int()
    assert (first[0] - other_neighbour[0]).abs().max() <= 1
    assert not torch.equal(first[1], other_neighbour[1])
    assert not torch.equal(first[0], other_seed[0])


def test_whole_folder_is_used_whole(tmp_path: Path, generator: ImageGenerator) -> None:
    build_pixart().save_pretrained(tmp_path)
    options = pixart.Options(model=str(tmp_path), base="nowhere/at-all", steps=4)
    whole = pixart.FAMILY.load(options, runtime(tmp_path))
    assert pixart.FAMILY.source(options, runtime(tmp_path)) == f"folder {tmp_path}"
    assert torch.equal(whole.generate(REQUESTS[:1]), generator.generate(REQUESTS[:1]))


def test_embedded_layout_shares_the_vae(tmp_path: Path) -> None:
    build_pixart().to(torch.float16).save_pretrained(tmp_path / "assets" / "pixart")
    (tmp_path / "assets" / "pixart" / "vae").rename(tmp_path / "assets" / "vae")
    options = pixart.Options(**pixart.FAMILY.tiny_options)
    loaded = pixart.FAMILY.load(options, runtime(tmp_path, weights="tiny"))
    assert (options.steps, options.guidance) == (10, 1.5)
    assert loaded.image_size == 32
    assert len(loaded.notes) == 1
    assert loaded.notes[0].startswith("asked for num_inference_steps 10, guidance_scale 1.5, 32 px, ")
    assert loaded.pipeline.tokenizer.model_max_length == 40
    assert loaded.arguments["max_sequence_length"] == 40
    assert loaded.generate(REQUESTS[:1]).shape == (1, 3, 32, 32)


def test_published_parameter_counts() -> None:
    from models.pipelines.networks import count_parameters

    with torch.device("meta"):
        counts = {name: count_parameters(build()) for name, build in pixart.build_networks(512).items()}
    assert counts["transformer"] == 610_856_096
    assert counts["text_encoder"] == 4_762_310_656
    assert counts["vae"] == 83_653_863


def test_model_follows_the_asked_size(tmp_path: Path) -> None:
    sources = [pixart.FAMILY.source(pixart.Options(), runtime(tmp_path, image_size=size)) for size in (256, 512, 1024)]
    assert ["512-MS" in source for source in sources] == [True, True, False]
    assert "1024-MS" in sources[2]


def test_random_weights_need_no_file_at_the_real_prompt_length(tmp_path: Path) -> None:
    asked = runtime(tmp_path, weights="random", random_size="small", dtype="bfloat16", image_size=64)
    loaded = pixart.FAMILY.load(pixart.Options(steps=2), asked)
    assert loaded.notes[:-1] == ("made 64 px images; trained at 512 px",)
    assert loaded.notes[-1].startswith("asked for num_inference_steps 2, guidance_scale 4.5, 64 px, ")
    assert loaded.arguments["max_sequence_length"] == 300
    assert loaded.generate(REQUESTS[:3]).float().std() > 1


def test_small_networks_have_the_full_ones_kinds_of_layers() -> None:
    with torch.device("meta"):
        full, small = (
            {
                name: {type(part) for part in build().modules()}
                for name, build in pixart.build_networks(512, size).items()
            }
            for size in (pixart.FULL, pixart.SMALL)
        )
    assert small == full


@pytest.mark.parametrize(
    ("changes", "options", "error", "words"),
    [
        ({}, {"model": "./nowhere"}, OSError, "no folder ./nowhere"),
        ({"offload": True}, {}, ValueError, "OFFLOAD=1"),
        ({"image_size": 40}, {}, ValueError, "multiple of 16"),
        ({"weights": "tiny"}, {}, OSError, "WEIGHTS=tiny needs"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(
    tmp_path: Path, changes: dict[str, object], options: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        pixart.FAMILY.load(pixart.Options(**options), runtime(tmp_path, **changes))
    assert "\n" not in str(caught.value)


def test_missing_weights_name_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match="PIXART_MODEL=FOLDER, or use WEIGHTS=tiny") as caught:
        pixart.FAMILY.load(pixart.Options(), runtime(tmp_path))
    assert "\n" not in str(caught.value)
