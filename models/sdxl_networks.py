"""SDXL's networks as they are published, and a small kind of them; with random weights a whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.base import NetworkSize, Runtime

if TYPE_CHECKING:
    import torch

_CLIP: dict[str, Any] = {
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 1,
}


@dataclass(frozen=True)
class Configurations:
    """Of the pipeline's networks, as their classes take them; what is not named is the class's default."""

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    clip_l: Mapping[str, Any]
    clip_bigg: Mapping[str, Any]


FULL = Configurations(
    unet={
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "attention_head_dim": (5, 10, 20),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae={
        "sample_size": 1024,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "scaling_factor": 0.13025,
    },
    clip_l=_CLIP
    | {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "projection_dim": 768,
        "hidden_act": "quick_gelu",
    },
    clip_bigg=_CLIP
    | {
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_attention_heads": 20,
        "projection_dim": 1280,
        "hidden_act": "gelu",
    },
)
_SMALL_CLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = Configurations(
    unet={
        **FULL.unet,
        "block_out_channels": (32, 64, 64),
        "layers_per_block": 1,
        "attention_head_dim": (1, 2, 2),
        "transformer_layers_per_block": (1, 1, 2),
        "cross_attention_dim": 64,  # both text encoders' features side by side
        "addition_time_embed_dim": 16,
        "projection_class_embeddings_input_dim": 16 * 6 + 32,
    },
    vae={**FULL.vae, "block_out_channels": (32, 32, 32, 32), "layers_per_block": 1},
    clip_l={**FULL.clip_l, **_SMALL_CLIP},
    clip_bigg={**FULL.clip_bigg, **_SMALL_CLIP, "projection_dim": 32},
)
CONFIGURATIONS: dict[NetworkSize, Configurations] = {"full": FULL, "small": SMALL}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def build_networks(configurations: Configurations = FULL) -> dict[str, Any]:
    """Return a builder for each of the pipeline's networks, by the pipeline's name for it."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    return {
        "unet": lambda: UNet2DConditionModel(**configurations.unet),
        "vae": lambda: AutoencoderKL(**configurations.vae),
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**configurations.clip_l)),
        "text_encoder_2": lambda: CLIPTextModelWithProjection(CLIPTextConfig(**configurations.clip_bigg)),
    }


def build_random_pipeline(runtime: Runtime) -> Any:
    """Return the pipeline at `runtime.random_size` with random weights on the run's device; it reads no file."""
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline

    from models.hash_tokenizer import HashTokenizer
    from models.pipelines.generator import dtype_of, quiet_libraries
    from models.random_weights import build_random

    dtype: torch.dtype = dtype_of(runtime)
    builders = build_networks(CONFIGURATIONS[runtime.random_size])
    with quiet_libraries():
        networks = {name: build_random(build, runtime.device, dtype) for name, build in builders.items()}
    tokenizer = HashTokenizer(vocabulary=49408, model_max_length=77, start=49406, end=49407, pad=49407)
    return StableDiffusionXLPipeline(
        **networks,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        scheduler=EulerDiscreteScheduler(**SCHEDULER),
        add_watermarker=False,
    )
