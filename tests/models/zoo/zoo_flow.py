"""Tiny pipelines of flow matching behind T5 and CLIP: Stable Diffusion 3, FLUX.1, Chroma, Bria, AuraFlow."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_parts import PIECES, clip_text, clip_text_projected, clip_tokenizer, flow_decoder, t5_encoder, t5_tokenizer


def stable_diffusion_3(kind: str) -> Any:
    """Return a pipeline of a class that is built as StableDiffusion3Pipeline is."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=32,
        caption_projection_dim=32,
        pooled_projection_dim=32,
        pos_embed_max_size=16,
    )
    return getattr(diffusers, kind)(
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flow_decoder(),
        text_encoder=clip_text_projected(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=clip_text_projected(),
        tokenizer_2=clip_tokenizer(),
        text_encoder_3=t5_encoder(),
        tokenizer_3=t5_tokenizer(),
    )


FLUX_NETWORK: dict[str, Any] = {
    "patch_size": 1,
    "in_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 8,
    "num_attention_heads": 2,
    "joint_attention_dim": 32,
    "axes_dims_rope": (4, 2, 2),
}


def flux() -> Any:
    """Return a FluxPipeline with the embedded guidance of FLUX.1-dev."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.FluxTransformer2DModel(**FLUX_NETWORK, pooled_projection_dim=16, guidance_embeds=True)
    return diffusers.FluxPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        vae=flow_decoder(),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(),
        transformer=transformer.eval(),
    )


def flux_schnell() -> Any:
    """Return a FluxPipeline without embedded guidance, as FLUX.1-schnell has none."""
    import diffusers

    pipeline = flux()
    torch.manual_seed(0)
    pipeline.transformer = diffusers.FluxTransformer2DModel(**FLUX_NETWORK, pooled_projection_dim=16).eval()
    return pipeline


def chroma() -> Any:
    """Return a ChromaPipeline."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.ChromaTransformer2DModel(
        **FLUX_NETWORK, approximator_num_channels=8, approximator_hidden_dim=16, approximator_layers=1
    )
    return diffusers.ChromaPipeline(
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=flow_decoder(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
        transformer=transformer.eval(),
    )


def bria() -> Any:
    """Return a BriaPipeline."""
    import diffusers

    torch.manual_seed(0)
    return diffusers.BriaPipeline(
        transformer=diffusers.BriaTransformer2DModel(**FLUX_NETWORK).eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(),
        vae=flow_decoder(),
        text_encoder=t5_encoder(),
        tokenizer=t5_tokenizer(),
    )


def aura_flow() -> Any:
    """Return an AuraFlowPipeline."""
    import diffusers
    from transformers import UMT5Config, UMT5EncoderModel

    torch.manual_seed(0)
    transformer = diffusers.AuraFlowTransformer2DModel(
        sample_size=8,
        patch_size=2,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=32,
        pos_embed_max_size=64,
    )
    text = UMT5Config(vocab_size=len(PIECES), d_model=32, d_kv=8, d_ff=32, num_layers=2, num_heads=4)
    return diffusers.AuraFlowPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=UMT5EncoderModel(text).eval(),
        vae=flow_decoder(),
        transformer=transformer.eval(),
        scheduler=diffusers.FlowMatchEulerDiscreteScheduler(shift=1.73),
    )


ENTRIES = {
    "StableDiffusion3Pipeline": Entry(lambda: stable_diffusion_3("StableDiffusion3Pipeline"), usual()),
    "StableDiffusion3PAGPipeline": Entry(lambda: stable_diffusion_3("StableDiffusion3PAGPipeline"), usual()),
    "FluxPipeline": Entry(flux, usual()),
    "ChromaPipeline": Entry(chroma, usual()),
    "BriaPipeline": Entry(bria, usual()),
    "AuraFlowPipeline": Entry(aura_flow, usual()),
}
