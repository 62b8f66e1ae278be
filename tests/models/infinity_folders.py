"""A small Infinity in the published layout, and what its tests ask of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.base import Request, Runtime
from models.infinity import InfinityGenerator, InfinityOptions, load
from models.infinity_files import TRANSFORMER_FILE, VAE_FILE
from models.networks.bsq_vae import BSQVAE
from models.networks.convolutions import ConvolutionShape
from models.networks.infinity_transformer import Infinity, InfinityShape

ASSETS = Path(__file__).parents[2] / "assets"
GRIDS = ((1, 1), (2, 2), (4, 4))
PROMPTS = ["a robot", "a pink robot with a round head and three arms in front of a forest", "", "a blue cat"]


def build_networks() -> tuple[Infinity, BSQVAE]:
    """Return a small transformer and its tokenizer, with weights that tell layers apart."""
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


def write_infinity(folder: Path, networks: tuple[Infinity, BSQVAE]) -> Path:
    """Write a folder in the published layout, and the text encoder in t5/."""
    infinity, vae = networks
    torch.save(published_names(infinity), folder / TRANSFORMER_FILE)
    torch.save({"vae": layer_names(vae), "ema": {"x": torch.zeros(1)}, "step": 7}, folder / VAE_FILE)
    (folder / "t5").mkdir()
    for file in (*(ASSETS / "pixart" / "text_encoder").iterdir(), *(ASSETS / "pixart" / "tokenizer").iterdir()):
        (folder / "t5" / file.name).write_bytes(file.read_bytes())
    return folder


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
