"""Infinity's adapter: official files, faults in them, the embedded layout, and what a batch may not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from models.base import OFFICIAL_RNG_NOTE, Request, Runtime
from models.infinity import (
    FAMILY,
    TRANSFORMER_FILE,
    VAE_FILE,
    InfinityGenerator,
    InfinityOptions,
    load,
    load_networks,
    save_embedded,
)
from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity, InfinityShape

ASSETS = Path(__file__).parents[2] / "assets"
GRIDS = ((1, 1), (2, 2), (4, 4))
PROMPTS = ["a robot", "a pink robot with a round head and three arms in front of a forest", "", "a blue cat"]


@pytest.fixture(scope="module")
def networks() -> tuple[Infinity, BSQVAE]:
    torch.manual_seed(0)
    infinity = Infinity(InfinityShape(4, 64, 2, 128, 128, 40, 1, 8)).requires_grad_(False)
    for parameter in infinity.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.1)
    vae = BSQVAE(ConvolutionShape((32,) * 5, 1, 8, attention=False, middle_attention=False)).requires_grad_(False)
    return infinity, vae


def published_names(infinity: Infinity) -> dict[str, Tensor]:
    """Return the state as it is published: blocks in two chunks, with the constants of the official modules."""
    state = {
        re.sub(r"^blocks\.(\d+)\.", lambda m: f"block_chunks.{int(m[1]) // 2}.module.{int(m[1]) % 2}.", key): value
        for key, value in infinity.state_dict().items()
    }
    zeros = [key.replace("mat_kv.weight", "zero_k_bias") for key in state if key.endswith("ca.mat_kv.weight")]
    return state | {key: torch.zeros(64) for key in zeros}


def layer_names(vae: BSQVAE) -> dict[str, Tensor]:
    """Return the state with a name for the convolution or norm inside each layer, and the official constants."""
    state = {}
    for key, value in vae.state_dict().items():
        layer, name = key.rsplit(".", 1)
        state[f"{layer}.{'norm' if 'norm' in layer.rsplit('.', 1)[1] else 'conv'}.{name}"] = value
    masks = {f"{part}.lfq.mask": 2 ** torch.arange(8) for part in ("quantizer", "quantize")}
    return state | masks


@pytest.fixture
def folder(tmp_path: Path, networks: tuple[Infinity, BSQVAE]) -> Path:
    """A folder in the published layout, and the text encoder in t5/."""
    infinity, vae = networks
    torch.save(published_names(infinity), tmp_path / TRANSFORMER_FILE)
    torch.save({"vae": layer_names(vae), "ema": {"x": torch.zeros(1)}, "step": 7}, tmp_path / VAE_FILE)
    (tmp_path / "t5").mkdir()
    for file in (*(ASSETS / "pixart" / "text_encoder").iterdir(), *(ASSETS / "pixart" / "tokenizer").iterdir()):
        (tmp_path / "t5" / file.name).write_bytes(file.read_bytes())
    return tmp_path


def runtime(tmp_path: Path, **changes: object) -> Runtime:
    plain = Runtime("pretrained", "cpu", "float32", 256, assets=tmp_path / "assets", cache=tmp_path / "cache")
    return replace(plain, **changes)  # type: ignore[arg-type]


def generator(folder: Path, **options: Any) -> InfinityGenerator:
    return load(InfinityOptions(model=str(folder), text_encoder=str(folder / "t5"), **options), runtime(folder))


def small(made: InfinityGenerator) -> InfinityGenerator:
    """Return the generator with a short schedule, for what does not depend on the published ones."""
    from models.networks.next_scale import Schedule

    return InfinityGenerator(
        made.name, made.infinity, made.vae, made.encoder, Schedule(GRIDS, (64, 64)), made.options, made.runtime
    )


def requests(*seeds: int) -> list[Request]:
    return [Request(i, PROMPTS[i], seed) for i, seed in enumerate(seeds or (40, 41, 42, 43))]


def assert_same_bits(actual_BCHW: Tensor, expected_BCHW: Tensor) -> None:
    """A bit that flips moves many pixels by more than one level; the decoder's own rounding moves few by one."""
    assert (actual_BCHW.int() - expected_BCHW.int()).abs().max() <= 1


