"""Infinity's files: the published layout and its variants, and faults in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from infinity_folders import (
    build_networks,
    change,
    generator,
    layer_names,
    requests,
    small,
    write_infinity,
)
from safetensors.torch import save_file
from torch import Tensor

from models.infinity_files import TRANSFORMER_FILE, VAE_FILE, load_networks
from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity


@pytest.fixture(scope="module")
def networks() -> tuple[Infinity, BSQVAE]:
    return build_networks()


@pytest.fixture
def folder(tmp_path: Path, networks: tuple[Infinity, BSQVAE]) -> Path:
    return write_infinity(tmp_path, networks)


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
    assert re.search(r"INFINITY_TEXT_ENCODER=.* makes 64 features per token, but .* reads 128", refusal(folder))


def test_guidance_before_the_first_block_is_refused(folder: Path) -> None:
    assert "INFINITY_INSERTION=-5: the transformer has 4 blocks" in refusal(folder, insertion=-5)
