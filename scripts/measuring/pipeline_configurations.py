"""Folders of configurations alone, as pipelines are published: what `WEIGHTS=random` needs to have their speed.

FLUX.1-dev cannot be downloaded without an account; its configuration is public, and its speed depends on nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from models import pixart, sdxl

_INDEX: dict[str, Any] = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.30.0",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
_SCHEDULER: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "shift": 3.0,
    "use_dynamic_shifting": True,
    "base_shift": 0.5,
    "max_shift": 1.15,
    "base_image_seq_len": 256,
    "max_image_seq_len": 4096,
}
# 11.9 billion weights: 19 blocks with two streams and 38 with one, 24 heads of 128 channels.
_TRANSFORMER: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 64,
    "num_layers": 19,
    "num_single_layers": 38,
    "attention_head_dim": 128,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
    "axes_dims_rope": [16, 56, 56],
}
_VAE: dict[str, Any] = {
    **sdxl.FULL.vae,
    "latent_channels": 16,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "force_upcast": True,
}
_SMALL: dict[str, dict[str, Any]] = {
    "transformer": {
        "num_layers": 1,
        "num_single_layers": 2,
        "attention_head_dim": 16,
        "num_attention_heads": 2,
        "axes_dims_rope": [4, 6, 6],
        "joint_attention_dim": pixart.SMALL.t5["d_model"],
        "pooled_projection_dim": sdxl.SMALL.clip_l["hidden_size"],
    },
    "vae": {"block_out_channels": [32, 32, 32, 32], "layers_per_block": 1},
}


def write_flux_dev(folder: Path, is_small: bool = False) -> Path:
    """Write FLUX.1-dev's configurations, without weights and tokenizers, and return the folder.

    is_small: each network keeps its kinds of layers, and few of them.
    """
    small: Mapping[str, Mapping[str, Any]] = _SMALL if is_small else {}
    clip = sdxl.SMALL.clip_l if is_small else sdxl.FULL.clip_l
    t5 = pixart.SMALL.t5 if is_small else pixart.FULL.t5
    transformer = {**_TRANSFORMER, **small.get("transformer", {})}
    vae = {**_VAE, **small.get("vae", {})}
    files: dict[str, Mapping[str, Any]] = {
        "model_index.json": _INDEX,
        "scheduler/scheduler_config.json": {"_class_name": "FlowMatchEulerDiscreteScheduler", **_SCHEDULER},
        "transformer/config.json": {"_class_name": "FluxTransformer2DModel", **transformer},
        "vae/config.json": {"_class_name": "AutoencoderKL", **vae},
        "text_encoder/config.json": {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **clip},
        "text_encoder_2/config.json": {"architectures": ["T5EncoderModel"], "model_type": "t5", **t5},
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return folder


WRITERS: dict[str, Callable[[Path, bool], Path]] = {"flux-dev": write_flux_dev}
