"""Tiny pipelines of transformers that attend to T5's or BERT's words: PixArt, HunyuanDiT, CogView3."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_parts import bert_tokenizer, kl_decoder, t5_encoder, t5_tokenizer


def pixart(kind: str) -> Any:
    """Return a pipeline of one of the PixArt classes."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.PixArtTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        num_layers=2,
        cross_attention_dim=32,
        caption_channels=32,
        sample_size=8,
        patch_size=2,
        out_channels=8,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )
    return getattr(diffusers, kind)(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=kl_decoder(),
        transformer=transformer.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(),
    )


def hunyuan_dit(kind: str) -> Any:
    """Return a pipeline of one of the HunyuanDiT classes; its grid of positions has 8 pixels a latent."""
    import diffusers
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    transformer = diffusers.HunyuanDiT2DModel(
        sample_size=8,
        num_layers=2,
        patch_size=2,
        attention_head_dim=8,
        num_attention_heads=4,
        in_channels=4,
        hidden_size=32,
        cross_attention_dim=32,
        cross_attention_dim_t5=32,
        pooled_projection_dim=16,
    )
    tokenizer = bert_tokenizer()
    text = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=128,
    )
    return getattr(diffusers, kind)(
        vae=kl_decoder(blocks=4),
        text_encoder=BertModel(text).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        scheduler=diffusers.DDPMScheduler(prediction_type="v_prediction", steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
        text_encoder_2=t5_encoder(),
        tokenizer_2=t5_tokenizer(length=256),
    )


def cogview3() -> Any:
    """Return a CogView3PlusPipeline."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.CogView3PlusTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        attention_head_dim=8,
        num_attention_heads=4,
        out_channels=4,
        text_embed_dim=32,
        time_embed_dim=8,
        condition_dim=4,
        pos_embed_max_size=8,
        sample_size=8,
    )
    return diffusers.CogView3PlusPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        vae=kl_decoder(),
        transformer=transformer.eval(),
        scheduler=diffusers.CogVideoXDDIMScheduler(),
    )


PLAIN: dict[str, object] = {"clean_caption": False, "use_resolution_binning": False}
ENTRIES = {
    "PixArtAlphaPipeline": Entry(lambda: pixart("PixArtAlphaPipeline"), usual(**PLAIN)),
    "PixArtSigmaPipeline": Entry(lambda: pixart("PixArtSigmaPipeline"), usual(**PLAIN)),
    "PixArtSigmaPAGPipeline": Entry(lambda: pixart("PixArtSigmaPAGPipeline"), usual(**PLAIN)),
    "HunyuanDiTPipeline": Entry(lambda: hunyuan_dit("HunyuanDiTPipeline"), usual(use_resolution_binning=False)),
    "HunyuanDiTPAGPipeline": Entry(lambda: hunyuan_dit("HunyuanDiTPAGPipeline"), usual(use_resolution_binning=False)),
    "CogView3PlusPipeline": Entry(cogview3, usual()),
}
