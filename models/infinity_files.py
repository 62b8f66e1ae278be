"""Infinity's two networks from files, in the published layout and the embedded one, or with random weights."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from files.downloads import HubFiles
from models.base import NetworkSize
from models.checkpoints import check_checkpoint, here, named
from models.needed import hub_weights

if TYPE_CHECKING:
    from torch import Tensor

    from models.networks.bsq_vae import BSQVAE
    from models.networks.convolutions import ConvolutionShape
    from models.networks.infinity_transformer import Infinity
    from models.networks.next_scale import Grid

TRANSFORMER_FILE = "infinity_2b_reg.pth"
VAE_FILE = "infinity_vae_d32reg.pth"
TEXT_ENCODER = "google/flan-t5-xl"
# What a training checkpoint calls the weights, and what the published tokenizer's file does.
TRANSFORMER_ENTRY, VAE_ENTRY = "trainer.gpt_fsdp", "vae"
# As messages call the two networks.
TRANSFORMER, TOKENIZER = "an Infinity transformer", "a BSQ-VAE"
# The 8B predicts four places of its tokenizer as one token, which the networks here do not.
WIDTH_8B = 3584
NO_8B = f"Infinity-8B is not supported; give the 2B ({TRANSFORMER_FILE} with {VAE_FILE})"
VAE_DERIVABLE = ("quantizer.lfq.mask", "quantize.lfq.mask")


def check_model(source: str) -> None:
    """Raise OSError where INFINITY_MODEL names no checkpoint, or, by the names of its files, one of Infinity-8B."""
    check_checkpoint(source)
    place = here(source)
    if place is None or (place.is_dir() and named(place, TRANSFORMER_FILE)):
        return
    if place.is_dir() and (parts := [*place.glob("*.index.json"), *place.glob("*-of-[0-9]*")]):
        raise OSError(f"{parts[0].name} is of a checkpoint in several files, as the 8B is published: {NO_8B}")
    large = (place, *(place.glob("infinity_8b*") if place.is_dir() else ()))
    if found := [path.name for path in large if path.name.startswith("infinity_8b")]:
        raise OSError(f"{found[0]}: {NO_8B}")


def hub_text_encoder(source: str) -> HubFiles:
    """Return what is needed of the T5's repository."""
    known = 11_400_000_000 if source == TEXT_ENCODER else None
    patterns = ("*.json", "spiece.model", "model*.safetensors")
    return hub_weights("Infinity's T5", source, "INFINITY_TEXT_ENCODER", patterns, (), known)


def load_networks(transformer_file: Path, vae_file: Path, device: str, dtype: str) -> tuple[Infinity, BSQVAE]:
    """Return the two networks on `device` in `dtype`, every size read from the files.

    A tokenizer's file without the encoder is enough to make images: the encoder is then random.

    Raises:
        OSError: a file cannot be read.
        ValueError: a file is another one than expected, or the two do not belong together.
    """
    import torch

    from models.networks.bsq_vae import BSQVAE, plain_names
    from models.networks.infinity_transformer import Infinity, plain_block_names, read_infinity_shape
    from models.random_weights import build_random
    from models.weights import load_strictly, read_shape, read_state

    state = plain_block_names(read_state(transformer_file, TRANSFORMER_ENTRY, TRANSFORMER))
    shape = read_shape(transformer_file, TRANSFORMER, state, read_infinity_shape)
    if shape.width >= WIDTH_8B:
        raise ValueError(f"{transformer_file} has {shape.depth} blocks of width {shape.width}: {NO_8B}")
    vae_state = read_state(vae_file, VAE_ENTRY, TOKENIZER)
    vae_shape = read_shape(vae_file, TOKENIZER, vae_state, _read_vae_shape)
    if shape.bits != vae_shape.latent_channels:
        raise ValueError(
            f"{vae_file.name} has {vae_shape.latent_channels} latent channels, but {transformer_file.name} predicts "
            f"{shape.bits} bits per token; give the BSQ-VAE that belongs to it"
        )
    # The initialisation is thrown away; built so, the process's random state stays as it was.
    infinity = build_random(lambda: Infinity(shape), device, torch.float32)
    load_strictly(infinity, _plain_scales(state), str(transformer_file), infinity.derivable_keys)
    infinity.cast(getattr(torch, dtype))
    vae = build_random(lambda: BSQVAE(vae_shape), device, torch.float32)
    names = vae.state_dict().keys()
    # What is neither encoder nor decoder has no part in the images; the published code passes over it as well.
    parts = {key: value for key, value in vae_state.items() if key.startswith(("encoder.", "decoder."))}
    without_encoder = not any(key.startswith("encoder.") for key in parts)
    derivable = [*VAE_DERIVABLE, *(key for key in names if without_encoder and key.startswith("encoder."))]
    load_strictly(vae, plain_names(parts, names), str(vae_file), derivable)
    return infinity, vae.cast(getattr(torch, dtype))


