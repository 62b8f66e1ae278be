"""The names that trainers give to a LoRA's tensors, and the layers of a PixArt transformer that they stand for.

PEFT and diffusers write a layer's path with dots, kohya and OneTrainer with underscores, some with the names of the
published PixArt code. A name with underscores is looked up among the network's own layers: nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["A.weight", "B.weight", "magnitude_vector", "alpha"]

# PEFT's own, without which adapter_config.json says how strong the LoRA is.
PEFT_PREFIX = "base_model.model."
_PREFIXES = (
    PEFT_PREFIX, "module.", "_orig_mod.", "transformer.", "model.diffusion_model.", "diffusion_model.",
    "lora_transformer.", "lora_transformer_", "lora_unet.", "lora_unet_", "unet.", "lycoris_",
)  # fmt: skip
_ENDINGS: tuple[tuple[str, Kind], ...] = (
    (r"\.lora_A(\.default)?\.weight", "A.weight"),
    (r"\.lora_B(\.default)?\.weight", "B.weight"),
    (r"\.lora_down\.weight", "A.weight"),
    (r"\.lora_up\.weight", "B.weight"),
    (r"[._]lora(_linear_layer)?\.down\.weight", "A.weight"),
    (r"[._]lora(_linear_layer)?\.up\.weight", "B.weight"),
    (r"\.lora_magnitude_vector(\.default)?(\.weight)?", "magnitude_vector"),
    (r"(\.lora)?\.alpha", "alpha"),
)
_TEXT_ENCODERS = (
    "lora_te",
    "text_encoder",
    "te.",
    "te1.",
    "te2.",
    "t5.",
    "lora_t5",
    "lora_clip",
    "clip_",
    "bundle_emb",
)
# What is no LoRA, by what its tensors are called.
_OTHER_METHODS = {
    "dora_scale": "a DoRA as kohya and OneTrainer write it",
    "lokr_": "LoKr",
    "hada_": "LoHa",
    "oft_": "OFT",
    "boft_": "BOFT",
    "lora_mid": "a LoCon with Tucker decomposition",
    "on_input": "IA3",
    "ia3_l": "IA3",
    "vera_lambda": "VeRA",
    "diff": "a set of whole weights",
    "diff_b": "a set of whole weights",
}

_OF_BLOCK: dict[str, tuple[str, ...]] = {
    "attn.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn.proj": ("attn1.to_out.0",),
    "cross_attn.q_linear": ("attn2.to_q",),
    "cross_attn.kv_linear": ("attn2.to_k", "attn2.to_v"),
    "cross_attn.proj": ("attn2.to_out.0",),
    "mlp.fc1": ("ff.net.0.proj",),
    "mlp.fc2": ("ff.net.2",),
}
_OUTSIDE = {
    "x_embedder.proj": "pos_embed.proj",
    "y_embedder.y_proj.fc1": "caption_projection.linear_1",
    "y_embedder.y_proj.fc2": "caption_projection.linear_2",
    "t_embedder.mlp.0": "adaln_single.emb.timestep_embedder.linear_1",
    "t_embedder.mlp.2": "adaln_single.emb.timestep_embedder.linear_2",
    "csize_embedder.mlp.0": "adaln_single.emb.resolution_embedder.linear_1",
    "csize_embedder.mlp.2": "adaln_single.emb.resolution_embedder.linear_2",
    "ar_embedder.mlp.0": "adaln_single.emb.aspect_ratio_embedder.linear_1",
    "ar_embedder.mlp.2": "adaln_single.emb.aspect_ratio_embedder.linear_2",
    "t_block.1": "adaln_single.linear",
    "final_layer.linear": "proj_out",
}


@dataclass(frozen=True)
class Part:
    """What a tensor is: which part of the LoRA on which layer. layer: as the file spells it, without prefixes."""

    layer: str
    kind: Kind


def read_name(name: str) -> Part:
    """Return what a tensor's name says.

    Raises:
        ValueError: it is no part of a LoRA on a transformer; the text goes on after "it holds NAME, ".
    """
    if name.startswith(_TEXT_ENCODERS):
        raise ValueError("which is for a text encoder: only LoRAs on the transformer can be used")
    for end in (name.rsplit(".", 1)[-1], name.removesuffix(".weight").rsplit(".", 1)[-1]):
        for beginning, method in _OTHER_METHODS.items():
            if end == beginning or (beginning.endswith("_") and end.startswith(beginning)) or end == f"{beginning}1":
                raise ValueError(f"a part of {method}: only LoRAs can be used, and DoRAs in PEFT's format")
    for ending, kind in _ENDINGS:
        if found := re.fullmatch(rf"(.+?){ending}", name):
            return Part(_plain(found[1]), kind)
    raise ValueError("which is no part of a LoRA on linear layers")


def _plain(layer: str) -> str:
    """Return a layer's name without the prefixes that say which network it belongs to, and without a processor's."""
    while prefix := next((prefix for prefix in _PREFIXES if layer.startswith(prefix)), ""):
        layer = layer.removeprefix(prefix)
    return re.sub(r"\.processor\.(to_\w+)$", r".\1", layer)


def spellings_of(layers: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
    """Return every spelling of these layers of a PixArt transformer, each with the layers that it stands for.

    The published code has one matrix for query, key and value: its rows are those of the layers one after another.
    """
    here = set(layers)
    dotted: dict[str, tuple[str, ...]] = {name: (name,) for name in here}
    dotted |= {name.removesuffix(".0"): (name,) for name in here if name.endswith(".to_out.0")}
    dotted |= {published: (name,) for published, name in _OUTSIDE.items() if name in here}
    blocks = {name.split(".")[1] for name in here if name.startswith("transformer_blocks.")}
    for block in blocks:
        for published, names in _OF_BLOCK.items():
            paths = tuple(f"transformer_blocks.{block}.{name}" for name in names)
            if not here.issuperset(paths):
                continue
            dotted[f"blocks.{block}.{published}"] = paths
            if len(paths) > 1:  # OneTrainer numbers the rows' parts
                dotted |= {f"blocks.{block}.{published}.{i}": (path,) for i, path in enumerate(paths)}
    underscored = {name.replace(".", "_"): paths for name, paths in dotted.items()}
    assert len(underscored) == len(dotted), "two layers of a PixArt transformer share no spelling"
    return underscored | dotted
