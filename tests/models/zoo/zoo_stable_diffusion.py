"""Tiny pipelines of the Stable Diffusion 1 and XL kind: a UNet behind CLIP text encoders."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import UNCUT, Entry, usual
from zoo_parts import clip_processor, clip_text, clip_text_projected, clip_tokenizer, kl_decoder, safety_checker


def unet(**changes: Any) -> Any:
    """Return a UNet2DConditionModel of 8 latents a side for text of width 16."""
    from diffusers import UNet2DConditionModel

    fields: dict[str, Any] = {
        "sample_size": 8,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": 4,
        "cross_attention_dim": 16,
    }
    return UNet2DConditionModel(**fields | changes).eval()


def stable_diffusion(kind: str, scheduler: Any = None, safe: bool = False, **unet_changes: Any) -> Any:
    """Return a pipeline of a class that is built as StableDiffusionPipeline is."""
    import diffusers

    torch.manual_seed(0)
    return getattr(diffusers, kind)(
        vae=kl_decoder(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        unet=unet(**unet_changes),
        scheduler=scheduler or diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=safety_checker() if safe else None,
        feature_extractor=clip_processor() if safe else None,
        requires_safety_checker=safe,
    )


def sdxl(kind: str = "StableDiffusionXLPipeline") -> Any:
    """Return a pipeline of a class that is built as StableDiffusionXLPipeline is."""
    import diffusers

    torch.manual_seed(0)
    changes: dict[str, Any] = {
        "attention_head_dim": (2, 4),
        "transformer_layers_per_block": 1,
        "cross_attention_dim": 32,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    }
    return getattr(diffusers, kind)(
        vae=kl_decoder(),
        text_encoder=clip_text(),
        text_encoder_2=clip_text_projected(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        unet=unet(**changes),
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading"),
        add_watermarker=False,
    )


def latent_consistency() -> Any:
    """Return a LatentConsistencyModelPipeline, whose network is told the guidance."""
    import diffusers

    kind = "LatentConsistencyModelPipeline"
    return stable_diffusion(kind, diffusers.LCMScheduler(), time_cond_proj_dim=16)


def safe_stable_diffusion() -> Any:
    """Return a StableDiffusionPipelineSafe, which guides away from unsafe content, whether it has a checker or not."""
    return stable_diffusion("StableDiffusionPipelineSafe")


def paradigms() -> Any:
    """Return a StableDiffusionParadigmsPipeline, which needs a scheduler of many steps at once."""
    import diffusers

    scheduler = diffusers.DDIMParallelScheduler(steps_offset=1, clip_sample=False)
    return stable_diffusion("StableDiffusionParadigmsPipeline", scheduler)


ENTRIES = {
    "StableDiffusionPipeline": Entry(
        build=lambda: stable_diffusion("StableDiffusionPipeline", safe=True),
        call=usual(),
        load={"safety_checker": None, "requires_safety_checker": False},
    ),
    "StableDiffusionPAGPipeline": Entry(lambda: stable_diffusion("StableDiffusionPAGPipeline"), usual()),
    "StableDiffusionPipelineSafe": Entry(safe_stable_diffusion, usual(), **UNCUT),
    "StableDiffusionModelEditingPipeline": Entry(
        lambda: stable_diffusion("StableDiffusionModelEditingPipeline"), usual()
    ),
    "StableDiffusionParadigmsPipeline": Entry(paradigms, usual()),
    "StableDiffusionSAGPipeline": Entry(lambda: stable_diffusion("StableDiffusionSAGPipeline"), usual()),
    "StableDiffusionPanoramaPipeline": Entry(  # takes lists, and mixes their prompts
        lambda: stable_diffusion("StableDiffusionPanoramaPipeline"), usual(), one_at_a_time=True
    ),
    "SemanticStableDiffusionPipeline": Entry(
        lambda: stable_diffusion("SemanticStableDiffusionPipeline"), usual(), **UNCUT
    ),
    "LatentConsistencyModelPipeline": Entry(latent_consistency, usual()),
    "StableDiffusionXLPipeline": Entry(sdxl, usual()),
    "StableDiffusionXLPAGPipeline": Entry(lambda: sdxl("StableDiffusionXLPAGPipeline"), usual()),
}