def _plain_scales(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state with `scale_mul_1H11` of one shape: builds for another attention kernel store (1, 1, H, 1)."""
    return {
        key: value.reshape(1, -1, 1, 1) if key.endswith(".scale_mul_1H11") else value for key, value in state.items()
    }


def _read_vae_shape(state: dict[str, Tensor]) -> ConvolutionShape:
    """Return the shape of a tokenizer with or without its encoder.

    Raises:
        KeyError: a name is missing.
        ValueError: it has a codebook, or layers around it; the rest of such a tokenizer has the same names.
    """
    from models.networks.bsq_vae import read_bsq_vae_shape

    foreign = ("quantize.embedding.weight", "post_quant_conv.weight")
    if found := [key for key in foreign if key in state]:
        raise ValueError(f"it has {found[0]}, which no BSQ-VAE has")
    if any(key.startswith("encoder.") for key in state):
        return read_bsq_vae_shape(state)
    # The decoder mirrors the encoder, but for one more block a level and its layers at the two ends.
    mirrored = dict(state)
    for key, value in state.items():
        if key.startswith(("decoder.up.", "decoder.mid.")):
            mirrored[key.replace("decoder.up.", "encoder.down.").replace("decoder.mid.", "encoder.mid.")] = value
        elif re.fullmatch(r"decoder\.conv_out\.(conv\.)?weight", key):
            mirrored["encoder.conv_in.weight"] = value.transpose(0, 1)
    shape = read_bsq_vae_shape(mirrored)
    return replace(shape, blocks=shape.blocks - 1)


def random_networks(device: str, dtype: str, size: NetworkSize = "full") -> tuple[Infinity, BSQVAE]:
    """Return the published architecture with random weights.

    size: "small" keeps its kinds of layers, with two blocks and a text width of 32.
    """
    import torch

    from models.networks.bsq_vae import BSQVAE, bsq_vae_shape
    from models.networks.convolutions import ConvolutionShape
    from models.networks.infinity_transformer import Infinity, InfinityShape, infinity_2b_shape
    from models.random_weights import build_random

    shape, vae_shape = infinity_2b_shape(), bsq_vae_shape()
    if size == "small":
        shape = InfinityShape(2, 64, 2, 128, 32, shape.text_tokens, 1, 8)
        vae_shape = ConvolutionShape((32,) * 5, 1, 8, attention=False, middle_attention=False)
    # In float32 first: text, modulation and head stay so.
    infinity = build_random(lambda: Infinity(shape), device, torch.float32).cast(getattr(torch, dtype))
    vae = build_random(lambda: BSQVAE(vae_shape), device, torch.float32).cast(getattr(torch, dtype))
    return infinity, vae


def save_embedded(folder: Path, infinity: Infinity, vae: BSQVAE, grids: Sequence[Grid]) -> None:
    """Write the embedded model: both networks in float16 under their plain names, and config.json."""
    from models.weights import save_half

    save_half(infinity, folder / "infinity.safetensors")
    save_half(vae, folder / "vae" / "vae.safetensors")
    config = {"grids": [list(grid) for grid in grids], "text_tokens": infinity.shape.text_tokens}
    (folder / "config.json").write_text(json.dumps(config) + "\n", encoding="utf-8")