def change(file: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    state = torch.load(file, weights_only=True)
    edited = edit(state)
    torch.save(edited if isinstance(edited, Mapping) else state, file)


def test_official_files_load_and_generate(folder: Path, networks: tuple[Infinity, BSQVAE]) -> None:
    made = generator(folder)
    assert (made.name, made.image_size) == ("Infinity-2B", 256)
    assert made.parameters == networks[0].parameter_count
    for network, expected in zip((made.infinity, made.vae), networks, strict=True):
        for key, value in expected.state_dict().items():
            assert torch.equal(network.state_dict()[key], value), key
    images_BCHW = made.generate(requests())
    assert images_BCHW.dtype == torch.uint8
    assert images_BCHW.shape == (4, 3, 256, 256)


def test_plain_names_load_as_the_published_ones(folder: Path, networks: tuple[Infinity, BSQVAE]) -> None:
    published = small(generator(folder)).generate(requests())
    torch.save(networks[0].state_dict(), folder / TRANSFORMER_FILE)
    torch.save(networks[1].state_dict(), folder / VAE_FILE)
    assert torch.equal(small(generator(folder)).generate(requests()), published)


def test_safetensors_load_as_the_pickled_ones(folder: Path, networks: tuple[Infinity, BSQVAE]) -> None:
    files = [folder / file.replace(".pth", ".safetensors") for file in (TRANSFORMER_FILE, VAE_FILE)]
    for network, file in zip(networks, files, strict=True):
        save_file(network.state_dict(), file)
    for network, expected in zip(load_networks(files[0], files[1], "cpu", "float32"), networks, strict=True):
        assert all(torch.equal(network.state_dict()[key], value) for key, value in expected.state_dict().items())


def test_training_checkpoint_loads_as_the_plain_one(folder: Path) -> None:
    plain = small(generator(folder)).generate(requests())
    masks = {"lvl_1L": torch.zeros(1, 9), "attn_bias_for_masking": torch.zeros(1, 1, 9, 9)}
    change(folder / TRANSFORMER_FILE, lambda state: {"epoch": 3, "trainer": {"gpt_fsdp": state | masks}})
    assert torch.equal(small(generator(folder)).generate(requests()), plain)


def test_scales_of_another_attention_kernel_are_reshaped(folder: Path) -> None:
    plain = small(generator(folder)).generate(requests())
    change(
        folder / TRANSFORMER_FILE,
        lambda state: {key: x.view(1, 1, 2, 1) if "scale_mul" in key else x for key, x in state.items()},
    )
    assert torch.equal(small(generator(folder)).generate(requests()), plain)


@pytest.mark.parametrize("published", [True, False])
def test_a_tokenizer_without_encoder_makes_the_same_images(
    folder: Path, networks: tuple[Infinity, BSQVAE], published: bool
) -> None:
    whole = small(generator(folder)).generate(requests())
    state = layer_names(networks[1]) if published else networks[1].state_dict()
    torch.save({"vae": {key: x for key, x in state.items() if key.startswith("decoder.")}}, folder / VAE_FILE)
    without = small(generator(folder))
    assert without.vae.shape == networks[1].shape
    assert torch.equal(without.generate(requests()), whole)


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
        "cfg 4, tau 0.5, top_p 0.97, guided after the block 2 from the end",
        "guided away from 'rain'",
        "words on faces added to prompts that name people",
        OFFICIAL_RNG_NOTE,
        "OFFLOAD has no effect: all networks stay on the device",
        "ran plainly: compiled has no form of its own on a CPU",
    )


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        generator(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("file", [TRANSFORMER_FILE, VAE_FILE])
def test_missing_file_is_named_with_the_remedy(folder: Path, file: str) -> None:
    (folder / file).unlink()
    with pytest.raises(OSError, match=rf"no {file}; put .* INFINITY_MODEL .* WEIGHTS=tiny") as caught:
        generator(folder)
    assert "\n" not in str(caught.value)


def test_networks_given_for_each_other_are_recognised(folder: Path) -> None:
    transformer, vae = ((folder / file).read_bytes() for file in (TRANSFORMER_FILE, VAE_FILE))
    (folder / VAE_FILE).write_bytes(transformer)
    said = refusal(folder)
    assert f"{VAE_FILE} is not a BSQ-VAE: " in said
    assert "is missing; it looks like an Infinity transformer" in said
    (folder / TRANSFORMER_FILE).write_bytes(vae)
    assert re.search(rf"{TRANSFORMER_FILE} holds vae, .* it looks like a BSQ-VAE", refusal(folder))
    change(folder / TRANSFORMER_FILE, lambda state: state["vae"])
    assert re.search(r"is not an Infinity transformer: 'word_embed.weight' .* it looks like a BSQ-VAE", refusal(folder))


def test_networks_of_var_are_recognised(folder: Path) -> None:
    from models.networks.var_transformer import VAR, VARShape
    from models.networks.vqvae import VQVAE, VQVAEShape

    vqvae = VQVAE(VQVAEShape(ConvolutionShape((32, 32), 1, 8), 32, (1, 2)))
    change(folder / VAE_FILE, lambda _: vqvae.state_dict())
    said = refusal(folder)
    found = "it has quantize.embedding.weight, which no BSQ-VAE has; it looks like a VQVAE"
    assert f"{VAE_FILE} is not a BSQ-VAE: {found}" in said
    change(folder / TRANSFORMER_FILE, lambda _: VAR(VARShape(2, 64, 4, (1, 2), 8, 32, classes=10)).state_dict())
    assert re.search(r"is not an Infinity transformer: .* it looks like a VAR transformer", refusal(folder))


def test_a_file_of_something_else_is_refused(folder: Path) -> None:
    change(folder / TRANSFORMER_FILE, lambda _: {"a": torch.zeros(1), "b": torch.zeros(1)})
    assert "is not an Infinity transformer: 'word_embed.weight' is missing; it begins with a, b" in refusal(folder)
    (folder / TRANSFORMER_FILE).write_bytes(b"<html>")
    assert f"{TRANSFORMER_FILE} is no checkpoint of tensors" in refusal(folder)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("block_chunks.1.module.1.ca.mat_q.weight", None, "missing blocks.3.ca.mat_q.weight"),
        ("blocks.0.extra", torch.zeros(1), "unexpected blocks.0.extra"),
        ("head.bias", torch.zeros(3), "misshapen head.bias (3,) instead of (16,)"),
        ("cfg_uncond", None, "does not fit: 'cfg_uncond' is missing; it looks like an Infinity transformer"),
    ],
)
def test_every_tensor_of_the_transformer_is_accounted_for(
    folder: Path, key: str, value: Tensor | None, message: str
) -> None:
    change(folder / TRANSFORMER_FILE, lambda state: state.pop(key, None))
    if value is not None:
        change(folder / TRANSFORMER_FILE, lambda state: state | {key: value})
    assert message in refusal(folder)


