"""Tiny pipelines that first make an image's embedding, by a prior: Kandinsky 2, Stable Cascade, UnCLIP."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import stirred
from zoo_parts import (
    clip_processor,
    clip_text,
    clip_text_projected,
    clip_tokenizer,
    clip_vision,
    kl_decoder,
    xlm_roberta_tokenizer,
)
from zoo_stable_diffusion import unet

CHEAP_PRIOR: dict[str, Any] = {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 1, "embedding_dim": 16}
ATTENTIVE: dict[str, Any] = {
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    "resnet_time_scale_shift": "scale_shift",
}


def vector_decoder(gain: float = 2.0, **changes: Any) -> Any:
    """Return Kandinsky's VQModel, whose pixels overshoot -1..1 as those of a trained one do, and farther."""
    from diffusers import VQModel

    fields: dict[str, Any] = {
        "block_out_channels": (32, 64),
        "down_block_types": ("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        "up_block_types": ("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        "latent_channels": 4,
        "num_vq_embeddings": 12,
        "vq_embed_dim": 4,
        "norm_num_groups": 8,
        "norm_type": "spatial",
    }
    decoder = VQModel(**fields | changes)
    with torch.no_grad():
        decoder.decoder.conv_out.weight.mul_(gain)
    return decoder.eval()


def kandinsky_prior() -> dict[str, Any]:
    """Return the parts of Kandinsky's prior, as its combined classes call them."""
    from diffusers import PriorTransformer, UnCLIPScheduler

    return {
        "prior_prior": PriorTransformer(**CHEAP_PRIOR).eval(),
        "prior_image_encoder": clip_vision(),
        "prior_text_encoder": clip_text_projected(),
        "prior_tokenizer": clip_tokenizer(),
        "prior_scheduler": UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample=True, clip_sample_range=10.0
        ),
        "prior_image_processor": clip_processor(),
    }


def kandinsky() -> Any:
    """Return a KandinskyCombinedPipeline (2.1), with its multilingual text encoder."""
    import diffusers
    from diffusers.pipelines.kandinsky.text_encoder import MCLIPConfig, MultilingualCLIP

    torch.manual_seed(0)
    tokenizer = xlm_roberta_tokenizer()
    text = MCLIPConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=32,
        max_position_embeddings=96,
        transformerDimSize=32,
        imageDimSize=16,
    )
    network = unet(
        **ATTENTIVE,
        in_channels=4,
        out_channels=8,  # with the variances
        block_out_channels=(32, 64),
        norm_num_groups=32,
        addition_embed_type="text_image",
        encoder_hid_dim=32,
        encoder_hid_dim_type="text_image_proj",
        cross_attention_dim=16,
    )
    return diffusers.KandinskyCombinedPipeline(
        text_encoder=MultilingualCLIP(text).eval(),
        tokenizer=tokenizer,
        unet=network,
        scheduler=diffusers.DDIMScheduler(clip_sample=False, set_alpha_to_one=False, steps_offset=1),
        movq=vector_decoder(gain=0.5),
        **kandinsky_prior(),
    )


def kandinsky_2_2() -> Any:
    """Return a KandinskyV22CombinedPipeline."""
    import diffusers

    torch.manual_seed(0)
    network = unet(
        **ATTENTIVE,
        in_channels=4,
        out_channels=8,
        block_out_channels=(32, 64),
        norm_num_groups=32,
        addition_embed_type="image",
        encoder_hid_dim=16,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
    )
    return diffusers.KandinskyV22CombinedPipeline(
        unet=network,
        scheduler=diffusers.DDPMScheduler(variance_type="learned_range"),
        movq=vector_decoder(),
        **kandinsky_prior(),
    )


def stable_cascade() -> Any:
    """Return a StableCascadeCombinedPipeline."""
    import diffusers
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel

    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "block_out_channels": (16, 16),
        "num_attention_heads": (2, 2),
        "down_num_layers_per_block": (1, 1),
        "up_num_layers_per_block": (1, 1),
        "conditioning_dim": 16,
        "clip_text_pooled_in_channels": 16,
        "timestep_ratio_embedding_dim": 8,
    }
    prior = diffusers.StableCascadeUNet(
        **shape, switch_level=(False,), clip_text_in_channels=16, clip_image_in_channels=16
    )
    decoder = diffusers.StableCascadeUNet(
        **shape,
        in_channels=4,
        out_channels=4,
        patch_size=2,
        effnet_in_channels=16,
        timestep_conditioning_type=("sca",),
        block_types_per_layer=(("SDCascadeResBlock", "SDCascadeTimestepBlock"),) * 2,
    )
    text, tokenizer = clip_text_projected(), clip_tokenizer()
    return diffusers.StableCascadeCombinedPipeline(
        tokenizer=tokenizer,
        text_encoder=text,
        decoder=decoder.eval(),
        scheduler=diffusers.DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(embed_dim=16, bottleneck_blocks=1, num_vq_embeddings=16).eval(),
        prior_prior=prior.eval(),
        prior_text_encoder=text,
        prior_tokenizer=tokenizer,
        prior_scheduler=diffusers.DDPMWuerstchenScheduler(),
        prior_feature_extractor=clip_processor(),
        prior_image_encoder=clip_vision(),
    )


