"""Tiny pipelines that Gemma reads the prompts of: Sana, Lumina, PRX."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import SMALL, gemma2, gemma_tokenizer
from zoo_parts import kl_decoder
from zoo_qwen import flow_scheduler


def sana(kind: str, scheduler: Any, **changes: Any) -> Any:
    """Return a pipeline of one of the Sana classes, whose text encoder is instructed to embellish prompts."""
    import diffusers

    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    transformer = diffusers.SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=2,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=16,
        **{"sample_size": 8, **changes},
    )
    decoder = diffusers.AutoencoderDC(
        latent_channels=4,
        attention_head_dim=4,
        encoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        decoder_block_types=("ResBlock", "ResBlock", "EfficientViTBlock"),
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        encoder_layers_per_block=(1, 1, 1),
        decoder_layers_per_block=(1, 1, 1),
        encoder_qkv_multiscales=((), (), (5,)),
        decoder_qkv_multiscales=((), (), (5,)),
        scaling_factor=0.41407,
    )
    return getattr(diffusers, kind)(
        tokenizer=tokenizer,
        text_encoder=gemma2(tokenizer),
        vae=decoder.eval(),
        transformer=transformer.eval(),
        scheduler=scheduler,
    )


def sana_usual(kind: str) -> Any:
    """Return a pipeline of SanaPipeline's kind with its usual scheduler."""
    from diffusers import DPMSolverMultistepScheduler

    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0, final_sigmas_type="zero"
    )
    return sana(kind, scheduler)


def sana_sprint() -> Any:
    """Return a SanaSprintPipeline, whose guidance is an input of its transformer."""
    from diffusers import SCMScheduler

    return sana(
        "SanaSprintPipeline", SCMScheduler(), sample_size=32, guidance_embeds=True, qk_norm="rms_norm_across_heads"
    )


def lumina() -> Any:
    """Return a LuminaPipeline."""
    from diffusers import LuminaNextDiT2DModel, LuminaPipeline
    from transformers import GemmaConfig, GemmaModel

    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    transformer = LuminaNextDiT2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=16,
        num_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        cross_attention_dim=16,
    )
    blocks = 4
    decoder = kl_decoder(
        block_out_channels=(16,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
    )
    torch.nn.init.zeros_(transformer.pad_token)  # it lies as it does in memory
    encoder = GemmaModel(GemmaConfig(**{**SMALL, "vocab_size": len(tokenizer), "head_dim": 8}))
    return LuminaPipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(),
        vae=decoder,
        text_encoder=encoder.eval(),
        tokenizer=tokenizer,
    )


def lumina2() -> Any:
    """Return a Lumina2Pipeline, which makes latents as if its decoder made 8 pixels of each side of them."""
    from diffusers import Lumina2Pipeline, Lumina2Transformer2DModel

    torch.manual_seed(0)
    tokenizer = gemma_tokenizer()
    transformer = Lumina2Transformer2DModel(
        sample_size=4,
        in_channels=4,
        hidden_size=16,
        num_layers=1,
        num_refiner_layers=1,
        num_attention_heads=2,
        num_kv_heads=1,
        multiple_of=16,
        axes_dim_rope=(4, 2, 2),
        axes_lens=(512, 64, 64),
        cap_feat_dim=16,
    )
    blocks = 4
    decoder = kl_decoder(
        block_out_channels=(16,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        shift_factor=0.1,
    )
    return Lumina2Pipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(shift=6.0),
        vae=decoder,
        text_encoder=gemma2(tokenizer),
        tokenizer=tokenizer,
    )


ENTRIES = {
    "SanaPipeline": Entry(
        build=lambda: sana_usual("SanaPipeline"),
        call=usual(use_resolution_binning=False),
    ),
    "SanaPAGPipeline": Entry(
        build=lambda: sana_usual("SanaPAGPipeline"),
        call=usual(use_resolution_binning=False),
    ),
    "SanaSprintPipeline": Entry(build=sana_sprint, call=usual(use_resolution_binning=False)),
    "LuminaPipeline": Entry(build=lumina, call=usual(clean_caption=False)),
    "Lumina2Pipeline": Entry(build=lumina2, call=usual()),
}
