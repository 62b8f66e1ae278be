"""Tiny pipelines that Qwen3 reads the prompts of: FLUX.2 Klein, Z-Image, Ovis-Image."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import qwen3_config, qwen_tokenizer
from zoo_parts import flow_decoder
from zoo_qwen import ROUNDED, flow_scheduler


def flux2_decoder() -> Any:
    """Return an AutoencoderKLFlux2 that makes 4 pixels of each side of its latents."""
    from diffusers import AutoencoderKLFlux2

    return AutoencoderKLFlux2(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=32,
    ).eval()


def flux2_transformer(text_width: int, guidance_embeds: bool) -> Any:
    """Return a Flux2Transformer2DModel for the latents of `flux2_decoder`."""
    from diffusers import Flux2Transformer2DModel

    return Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=text_width,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=guidance_embeds,
    ).eval()


def flux2_klein(kind: str, is_distilled: bool) -> Any:
    """Return a pipeline of one of the Klein classes, which read layers 9, 18 and 27 of their text encoder."""
    import diffusers
    from transformers import Qwen3ForCausalLM

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    return getattr(diffusers, kind)(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=flux2_decoder(),
        text_encoder=Qwen3ForCausalLM(qwen3_config(tokenizer, num_hidden_layers=28)).eval(),
        tokenizer=tokenizer,
        transformer=flux2_transformer(48, guidance_embeds=False),
        is_distilled=is_distilled,
    )


def z_image_parts(**transformer: Any) -> dict[str, Any]:
    """Return the components of Z-Image. transformer: what differs in that."""
    from diffusers import ZImageTransformer2DModel
    from transformers import Qwen3Model

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    network = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=2,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=16,
        axes_dims=[4, 2, 2],
        axes_lens=[1024, 64, 64],
        **transformer,
    )
    for name in ("x_pad_token", "cap_pad_token", "siglip_pad_token"):
        if (token := getattr(network, name, None)) is not None:
            torch.nn.init.normal_(token)  # it lies as it does in memory
    return {
        "scheduler": flow_scheduler(shift=3.0),
        "vae": flow_decoder(),
        "text_encoder": Qwen3Model(qwen3_config(tokenizer)).eval(),
        "tokenizer": tokenizer,
        "transformer": network.eval(),
    }


def z_image() -> Any:
    """Return a ZImagePipeline."""
    from diffusers import ZImagePipeline

    return ZImagePipeline(**z_image_parts())


def z_image_omni() -> Any:
    """Return a ZImageOmniPipeline, which could look at images too."""
    from diffusers import ZImageOmniPipeline
    from transformers import Siglip2ImageProcessor, Siglip2VisionConfig, Siglip2VisionModel

    parts = z_image_parts(siglip_feat_dim=16)
    eye = Siglip2VisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_patches=16
    )
    return ZImageOmniPipeline(**parts, siglip=Siglip2VisionModel(eye).eval(), siglip_processor=Siglip2ImageProcessor())


def ovis_image() -> Any:
    """Return an OvisImagePipeline."""
    from diffusers import OvisImagePipeline, OvisImageTransformer2DModel
    from transformers import Qwen3Model

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    return OvisImagePipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=flow_decoder(),
        text_encoder=Qwen3Model(qwen3_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
    )


ENTRIES = {
    "Flux2KleinPipeline": Entry(build=lambda: flux2_klein("Flux2KleinPipeline", is_distilled=False), call=usual()),
    "Flux2KleinKVPipeline": Entry(
        build=lambda: flux2_klein("Flux2KleinKVPipeline", is_distilled=True),
        call={"height": 32, "width": 32, "num_inference_steps": 2},
        options={"steps": 2},
        guidance="",
    ),
    "ZImagePipeline": Entry(build=z_image, call=usual()),
    "ZImageOmniPipeline": Entry(build=z_image_omni, call=usual()),
    "OvisImagePipeline": Entry(build=ovis_image, call=usual(), levels=ROUNDED),
}
