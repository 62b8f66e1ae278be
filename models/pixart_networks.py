"""PixArt-Sigma's networks as they are published, and a small kind of them; with random weights a whole pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models import sdxl_networks
from models.base import NetworkSize, Runtime

if TYPE_CHECKING:
    import torch

PROMPT_TOKENS = 300


@dataclass(frozen=True)
class Configurations:
    """Of the pipeline's networks, as their classes take them; what is not named is the class's default."""

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any]
    t5: Mapping[str, Any]


FULL = Configurations(
    transformer={
        "num_attention_heads": 16,
        "attention_head_dim": 72,
        "num_layers": 28,
        "cross_attention_dim": 1152,
        "caption_channels": 4096,
        "patch_size": 2,
        "in_channels": 4,
        "out_channels": 8,
        "norm_type": "ada_norm_single",
        "use_additional_conditions": False,
    },
    vae=sdxl_networks.FULL.vae,  # PixArt-Sigma decodes with SDXL's VAE
    t5={
        "vocab_size": 32128,
        "d_model": 4096,
        "d_kv": 64,
        "d_ff": 10240,
        "num_layers": 24,
        "num_heads": 64,
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
)
SMALL = Configurations(
    transformer={
        **FULL.transformer,
        "num_attention_heads": 2,
        "attention_head_dim": 16,
        "num_layers": 2,
        "cross_attention_dim": 32,
        "caption_channels": 64,
    },
    vae=sdxl_networks.SMALL.vae,
    t5={**FULL.t5, "d_model": 64, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 4},
)
CONFIGURATIONS: dict[NetworkSize, Configurations] = {"full": FULL, "small": SMALL}
SCHEDULER: dict[str, Any] = {
    "beta_start": 0.0001,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "algorithm_type": "dpmsolver++",
    "solver_order": 2,
    "solver_type": "midpoint",
}


def native_size(image_size: int) -> int:
    """Return the published model's size that is nearer to the asked one."""
    return 512 if image_size < 768 else 1024


def build_networks(native: int, configurations: Configurations = FULL) -> dict[str, Any]:
    """Return a builder for each of the pipeline's networks, by the pipeline's name for it; `native` is in pixels."""
    from diffusers import AutoencoderKL, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    return {
        "transformer": lambda: PixArtTransformer2DModel(**configurations.transformer, sample_size=native // 8),
        "vae": lambda: AutoencoderKL(**configurations.vae),
        "text_encoder": lambda: T5EncoderModel(T5Config(**configurations.t5)),
    }


def build_random_pipeline(runtime: Runtime) -> Any:
    """Return the pipeline at `runtime.random_size` with random weights on the run's device; it reads no file."""
    from diffusers import DPMSolverMultistepScheduler, PixArtSigmaPipeline

    from models.hash_tokenizer import HashTokenizer
    from models.pipelines.generator import dtype_of, quiet_libraries
    from models.random_weights import build_random

    dtype: torch.dtype = dtype_of(runtime)
    builders = build_networks(native_size(runtime.image_size), CONFIGURATIONS[runtime.random_size])
    with quiet_libraries():
        networks = {name: build_random(build, runtime.device, dtype) for name, build in builders.items()}
    return PixArtSigmaPipeline(
        **networks,
        tokenizer=HashTokenizer(vocabulary=32128, model_max_length=PROMPT_TOKENS, start=None, end=1, pad=0),
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER),
    )
