"""Tiny pipelines of PRX, of latents and of pixels, which repair prompts with the package ftfy."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import SMALL, gemma_tokenizer, qwen3_vl_config, qwen_tokenizer, stirred
from zoo_parts import flow_decoder
from zoo_qwen import flow_scheduler


def prx_transformer(channels: int, **changes: Any) -> Any:
    """Return a PRXTransformer2DModel."""
    from diffusers import PRXTransformer2DModel

    transformer = PRXTransformer2DModel(
        in_channels=channels,
        context_in_dim=16,
        hidden_size=16,
        mlp_ratio=2.0,
        num_heads=2,
        depth=2,
        axes_dim=[4, 4],
        **changes,
    )
    return stirred(transformer)


def t5gemma(tokenizer: Any) -> Any:
    """Return a T5GemmaEncoder with the configuration of the whole T5Gemma, as PRX is published."""
    from transformers import T5GemmaConfig
    from transformers.models.t5gemma import T5GemmaModuleConfig
    from transformers.models.t5gemma.modeling_t5gemma import T5GemmaEncoder

    module = {**SMALL, "vocab_size": len(tokenizer), "head_dim": 8}
    config = T5GemmaConfig(
        encoder=T5GemmaModuleConfig(**module), decoder=T5GemmaModuleConfig(**module, is_decoder=True)
    )
    for name, value in config.encoder.to_dict().items():
        if not hasattr(config, name):
            setattr(config, name, value)  # the encoder itself, before it is saved, looks for them here
    encoder = T5GemmaEncoder(config.encoder).eval()
    encoder.config = config
    return encoder


def prx() -> Any:
    """Return a PRXPipeline, which cleans prompts with ftfy."""
    from diffusers import PRXPipeline

    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    tokenizer.model_max_length = 64
    return PRXPipeline(
        transformer=prx_transformer(4),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=t5gemma(tokenizer),
        tokenizer=tokenizer,
        vae=flow_decoder(),
        default_sample_size=32,
    )


def prx_pixel() -> Any:
    """Return a PRXPixelPipeline, which has no decoder: its transformer makes the pixels."""
    from diffusers import PRXPixelPipeline
    from transformers import Qwen3VLTextModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    return PRXPixelPipeline(
        transformer=prx_transformer(3, bottleneck_size=8),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=Qwen3VLTextModel(qwen3_vl_config(tokenizer).text_config).eval(),
        tokenizer=tokenizer,
        default_sample_size=32,
        prompt_max_tokens=64,
    )


ENTRIES = {
    "PRXPipeline": Entry(
        build=prx, call=usual(use_resolution_binning=False, skip_text_cleaning=True), one_at_a_time=True
    ),
    "PRXPixelPipeline": Entry(build=prx_pixel, call=usual(use_resolution_binning=False), one_at_a_time=True),
}
