"""Tiny pipelines of older kinds: latent diffusion behind BERT, AltDiffusion, Versatile, UniDiffuser, tokens."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import UNCUT, Entry, usual
from zoo_parts import (
    bert_tokenizer,
    clip_processor,
    clip_text,
    clip_text_projected,
    clip_tokenizer,
    clip_vision,
    gpt2_tokenizer,
    kl_decoder,
    xlm_roberta_tokenizer,
)
from zoo_stable_diffusion import unet


def latent_diffusion() -> Any:
    """Return an LDMTextToImagePipeline; it divides sides by 8, whatever its decoder."""
    import diffusers
    from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel

    torch.manual_seed(0)
    tokenizer = bert_tokenizer()
    text = LDMBertConfig(
        vocab_size=len(tokenizer),
        encoder_layers=2,
        encoder_ffn_dim=32,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=16,
    )
    return diffusers.LDMTextToImagePipeline(
        vqvae=kl_decoder(blocks=4),
        bert=LDMBertModel(text).eval(),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=diffusers.DDIMScheduler(clip_sample=False),
    )


def alt_diffusion() -> Any:
    """Return an AltDiffusionPipeline, whose text encoder is multilingual."""
    import diffusers
    from diffusers.pipelines.deprecated.alt_diffusion import RobertaSeriesModelWithTransformation
    from diffusers.pipelines.deprecated.alt_diffusion.modeling_roberta_series import RobertaSeriesConfig

    torch.manual_seed(0)
    tokenizer = xlm_roberta_tokenizer()
    text = RobertaSeriesConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        project_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=96,
    )
    return diffusers.AltDiffusionPipeline(
        vae=kl_decoder(),
        text_encoder=RobertaSeriesModelWithTransformation(text).eval(),
        tokenizer=tokenizer,
        unet=unet(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def versatile() -> Any:
    """Return a VersatileDiffusionTextToImagePipeline: an image UNet with the attention of a text UNet."""
    import diffusers
    from diffusers.pipelines.deprecated.versatile_diffusion.modeling_text_unet import UNetFlatConditionModel

    torch.manual_seed(0)
    text_unet = UNetFlatConditionModel(
        in_channels=4,
        out_channels=4,
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlockFlat", "CrossAttnDownBlockFlat"),
        up_block_types=("CrossAttnUpBlockFlat", "UpBlockFlat"),
        mid_block_type="UNetMidBlockFlatCrossAttn",
        attention_head_dim=4,
        cross_attention_dim=16,
    )
    return diffusers.VersatileDiffusionTextToImagePipeline(
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text_projected(),
        image_unet=unet(),
        text_unet=text_unet.eval(),
        vae=kl_decoder(),
        scheduler=diffusers.DDIMScheduler(steps_offset=1, clip_sample=False),
    )


def unidiffuser() -> Any:
    """Return a UniDiffuserPipeline; asked with a prompt, it makes an image."""
    import diffusers
    from diffusers.pipelines.deprecated.unidiffuser import UniDiffuserModel, UniDiffuserTextDecoder

    torch.manual_seed(0)
    tokenizer = gpt2_tokenizer()
    decoder = UniDiffuserTextDecoder(
        prefix_length=77, prefix_inner_dim=16, prefix_hidden_dim=16, vocab_size=len(tokenizer), n_embd=16, n_layer=1,
        n_head=2, n_positions=128,
    )  # fmt: skip
    # Its two tied weights cannot be saved as safetensors.
    decoder.transformer.lm_head.weight = torch.nn.Parameter(decoder.transformer.lm_head.weight.clone())
    network = UniDiffuserModel(
        text_dim=16,
        clip_img_dim=16,
        num_text_tokens=77,
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        activation_fn="gelu",
        num_embeds_ada_norm=1000,
        use_patch_pos_embed=False,
        ff_final_dropout=False,
    )
    return diffusers.UniDiffuserPipeline(
        vae=kl_decoder(),
        text_encoder=clip_text(),
        image_encoder=clip_vision(),
        clip_image_processor=clip_processor(),
        clip_tokenizer=clip_tokenizer(),
        text_decoder=decoder.eval(),
        text_tokenizer=tokenizer,
        unet=network.eval(),
        scheduler=diffusers.DPMSolverMultistepScheduler(solver_order=3),
    )


def token_decoder(tokens: int, width: int, **changes: Any) -> Any:
    """Return a VQModel of 4 pixels a token."""
    from diffusers import VQModel

    fields: dict[str, Any] = {
        "block_out_channels": (16, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "latent_channels": width,
        "vq_embed_dim": width,
        "num_vq_embeddings": tokens,
        "norm_num_groups": 8,
    }
    return VQModel(**fields | changes).eval()


def amused() -> Any:
    """Return an AmusedPipeline: tokens are unmasked, and one generator draws them all."""
    import diffusers

    torch.manual_seed(0)
    transformer = diffusers.UVit2DModel(
        hidden_size=32,
        cond_embed_dim=16,
        micro_cond_encode_dim=2,
        micro_cond_embed_dim=10,
        encoder_hidden_size=16,
        vocab_size=34,
        codebook_size=32,
        in_channels=32,
        block_out_channels=32,
        num_res_blocks=1,
        downsample=True,
        upsample=True,
        block_num_heads=1,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        sample_size=8,
    )
    return diffusers.AmusedPipeline(
        vqvae=token_decoder(32, 8, mid_block_add_attention=False, lookup_from_codebook=True),
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text_projected(),
        transformer=transformer.eval(),
        scheduler=diffusers.AmusedScheduler(mask_token_id=33),
    )


def vq_diffusion() -> Any:
    """Return a VQDiffusionPipeline: tokens are drawn, by one generator, at a size of their own."""
    import diffusers
    from diffusers.pipelines.deprecated.vq_diffusion import LearnedClassifierFreeSamplingEmbeddings

    torch.manual_seed(0)
    transformer = diffusers.Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        num_vector_embeds=13,  # 12 tokens and the mask
        sample_size=8,
        cross_attention_dim=16,
        num_embeds_ada_norm=100,
        norm_type="ada_norm",
        activation_fn="geglu-approximate",
        attention_bias=True,
    )
    with torch.no_grad():
        transformer.out.weight.mul_(20)  # so that the prompt tells in the tokens that are drawn
    return diffusers.VQDiffusionPipeline(
        vqvae=token_decoder(12, 4),
        text_encoder=clip_text(),
        tokenizer=clip_tokenizer(),
        transformer=transformer.eval(),
        scheduler=diffusers.VQDiffusionScheduler(num_vec_classes=13),
        learned_classifier_free_sampling_embeddings=LearnedClassifierFreeSamplingEmbeddings(learnable=False),
    )


ENTRIES = {
    "LDMTextToImagePipeline": Entry(latent_diffusion, usual()),
    "AltDiffusionPipeline": Entry(alt_diffusion, usual()),
    "VersatileDiffusionTextToImagePipeline": Entry(versatile, usual(), **UNCUT),
    "UniDiffuserPipeline": Entry(unidiffuser, usual()),
    "AmusedPipeline": Entry(amused, usual(), one_at_a_time=True),
    "VQDiffusionPipeline": Entry(
        vq_diffusion, {"num_inference_steps": 2, "guidance_scale": 5.0}, one_at_a_time=True, refused=("bfloat16",)
    ),
}