def wuerstchen() -> Any:
    """Return a WuerstchenCombinedPipeline."""
    import diffusers
    from diffusers.pipelines.deprecated.wuerstchen import PaellaVQModel, WuerstchenDiffNeXt, WuerstchenPrior

    torch.manual_seed(0)
    decoder = WuerstchenDiffNeXt(
        c_r=8, c_cond=16, c_hidden=[16, 16], nhead=[-1, 2], blocks=[1, 1], level_config=["CT", "CTA"],
        inject_effnet=[False, True], effnet_embd=16, clip_embd=16,
    )  # fmt: skip
    return diffusers.WuerstchenCombinedPipeline(
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(),
        decoder=stirred(decoder),
        scheduler=diffusers.DDPMWuerstchenScheduler(),
        vqgan=PaellaVQModel(embed_dim=16, bottleneck_blocks=1, num_vq_embeddings=16).eval(),
        prior_tokenizer=clip_tokenizer(),
        prior_text_encoder=clip_text(),
        prior_prior=WuerstchenPrior(c_in=16, c=16, c_cond=16, c_r=8, depth=1, nhead=2).eval(),
        prior_scheduler=diffusers.DDPMWuerstchenScheduler(),
    )


def unclip() -> Any:
    """Return a UnCLIPPipeline: 16 px, and 32 px by two networks of super-resolution."""
    import diffusers
    from diffusers.pipelines.deprecated.unclip import UnCLIPTextProjModel

    torch.manual_seed(0)
    decoder = unet(
        **ATTENTIVE,
        sample_size=16,
        in_channels=3,
        out_channels=6,
        block_out_channels=(16, 32),
        class_embed_type="identity",
    )
    super_resolution: dict[str, Any] = {
        "sample_size": 32,
        "in_channels": 6,
        "out_channels": 3,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "norm_num_groups": 8,
        "down_block_types": ("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D"),
        "up_block_types": ("ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
    }
    learned = {"variance_type": "learned_range", "prediction_type": "epsilon"}
    sample = {"variance_type": "fixed_small_log", "prediction_type": "sample", "clip_sample_range": 5.0}
    return diffusers.UnCLIPPipeline(
        prior=diffusers.PriorTransformer(**CHEAP_PRIOR).eval(),
        decoder=decoder,
        text_encoder=clip_text_projected(),
        tokenizer=clip_tokenizer(),
        text_proj=UnCLIPTextProjModel(clip_embeddings_dim=16, time_embed_dim=64, cross_attention_dim=16).eval(),
        super_res_first=diffusers.UNet2DModel(**super_resolution).eval(),
        super_res_last=diffusers.UNet2DModel(**super_resolution).eval(),
        prior_scheduler=diffusers.UnCLIPScheduler(**sample),
        decoder_scheduler=diffusers.UnCLIPScheduler(**learned),
        super_res_scheduler=diffusers.UnCLIPScheduler(variance_type="fixed_small_log", prediction_type="epsilon"),
    )


def stable_unclip() -> Any:
    """Return a StableUnCLIPPipeline."""
    import diffusers
    from diffusers.pipelines.stable_diffusion import StableUnCLIPImageNormalizer

    torch.manual_seed(0)
    network = unet(class_embed_type="projection", projection_class_embeddings_input_dim=32)
    return diffusers.StableUnCLIPPipeline(
        prior_tokenizer=clip_tokenizer(),
        prior_text_encoder=clip_text_projected(),
        prior=diffusers.PriorTransformer(**CHEAP_PRIOR).eval(),
        prior_scheduler=diffusers.DDPMScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=5.0
        ),
        image_normalizer=StableUnCLIPImageNormalizer(embedding_dim=16),
        image_noising_scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=clip_tokenizer(),
        text_encoder=clip_text(),
        unet=network,
        scheduler=diffusers.DDIMScheduler(prediction_type="v_prediction", set_alpha_to_one=False, steps_offset=1),
        vae=kl_decoder(),
    )


# Pixels of a wide range round in wide steps in bfloat16.
OVERSHOOTING = {"float32": 1, "bfloat16": 24}


def both(side: int) -> dict[str, object]:
    """Return the documented arguments of a class whose prior is guided and counts its steps as the decoder does."""
    return usual(side, prior_num_inference_steps=2, prior_guidance_scale=5.0)


# The prior decides what is in the image; the decoder's steps and guidance stay as published.
PRIOR: dict[str, object] = {
    "height": 128, "width": 128, "prior_num_inference_steps": 2, "prior_guidance_scale": 5.0,
}  # fmt: skip
ENTRIES = {
    "KandinskyCombinedPipeline": Entry(kandinsky, both(64), asked=64, size=(64, 64), levels=OVERSHOOTING),
    "KandinskyV22CombinedPipeline": Entry(kandinsky_2_2, both(64), asked=64, size=(64, 64), levels=OVERSHOOTING),
    "StableCascadeCombinedPipeline": Entry(
        stable_cascade, PRIOR, asked=128, size=(128, 128), guidance="prior_guidance_scale"
    ),
    "WuerstchenCombinedPipeline": Entry(  # takes lists of prompts, and fails over them
        wuerstchen, PRIOR, asked=128, size=(128, 128), guidance="prior_guidance_scale", one_at_a_time=True
    ),
    "UnCLIPPipeline": Entry(
        unclip,
        {
            "prior_num_inference_steps": 2,
            "decoder_num_inference_steps": 2,
            "prior_guidance_scale": 5.0,
            "decoder_guidance_scale": 5.0,
        },
        guidance="decoder_guidance_scale",
        refused=("bfloat16",),
    ),
    "StableUnCLIPPipeline": Entry(stable_unclip, both(32)),
}
