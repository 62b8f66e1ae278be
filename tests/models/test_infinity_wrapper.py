"""Infinity behind generate(): prompts, options, the embedded layout, and what a batch may not change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from infinity_folders import (
    ASSETS,
    GRIDS,
    assert_same_bits,
    build_networks,
    generator,
    requests,
    runtime,
    small,
    write_infinity,
)

from models.base import OFFICIAL_RNG_NOTE, Request
from models.infinity import FAMILY, InfinityOptions, load
from models.infinity_files import TRANSFORMER_FILE, save_embedded
from models.networks.bsq_vae import BSQVAE
from models.networks.infinity_transformer import Infinity


@pytest.fixture(scope="module")
def networks() -> tuple[Infinity, BSQVAE]:
    return build_networks()


@pytest.fixture
def folder(tmp_path: Path, networks: tuple[Infinity, BSQVAE]) -> Path:
    return write_infinity(tmp_path, networks)


def test_matrix_products_run_in_the_dtype_of_the_run(folder: Path) -> None:
    options = InfinityOptions(model=str(folder), text_encoder=str(folder / "t5"))
    made = small(load(options, runtime(folder, dtype="bfloat16")))
    state = made.infinity.state_dict()
    assert state["blocks.0.ffn.fc1.weight"].dtype == torch.bfloat16
    assert state["head.weight"].dtype == state["blocks.0.ca_norm.weight"].dtype == torch.float32
    assert made.vae.decoder.conv_in.weight.dtype == torch.bfloat16
    assert made.encoder.network.dtype == torch.bfloat16
    assert made.generate(requests()).shape == (4, 3, 64, 64)


def test_images_are_the_same_at_any_batch_size(folder: Path) -> None:
    made = small(generator(folder))
    alone = torch.cat([made.generate([request]) for request in requests()])
    assert_same_bits(alone, torch.cat([made.generate(requests()[:3]), made.generate(requests()[3:])]))
    assert_same_bits(alone, made.generate(requests()))


def test_images_follow_seed_and_prompt(folder: Path) -> None:
    made = small(generator(folder, tau=1.0))
    picture = made.generate([Request(0, "a robot", 5)])
    assert torch.equal(made.generate([Request(0, "a robot", 5)]), picture)
    assert not torch.equal(made.generate([Request(0, "a robot", 6)]), picture)
    assert not torch.equal(made.generate([Request(0, "a cat", 5)]), picture)


@pytest.mark.parametrize("prompt", ["a cat", "a cat with many more words than any prompt has in front of a wall"])
def test_negative_prompt_changes_the_image_at_any_batch_size(folder: Path, prompt: str) -> None:
    plain, guided = small(generator(folder)), small(generator(folder, negative_prompt=prompt))
    pictures = guided.generate(requests())
    assert not torch.equal(pictures, plain.generate(requests()))
    assert_same_bits(pictures, torch.cat([guided.generate([request]) for request in requests()]))


def test_negative_prompt_without_guidance_is_refused_before_loading(folder: Path) -> None:
    check, options = FAMILY.check, InfinityOptions(model=str(folder), negative_prompt="a cat", cfg=1.0)
    assert check is not None
    with pytest.raises(ValueError, match="INFINITY_NEGATIVE_PROMPT reaches nothing with INFINITY_CFG=1"):
        check(options, runtime(folder))
    check(replace(options, cfg=2.0), runtime(folder))


def test_negative_prompt_does_nothing_without_guidance(folder: Path) -> None:
    plain, guided = (small(generator(folder, cfg=1.0, negative_prompt=text)) for text in ("", "a cat"))
    assert torch.equal(plain.generate(requests()), guided.generate(requests()))


def test_guidance_may_be_inserted_in_the_stream(folder: Path) -> None:
    pictures = [small(generator(folder, insertion=insertion)).generate(requests()) for insertion in (0, -2, -4)]
    assert not torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[1], pictures[2])


def test_words_on_faces_are_added_where_they_are_asked_for(folder: Path) -> None:
    plain, praised = small(generator(folder)), small(generator(folder, positive_prompt=True))
    assert plain.encode(["a man"]).mask_RT.sum() < praised.encode(["a man"]).mask_RT.sum()
    assert torch.equal(plain.encode(["a robot"]).mask_RT, praised.encode(["a robot"]).mask_RT)


def test_official_draws_depend_on_the_first_seed_alone(folder: Path) -> None:
    made = small(generator(folder, official_rng=True))
    pictures = made.generate(requests(1, 2, 3))
    assert torch.equal(made.generate(requests(1, 8, 9)), pictures)
    assert not torch.equal(made.generate(requests(2, 2, 3)), pictures)
    assert not torch.equal(small(generator(folder)).generate(requests(1, 2, 3)), pictures)


def test_images_need_not_be_square(folder: Path) -> None:
    made = generator(folder, aspect=0.5)
    assert made.generate(requests(1)).shape == (1, 3, 176, 352)
    assert made.image_size == 352
    assert "asked for 256 px: made 352 x 176 px (width x height); its size is the longer side" in made.notes


def test_notes_say_what_differs_from_what_was_asked(folder: Path) -> None:
    options = InfinityOptions(model=str(folder), text_encoder=str(folder / "t5"), negative_prompt="rain", insertion=-2)
    made = load(
        replace(options, positive_prompt=True, official_rng=True),
        runtime(folder, image_size=320, mode="compiled", offload=True),
    )
    assert made.notes == (
        "not the published 2B: 4 blocks of width 64",
        f"text encoder: {folder / 't5'}",
        "made 256 px images, the nearest published size; asked for 320 px",
        "cfg 4, tau 0.5, top_k 900, top_p 0.97, guided after the block 2 from the end",
        "guided away from 'rain'",
        "words on faces added to prompts that name people",
        OFFICIAL_RNG_NOTE,
        "OFFLOAD has no effect: all networks stay on the device",
        "ran as eager: there is no compiled form for a CPU",
    )


@pytest.fixture
def embedded(tmp_path: Path, networks: tuple[Infinity, BSQVAE]) -> Path:
    """A folder whose assets/ holds an embedded Infinity beside the embedded PixArt."""
    (tmp_path / "assets").mkdir()
    (tmp_path / "assets" / "pixart").symlink_to(ASSETS / "pixart")
    save_embedded(tmp_path / "assets" / "infinity", *networks, GRIDS)
    return tmp_path


def test_embedded_model_makes_images_of_its_own_size(embedded: Path) -> None:
    made = load(InfinityOptions(), runtime(embedded, weights="tiny", image_size=64))
    assert (made.schedule.grids, made.schedule.span) == (GRIDS, (4, 4))
    assert (made.image_size, made.encoder.max_tokens) == (64, 40)
    assert_same_bits(made.generate(requests()), torch.cat([made.generate([request]) for request in requests()]))
    assert made.notes[:2] == ("embedded model of depth 4", "text encoder: the embedded PixArt's T5")


@pytest.mark.parametrize("file", ["config.json", "infinity.safetensors", "vae/vae.safetensors"])
def test_missing_embedded_file_is_an_os_error(embedded: Path, file: str) -> None:
    (embedded / "assets" / "infinity" / file).unlink()
    with pytest.raises(OSError, match=rf"holds no embedded Infinity \({file} is missing\); restore assets/"):
        load(InfinityOptions(), runtime(embedded, weights="tiny"))


def test_embedded_model_without_its_text_encoder_is_an_os_error(embedded: Path) -> None:
    (embedded / "assets" / "pixart").unlink()
    with pytest.raises(OSError, match="holds no text encoder"):
        load(InfinityOptions(), runtime(embedded, weights="tiny"))


def test_embedded_model_has_no_other_ratio(embedded: Path) -> None:
    with pytest.raises(ValueError, match="INFINITY_ASPECT=2: WEIGHTS=tiny makes square images only"):
        load(InfinityOptions(aspect=2.0), runtime(embedded, weights="tiny"))


def test_random_weights_have_the_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    from models import infinity_files, random_weights

    built = []

    def on_meta(build: Callable[[], torch.nn.Module], *_: object) -> torch.nn.Module:
        with torch.device("meta"):
            built.append(build())
        return built[-1]

    monkeypatch.setattr(random_weights, "build_random", on_meta)
    transformer, vae = infinity_files.random_networks("cpu", "bfloat16")
    assert transformer.parameter_count == 2_204_564_032
    assert sum(parameter.numel() for parameter in vae.parameters()) == 110_118_051
    from models.infinity_text import random_text_encoder

    encoder = random_text_encoder("cpu", "bfloat16")
    assert encoder.width == transformer.shape.text_width
    assert 1.21e9 < sum(parameter.numel() for parameter in encoder.network.parameters()) < 1.23e9


def test_family_is_known_before_torch_is_loaded(tmp_path: Path) -> None:
    assert FAMILY.title(InfinityOptions()) == "Infinity-2B"
    assert FAMILY.selected_by("infinity") == {}
    assert FAMILY.selected_by("var") is None
    assert TRANSFORMER_FILE in FAMILY.source(InfinityOptions(), runtime(tmp_path))
    assert "google/flan-t5-xl" in FAMILY.source(InfinityOptions(), runtime(tmp_path))


def test_all_prompts_of_a_run_are_padded_to_hold_the_longest(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.infinity_text.PADDED_TOKENS", (8, 40))
    made = small(generator(folder))
    short, long = Request(0, "a robot", 1), Request(0, "a robot " * 20, 2)
    assert made.encode([short.prompt]).mask_RT.shape[1] < made.encode([long.prompt]).mask_RT.shape[1]
    before = made.generate([short])
    assert made.prepare([short, long]) == [short, long]
    assert made.encode([short.prompt]).mask_RT.shape[1] == made.encode([long.prompt]).mask_RT.shape[1]
    # One program then serves both, and padding changes no image.
    assert_same_bits(made.generate([short]), before)


def test_without_guidance_the_prompts_rows_run_alone(folder: Path) -> None:
    """The unconditional rows would double the time and change nothing."""
    unguided = small(generator(folder, cfg=1.0))
    rows: list[int] = []
    unguided.infinity.head.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    alone = unguided.generate(requests())
    assert set(rows) == {4}
    # A trace of guidance keeps both rows; its images are the same.
    traced = small(generator(folder, cfg=1.0 + 1e-7))
    assert_same_bits(traced.generate(requests()), alone)
