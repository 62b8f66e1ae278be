"""Tiny pipelines that Qwen3-VL reads the prompts of: Krea 2, Nucleus, Qwen-Image 2.1, DreamLite, Ideogram 4, Fibo 2."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import qwen3_vl, qwen3_vl_config, qwen_tokenizer, qwen_vl_processor
from zoo_qwen import ROUNDED, flow_scheduler, qwen_image_decoder
from zoo_qwen3 import flux2_decoder


def krea2() -> Any:
    """Return a Krea2Pipeline."""
    from diffusers import Krea2Pipeline, Krea2Transformer2DModel
    from transformers import Qwen3VLModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = Krea2Transformer2DModel(
        in_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        num_key_value_heads=1,
        intermediate_size=16,
        timestep_embed_dim=16,
        text_hidden_dim=16,
        num_text_layers=2,
        text_num_attention_heads=2,
        text_num_key_value_heads=2,
        text_intermediate_size=16,
        num_layerwise_text_blocks=1,
        num_refiner_text_blocks=1,
        axes_dims_rope=(4, 2, 2),
    )
    return Krea2Pipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=qwen_image_decoder(),
        text_encoder=Qwen3VLModel(qwen3_vl_config(tokenizer)).eval(),
        tokenizer=tokenizer,
        transformer=transformer.eval(),
        text_encoder_select_layers=(1, 2),
    )


def nucleus() -> Any:
    """Return a NucleusMoEImagePipeline, whose fourth block has experts."""
    from diffusers import NucleusMoEImagePipeline, NucleusMoEImageTransformer2DModel
    from diffusers.models.transformers.transformer_nucleusmoe_image import SwiGLUExperts

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = NucleusMoEImageTransformer2DModel(
        in_channels=16,
        out_channels=4,
        num_layers=5,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=(4, 2, 2),
        mlp_ratio=2.0,
        num_experts=4,
        moe_intermediate_dim=8,
        capacity_factors=2.0,
    )
    for block in transformer.modules():
        if isinstance(block, SwiGLUExperts):  # it leaves its weights as they lie in memory
            torch.nn.init.normal_(block.gate_up_proj, std=0.3)
            torch.nn.init.normal_(block.down_proj, std=0.3)
    return NucleusMoEImagePipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=qwen_image_decoder(),
        text_encoder=qwen3_vl(tokenizer, num_hidden_layers=9),
        processor=qwen_vl_processor("Qwen3VLProcessor", tokenizer),
    )


def qwen_image_21() -> Any:
    """Return a QwenImage21Pipeline, whose decoder makes 16 pixels of each side of its latents, with opacity."""
    from diffusers import AutoencoderKLQwenImage21, QwenImage21Pipeline, QwenImage21Transformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = QwenImage21Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        context_in_dim=16,
        axes_dims_rope=(4, 2, 2),
    )
    decoder = AutoencoderKLQwenImage21(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1, 1],
        num_res_blocks=1,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    return QwenImage21Pipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=decoder.eval(),
        text_encoder=qwen3_vl(tokenizer),
        processor=qwen_vl_processor("Qwen3VLProcessor", tokenizer),
        transformer=transformer.eval(),
    )


def dreamlite(kind: str) -> Any:
    """Return a pipeline of one of the DreamLite classes, which take one prompt a call."""
    import diffusers
    from diffusers import AutoencoderTiny
    from diffusers.models import DreamLiteUNetModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    unet = DreamLiteUNetModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=8,
        use_linear_projection=True,
        addition_embed_type="time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=16,
        ff_mult=2,
    )
    decoder = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(1, 1, 1),
        num_decoder_blocks=(1, 1, 1),
    )
    return getattr(diffusers, kind)(
        text_encoder=qwen3_vl(tokenizer),
        tokenizer=tokenizer,
        processor=qwen_vl_processor("Qwen3VLProcessor", tokenizer),
        vae=decoder.eval(),
        unet=unet.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True),
    )


def ideogram4() -> Any:
    """Return an Ideogram4Pipeline, which has two transformers, and reads 13 of 36 layers of its text encoder."""
    from diffusers import Ideogram4Pipeline, Ideogram4Transformer2DModel
    from transformers import Qwen3VLModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()

    def transformer() -> Any:
        return Ideogram4Transformer2DModel(
            in_channels=16,
            num_layers=1,
            attention_head_dim=8,
            num_attention_heads=2,
            intermediate_size=16,
            adaln_dim=16,
            llm_features_dim=13 * 16,
            mrope_section=(2, 1, 1),
        ).eval()

    return Ideogram4Pipeline(
        scheduler=flow_scheduler(),
        vae=flux2_decoder(),
        text_encoder=Qwen3VLModel(qwen3_vl_config(tokenizer, num_hidden_layers=36)).eval(),
        tokenizer=tokenizer,
        transformer=transformer(),
        unconditional_transformer=transformer(),
    )


def fibo2() -> Any:
    """Return a BriaFibo2Pipeline, which reads layers 5 to 35 of its text encoder."""
    from diffusers import BriaFibo2Pipeline, BriaFibo2Transformer2DModel

    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    transformer = BriaFibo2Transformer2DModel(
        in_channels=4,
        dim=32,
        n_layers=6,
        n_refiner_layers=1,
        n_heads=2,
        cap_feat_dim=3 * 16,
        injection_layer_ids=(1, 2, 3, 4, 5),
        perceiver_num_layers=1,
        min_num_gist_tokens=8,
        max_num_gist_tokens=16,
        gist_step=8,
        axes_dims=(8, 4, 4),
        axes_lens=(2048, 64, 64),
    )
    return BriaFibo2Pipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=flux2_decoder(),
        text_encoder=qwen3_vl(tokenizer, num_hidden_layers=36),
        processor=qwen_vl_processor("Qwen3VLProcessor", tokenizer),
    )


ENTRIES = {
    "Krea2Pipeline": Entry(build=krea2, call=usual()),
    "NucleusMoEImagePipeline": Entry(build=nucleus, call=usual()),
    "QwenImage21Pipeline": Entry(
        build=qwen_image_21,
        call={
            "height": 64,
            "width": 64,
            "num_inference_steps": 2,
            "true_cfg_scale": 5.0,
            "negative_prompt": [" ", " "],
        },
        asked=64,
        size=(64, 64),
        guidance="true_cfg_scale",
        batch_is_told=True,  # padding stands between the text and the image, and shifts the image's positions
    ),
    "DreamLitePipeline": Entry(build=lambda: dreamlite("DreamLitePipeline"), call=usual(), one_at_a_time=True),
    "DreamLiteMobilePipeline": Entry(
        build=lambda: dreamlite("DreamLiteMobilePipeline"),
        call={"height": 32, "width": 32, "num_inference_steps": 2},
        options={"steps": 2},
        guidance="",
        one_at_a_time=True,
    ),
    "Ideogram4Pipeline": Entry(
        build=ideogram4,
        call=usual(guidance_schedule=None, max_sequence_length=256),
        options={"steps": 2, "guidance": 5.0, "args": '{"max_sequence_length": 256}'},
        refuses_long="exceeds max_sequence_length=256",
    ),
    "BriaFibo2Pipeline": Entry(build=fibo2, call=usual(), levels=ROUNDED),
}