@pytest.mark.parametrize("part", ["encoder", "decoder"])
def test_every_tensor_of_the_tokenizer_is_accounted_for(folder: Path, part: str) -> None:
    change(folder / VAE_FILE, lambda state: state["vae"].pop(f"{part}.mid.block_1.conv1.conv.weight") * 0)
    assert f"does not fit BSQVAE: missing {part}.mid.block_1.conv1.weight" in refusal(folder)


def test_networks_of_different_pairs_are_refused(folder: Path) -> None:
    shape = ConvolutionShape((32,) * 5, 1, 16, attention=False, middle_attention=False)
    change(folder / VAE_FILE, lambda _: BSQVAE(shape).state_dict())
    assert f"{VAE_FILE} has 16 latent channels, but {TRANSFORMER_FILE} predicts 8 bits" in refusal(folder)


def test_another_text_encoder_is_refused(folder: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    config = T5Config.from_pretrained(folder / "t5")
    config.d_model = 64
    T5EncoderModel(config).save_pretrained(folder / "t5")
    assert re.search(r"INFINITY_TEXT_ENCODER=.* makes 64 features a token, but .* reads 128", refusal(folder))


def test_guidance_before_the_first_block_is_refused(folder: Path) -> None:
    assert "INFINITY_INSERTION=-5: the transformer has 4 blocks" in refusal(folder, insertion=-5)


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
    with pytest.raises(ValueError, match="INFINITY_ASPECT=2: WEIGHTS=tiny makes square images alone"):
        load(InfinityOptions(aspect=2.0), runtime(embedded, weights="tiny"))


def test_random_weights_have_the_published_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    from models import infinity, random_weights

    built = []

    def on_meta(build: Callable[[], torch.nn.Module], *_: object) -> torch.nn.Module:
        with torch.device("meta"):
            built.append(build())
        return built[-1]

    monkeypatch.setattr(random_weights, "build_random", on_meta)
    transformer, vae = infinity.random_networks("cpu", "bfloat16")
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
