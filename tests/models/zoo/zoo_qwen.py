"""Tiny pipelines that Qwen2.5-VL reads the prompts of: Qwen-Image, HunyuanImage, LongCat-Image, Kandinsky 5."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import qwen2_5_vl, qwen_tokenizer, qwen_vl_processor, stirred
from zoo_parts import clip_text, clip_tokenizer, flow_decoder, kl_decoder


def qwen_image_decoder() -> Any:
    """Return an AutoencoderKLQwenImage that makes 4 pixels of each side of its latents."""
    from diffusers import AutoencoderKLQwenImage

    return AutoencoderKLQwenImage(
        base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    ).eval()


def flow_scheduler(**changes: Any) -> Any:
    """Return a FlowMatchEulerDiscreteScheduler."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**changes)


def qwen_image() -> Any:
    """Return a QwenImagePipeline."""
    from diffusers import QwenImagePipeline, QwenImageTransformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = QwenImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    return QwenImagePipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True, shift_terminal=0.02),
        vae=qwen_image_decoder(),
        text_encoder=qwen2_5_vl(tokenizer),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


def hunyuan_image(is_distilled: bool = False) -> Any:
    """Return a HunyuanImagePipeline: as published with guiders, or distilled, guided by an input of its transformer."""
    from diffusers import AutoencoderKLHunyuanImage, HunyuanImagePipeline, HunyuanImageTransformer2DModel
    from diffusers.guiders import AdaptiveProjectedMixGuidance
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    glyphs = T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformer = HunyuanImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_single_layers=1,
        num_refiner_layers=1,
        text_embed_dim=16,
        text_embed_2_dim=16,
        rope_axes_dim=(4, 4),
        guidance_embeds=is_distilled,
        use_meanflow=is_distilled,
    )
    decoder = AutoencoderKLHunyuanImage(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=(32, 32, 32),
        layers_per_block=1,
        spatial_compression_ratio=4,
        sample_size=32,
        scaling_factor=0.75,
    )
    return HunyuanImagePipeline(
        scheduler=flow_scheduler(shift=5.0),
        vae=decoder.eval(),
        text_encoder=qwen2_5_vl(tokenizer, num_hidden_layers=3),
        tokenizer=tokenizer,
        text_encoder_2=T5EncoderModel(glyphs).eval(),
        tokenizer_2=ByT5Tokenizer(),
        transformer=transformer.eval(),
        guider=None if is_distilled else AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
        ocr_guider=None if is_distilled else AdaptiveProjectedMixGuidance(adaptive_projected_guidance_start_step=1),
    )


def longcat_image() -> Any:
    """Return a LongCatImagePipeline, whose text encoder would rewrite the prompts too."""
    from diffusers import LongCatImagePipeline, LongCatImageTransformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = LongCatImageTransformer2DModel(
        in_channels=64,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=[4, 2, 2],
    )
    return LongCatImagePipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=flow_decoder(16),  # the pipeline takes no other number of channels
        text_encoder=qwen2_5_vl(tokenizer),
        tokenizer=tokenizer,
        text_processor=qwen_vl_processor("Qwen2VLProcessor", tokenizer),
        transformer=transformer.eval(),
    )


def kandinsky5() -> Any:
    """Return a Kandinsky5T2IPipeline, which makes images of a million pixels whatever it is asked for."""
    from diffusers import Kandinsky5T2IPipeline, Kandinsky5Transformer3DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = Kandinsky5Transformer3DModel(
        in_visual_dim=4,
        in_text_dim=16,
        in_text_dim2=16,
        time_dim=16,
        out_visual_dim=4,
        model_dim=16,
        ff_dim=16,
        num_text_blocks=1,
        num_visual_blocks=1,
        axes_dims=(2, 4, 2),
    )
    blocks = 4
    decoder = kl_decoder(
        block_out_channels=(4,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=2,
        mid_block_add_attention=False,
    )
    return Kandinsky5T2IPipeline(
        transformer=stirred(transformer),
        vae=decoder,
        text_encoder=qwen2_5_vl(tokenizer),
        tokenizer=qwen_vl_processor("Qwen2VLProcessor", tokenizer),
        text_encoder_2=clip_text(),
        tokenizer_2=clip_tokenizer(),
        scheduler=flow_scheduler(shift=3.0),
    )


# More of bfloat16's rounding than elsewhere; in float32 a batch makes no difference.
ROUNDED = {"float32": 1, "bfloat16": 12}

ENTRIES = {
    "QwenImagePipeline": Entry(
        build=qwen_image,
        call={"height": 32, "width": 32, "num_inference_steps": 2, "true_cfg_scale": 5.0, "negative_prompt": " "},
        guidance="true_cfg_scale",
    ),
    "HunyuanImagePipeline": Entry(
        build=hunyuan_image,
        call={"height": 32, "width": 32, "num_inference_steps": 2},
        options={"steps": 2},
        guidance="guider",
    ),
    "LongCatImagePipeline": Entry(build=longcat_image, call=usual(enable_prompt_rewrite=False), levels=ROUNDED),
    "Kandinsky5T2IPipeline": Entry(
        build=kandinsky5,
        call=usual(1024, steps=1),
        options={"steps": 1, "guidance": 5.0},
        size=(1024, 1024),
        batch_is_told=True,  # shorter prompts are padded, and the padding is read
    ),
}
