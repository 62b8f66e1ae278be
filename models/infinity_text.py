"""Infinity's text: prompts to the padded features of a T5 encoder; pretrained, random or the one embedded for PixArt.

R prompts, T tokens, t text width. The published code cuts a prompt's features to its real length and packs a batch;
here rows are padded and come with a mask, which is the same to the transformer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from files.downloads import show_bar
from files.opening import from_pretrained
from files.sources import expanded, is_local
from models.base import NetworkSize
from models.infinity_files import hub_text_encoder
from models.networks.infinity_transformer import Text

MAX_TOKENS = 512
# Few lengths, so that a CUDA graph serves many prompts and a prompt rarely has another length beside longer ones.
PADDED_TOKENS = (64, 128, 256, 512)

# The published configuration of google/flan-t5-xl's encoder; what is not named here is the class's default.
T5_XL: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 2048,
    "d_kv": 64,
    "d_ff": 5120,
    "num_layers": 24,
    "num_heads": 32,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}

# A T5 of the same kind, for scripts and tests.
SMALL_T5 = T5_XL | {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}

# As published, these count wherever they stand in the prompt: "romance" has a man in it.
PEOPLE = (
    "man", "woman", "men", "women", "boy", "girl", "child", "person", "human", "adult", "teenager", "employee",
    "employer", "worker", "mother", "father", "sister", "brother", "grandmother", "grandfather", "son", "daughter",
)  # fmt: skip
POSITIVE_PROMPT = ". very smooth faces, good looking faces, face to the camera, perfect facial features"


@dataclass(frozen=True)
class TextEncoder:
    """A T5 encoder with its tokenizer.

    tokenizer: called as transformers' are. network: a T5EncoderModel. max_tokens: where a prompt is cut, its end token
    included. lower_case: whether the encoder was trained on lower-case words without spaces around them.
    """

    tokenizer: Any
    network: Any
    max_tokens: int = MAX_TOKENS
    lower_case: bool = False

    @property
    def width(self) -> int:
        """Features of a token."""
        return int(self.network.config.d_model)

    def cut_to(self, tokens: int) -> TextEncoder:
        """Return this encoder with prompts of at most so many tokens: the length of the transformer's own table."""
        return replace(self, max_tokens=min(tokens, self.max_tokens))

    def encode(self, prompts: Sequence[str], tokens: int | None = None, at_least: int = 0) -> Text:
        """Return the features of the prompts, padded to `tokens`, or to the least of the usual lengths that holds all.

        at_least: holds so many tokens as well. What stands beyond a prompt's own tokens is zero.
        """
        ids_RT, mask_RT = self.tokenize(prompts, tokens, at_least)
        return self.features(ids_RT, mask_RT)

    def tokenize(self, prompts: Sequence[str], tokens: int | None = None, at_least: int = 0) -> tuple[Tensor, Tensor]:
        """Return `ids_RT`, int64, and `mask_RT`, bool, on the network's device."""
        texts = [prompt.lower().strip() if self.lower_case else prompt for prompt in prompts]
        limit = self.max_tokens if tokens is None else min(tokens, self.max_tokens)
        found = self.tokenizer(texts, padding="longest", max_length=limit, truncation=True, return_tensors="pt")
        longest = found.input_ids.shape[1]
        missing = (tokens or padded_length(max(longest, at_least), self.max_tokens)) - longest
        ids_RT, mask_RT = (functional.pad(x_RT, (0, missing)) for x_RT in (found.input_ids, found.attention_mask))
        return ids_RT.to(self.network.device), mask_RT.to(self.network.device, torch.bool)

    def features(self, ids_RT: Tensor, mask_RT: Tensor) -> Text:
        """Return the features of tokens; a function of tensors alone."""
        features_RTt = self.network(ids_RT, attention_mask=mask_RT.long()).last_hidden_state.float()
        return Text(features_RTt.masked_fill(~mask_RT[..., None], 0.0), mask_RT)


def padded_length(tokens: int, most: int) -> int:
    """Return the least of the usual lengths that holds so many tokens; none is over `most`."""
    return min((length for length in (*PADDED_TOKENS, most) if tokens <= length <= most), default=most)


def with_positive_prompt(prompt: str) -> str:
    """Return the prompt with the published words on faces where it seems to ask for people."""
    return prompt + POSITIVE_PROMPT if any(word in prompt for word in PEOPLE) else prompt


def load_text_encoder(model: str, device: str, dtype: str) -> TextEncoder:
    """Return the encoder of a folder in transformers' layout or of a hub id.

    Raises:
        OSError: its files are not there.
        ValueError: the files lack some of the encoder's tensors.
    """
    folder = expanded(model) if is_local(model) else hub_text_encoder(model).fetch(show_bar)
    return _read_text_encoder(model, folder, folder, device, dtype)


def load_tiny_text_encoder(assets: Path, device: str, dtype: str = "float32") -> TextEncoder:
    """Return the embedded encoder, that of PixArt; `encode(prompts, tokens)` pads to a fixed length.

    Raises:
        OSError: `assets` holds no embedded PixArt.
    """
    folder = assets / "pixart"
    if not (folder / "text_encoder").is_dir() or not (folder / "tokenizer").is_dir():
        raise OSError(
            f"{folder} holds no text encoder, which the embedded Infinity shares; restore assets/ from the repository"
        )
    encoder = _read_text_encoder(str(folder), folder / "text_encoder", folder / "tokenizer", device, dtype)
    return replace(encoder, max_tokens=encoder.tokenizer.model_max_length, lower_case=True)


def random_text_encoder(device: str, dtype: str, size: NetworkSize = "full") -> TextEncoder:
    """Return T5 XL, or a small T5, with random weights; words become tokens by their hash."""
    from transformers import T5Config, T5EncoderModel

    from models.hash_tokenizer import HashTokenizer
    from models.pipelines.generator import quiet_libraries
    from models.random_weights import build_random

    sizes = T5_XL if size == "full" else SMALL_T5
    with quiet_libraries():
        network = build_random(lambda: T5EncoderModel(T5Config(**sizes)), device, getattr(torch, dtype))
    tokenizer = HashTokenizer(T5_XL["vocab_size"], MAX_TOKENS, start=None, end=1, pad=0)
    return TextEncoder(tokenizer, network)


def _read_text_encoder(name: str, folder: Path, tokenizer_folder: Path, device: str, dtype: str) -> TextEncoder:
    from transformers import T5EncoderModel, T5Tokenizer

    from models.pipelines.generator import missing_weights, quiet_libraries

    with quiet_libraries(), missing_weights(name, "INFINITY_TEXT_ENCODER"):
        tokenizer = from_pretrained(T5Tokenizer, tokenizer_folder)
        network, found = from_pretrained(
            T5EncoderModel, folder, dtype=getattr(torch, dtype), output_loading_info=True, ignore_mismatched_sizes=True
        )
    # transformers puts random numbers where a file has no tensor that fits, and warns.
    faults = [f"missing {key}" for key in sorted(found["missing_keys"])]
    faults += [f"misshapen {key}" for key, *_ in sorted(found["mismatched_keys"])]
    if faults:
        raise ValueError(
            f"INFINITY_TEXT_ENCODER={name} is not a T5 encoder: {', '.join(faults[:3])}; "
            "expected google/flan-t5-xl or a folder with its files"
        )
    return TextEncoder(tokenizer, network.to(device).eval().requires_grad_(False))
