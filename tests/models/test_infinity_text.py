"""Infinity's text encoder: what padding may not change, where prompts are cut, and what is no T5."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from models.hash_tokenizer import HashTokenizer
from models.infinity_text import (
    POSITIVE_PROMPT,
    T5_XL,
    TextEncoder,
    load_text_encoder,
    load_tiny_text_encoder,
    padded_length,
    with_positive_prompt,
)

ASSETS = Path(__file__).parents[2] / "assets"
PROMPTS = ["a robot", "a pink robot with a round head in a forest, painted on a wall", ""]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    """A T5 of two layers, random; words become tokens by their hash."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    sizes = {"vocab_size": 200, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    network = T5EncoderModel(T5Config(**{**T5_XL, **sizes})).eval().requires_grad_(False)
    return TextEncoder(HashTokenizer(200, 512, start=None, end=1, pad=0), network)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files of the embedded encoder and tokenizer."""
    for file in (*(ASSETS / "pixart" / "text_encoder").iterdir(), *(ASSETS / "pixart" / "tokenizer").iterdir()):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_features_do_not_depend_on_the_other_prompts(encoder: TextEncoder) -> None:
    together = encoder.encode([*PROMPTS, "word " * 100])
    assert together.features_RTt.shape == (4, 128, 32)
    assert together.features_RTt.dtype == torch.float32
    assert together.mask_RT.sum(dim=1).tolist() == [3, 15, 1, 101]
    for i, prompt in enumerate(PROMPTS):
        alone = encoder.encode([prompt])
        assert torch.equal(alone.mask_RT[0], together.mask_RT[i, :64])
        assert (alone.features_RTt[0] - together.features_RTt[i, :64]).abs().max() < 1e-5


def test_features_do_not_depend_on_the_padding(encoder: TextEncoder) -> None:
    exact, padded = (encoder.encode(["a pink robot"], tokens) for tokens in (4, 512))
    assert exact.mask_RT.all()
    assert padded.features_RTt.shape == (1, 512, 32)
    assert (exact.features_RTt - padded.features_RTt[:, :4]).abs().max() < 1e-5
    assert padded.features_RTt[:, 4:].abs().max() == 0


@pytest.mark.parametrize(
    ("tokens", "most", "length"),
    [(1, 512, 64), (64, 512, 64), (65, 512, 128), (512, 512, 512), (5, 40, 40), (70, 100, 100), (60, 100, 64)],
)
def test_few_lengths_serve_all_prompts(tokens: int, most: int, length: int) -> None:
    assert padded_length(tokens, most) == length


def test_long_prompts_are_cut_to_what_the_transformer_knows(encoder: TextEncoder) -> None:
    short = encoder.cut_to(12)
    text = short.encode(["word " * 100])
    assert text.mask_RT.shape == (1, 12)
    assert text.mask_RT.all()
    assert torch.equal(short.tokenize(["word " * 100])[0][:, -1], torch.tensor([1]))
    assert encoder.encode(["word " * 1000]).mask_RT.sum() == 512


def test_embedded_encoder_reads_captions_as_pixart_does() -> None:
    encoder = load_tiny_text_encoder(ASSETS, "cpu")
    assert (encoder.width, encoder.max_tokens) == (128, 40)
    assert torch.equal(encoder.tokenize(["  A Pink ROBOT "])[0], encoder.tokenize(["a pink robot"])[0])
    assert encoder.encode(PROMPTS).features_RTt.shape == (3, 40, 128)
    assert encoder.encode(PROMPTS, tokens=30).features_RTt.shape == (3, 30, 128)


def test_an_encoder_of_a_folder_is_the_embedded_one(folder: Path) -> None:
    found, embedded = load_text_encoder(str(folder), "cpu", "float32"), load_tiny_text_encoder(ASSETS, "cpu")
    assert (found.max_tokens, found.lower_case) == (512, False)
    assert torch.equal(found.encode(["a robot"], 40).features_RTt, embedded.encode(["a robot"], 40).features_RTt)


def test_missing_embedded_encoder_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"holds no text encoder, .* restore assets/") as caught:
        load_tiny_text_encoder(tmp_path, "cpu")
    assert "\n" not in str(caught.value)


def test_missing_folder_is_named_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no folder .*none"):
        load_text_encoder(str(tmp_path / "none"), "cpu", "float32")
    with pytest.raises(OSError, match=r"INFINITY_TEXT_ENCODER=FOLDER.*WEIGHTS=tiny") as caught:
        load_text_encoder(str(tmp_path), "cpu", "float32")
    assert "\n" not in str(caught.value)


def test_an_encoder_with_a_hole_is_refused(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"is not a T5 encoder: missing encoder.block.1.layer.0.SelfAttention.q"):
        load_text_encoder(str(folder), "cpu", "float32")


def test_another_network_is_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "d_model": 64}))
    with pytest.raises(ValueError, match=r"INFINITY_TEXT_ENCODER=.* is not a T5 encoder: .* misshapen") as caught:
        load_text_encoder(str(folder), "cpu", "float32")
    assert "\n" not in str(caught.value)


def test_words_on_faces_follow_prompts_that_name_people() -> None:
    assert with_positive_prompt("a woman") == f"a woman{POSITIVE_PROMPT}"
    assert with_positive_prompt("a romance of men") == f"a romance of men{POSITIVE_PROMPT}"
    assert with_positive_prompt("a pink robot") == "a pink robot"
