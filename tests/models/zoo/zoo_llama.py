"""Tiny pipelines that Llama, Mistral and their kin read the prompts of: FLUX.2, ERNIE, OmniGen, HiDream, Fibo."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import CHAT, SMALL, llama_tokenizer, plain_tokenizer, stirred
from zoo_parts import clip_text_projected, clip_tokenizer, kl_decoder, t5_encoder, t5_tokenizer
from zoo_qwen import ROUNDED, flow_scheduler
from zoo_qwen3 import flux2_decoder, flux2_transformer

SPECIALS = ("<pad>", "</s>", "<s>", "[IMG]", "[IMG_BREAK]", "[IMG_END]")


def mistral3_config(tokenizer: Any, layers: int, **text: Any) -> Any:
    """Return a Mistral3Config."""
    from transformers import Mistral3Config, MistralConfig, PixtralVisionConfig

    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    return Mistral3Config(
        vision_config=PixtralVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32
        ),
        text_config=MistralConfig(**{**SMALL, **ids, "head_dim": 8, "num_hidden_layers": layers, **text}),
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
    )


def flux2() -> Any:
    """Return a Flux2Pipeline, which reads layers 10, 20 and 30 of its text encoder."""
    from diffusers import Flux2Pipeline
    from transformers import Mistral3ForConditionalGeneration, PixtralImageProcessor, PixtralProcessor

    torch.manual_seed(0)
    tokenizer = plain_tokenizer(*SPECIALS)
    return Flux2Pipeline(
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=flux2_decoder(),
        text_encoder=Mistral3ForConditionalGeneration(mistral3_config(tokenizer, layers=31)).eval(),
        tokenizer=PixtralProcessor(PixtralImageProcessor(), tokenizer, chat_template=CHAT),
        transformer=flux2_transformer(48, guidance_embeds=True),
    )


def ernie_image() -> Any:
    """Return an ErnieImagePipeline, with the language model that would rewrite the prompts."""
    from diffusers import ErnieImagePipeline, ErnieImageTransformer2DModel
    from transformers import Ministral3Config, Ministral3ForCausalLM, Mistral3Model

    torch.manual_seed(0)
    tokenizer = plain_tokenizer(*SPECIALS)
    writer = plain_tokenizer(*SPECIALS)
    writer.model_max_length = 8  # so many tokens it would write
    transformer = ErnieImageTransformer2DModel(
        hidden_size=16,
        num_attention_heads=2,
        num_layers=2,
        ffn_hidden_size=16,
        in_channels=16,
        out_channels=16,
        text_in_dim=16,
        rope_axes_dim=(4, 2, 2),
    )
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    return ErnieImagePipeline(
        transformer=stirred(transformer),
        vae=flux2_decoder(),
        text_encoder=Mistral3Model(mistral3_config(tokenizer, layers=2)).eval(),
        tokenizer=tokenizer,
        scheduler=flow_scheduler(shift=3.0),
        pe=Ministral3ForCausalLM(Ministral3Config(**{**SMALL, **ids, "head_dim": 8})).eval(),
        pe_tokenizer=writer,
    )


def omnigen() -> Any:
    """Return an OmniGenPipeline, whose transformer reads the prompt by itself."""
    from diffusers import OmniGenPipeline, OmniGenTransformer2DModel

    torch.manual_seed(0)
    tokenizer = llama_tokenizer()
    transformer = OmniGenTransformer2DModel(
        in_channels=4,
        hidden_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=32,
        num_layers=2,
        pad_token_id=0,
        vocab_size=len(tokenizer),
        max_position_embeddings=1024,
        original_max_position_embeddings=1024,
        rope_scaling={"long_factor": [1, 2, 3, 4], "short_factor": [1, 2, 3, 4], "type": "su"},
        pos_embed_max_size=16,
        time_step_dim=16,
    )
    blocks = 4  # 8 pixels of each side of the latents: the tokenizer counts on it
    decoder = kl_decoder(
        block_out_channels=(16,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
    )
    return OmniGenPipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(invert_sigmas=True),
        vae=decoder,
        tokenizer=tokenizer,
    )


def hidream() -> Any:
    """Return a HiDreamImagePipeline, which makes 128 latents a side whatever it is asked for: here 128 pixels."""
    from diffusers import HiDreamImagePipeline, HiDreamImageTransformer2DModel
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = plain_tokenizer("<pad>", "</s>", "<s>")
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    transformer = HiDreamImageTransformer2DModel(
        patch_size=2,
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_channels=[32, 16],
        text_emb_dim=32,
        num_routed_experts=2,
        num_activated_experts=1,
        axes_dims_rope=(4, 2, 2),
        max_resolution=(128, 128),
        llama_layers=[0, 1],
    )
    for name, weights in transformer.named_parameters():
        if name.endswith("gate.weight"):
            torch.nn.init.normal_(weights)
    decoder = kl_decoder(
        block_out_channels=(8,),
        down_block_types=("DownEncoderBlock2D",),
        up_block_types=("UpDecoderBlock2D",),
        norm_num_groups=2,
        shift_factor=0.1,
        mid_block_add_attention=False,
    )
    return HiDreamImagePipeline(
        scheduler=flow_scheduler(shift=3.0),
        vae=decoder,
        text_encoder=clip_text_projected(max_position_embeddings=248),
        tokenizer=clip_tokenizer(248),
        text_encoder_2=clip_text_projected(max_position_embeddings=248),
        tokenizer_2=clip_tokenizer(248),
        text_encoder_3=t5_encoder(),
        tokenizer_3=t5_tokenizer(),
        text_encoder_4=LlamaForCausalLM(LlamaConfig(**{**SMALL, **ids})).eval(),
        tokenizer_4=tokenizer,
        transformer=transformer.eval(),
    )


def fibo() -> Any:
    """Return a BriaFiboPipeline, whose decoder makes 16 pixels of each side of its latents."""
    from diffusers import AutoencoderKLWan, BriaFiboPipeline, BriaFiboTransformer2DModel
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    torch.manual_seed(0)
    tokenizer = plain_tokenizer("<pad>", "</s>", "<s>")
    # An empty prompt is token 128000, whatever the tokenizer.
    ids = {"vocab_size": 128001, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1}
    width = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 3}
    transformer = BriaFiboTransformer2DModel(
        in_channels=4,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=16,
        axes_dims_rope=[4, 2, 2],
        text_encoder_dim=8,
    )
    decoder = AutoencoderKLWan(
        base_dim=8,
        decoder_base_dim=8,
        z_dim=4,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
        is_residual=True,
        in_channels=12,
        out_channels=12,
        patch_size=2,
        scale_factor_spatial=16,
    )
    return BriaFiboPipeline(
        transformer=transformer.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True),
        vae=decoder.eval(),
        text_encoder=SmolLM3ForCausalLM(SmolLM3Config(**{**SMALL, **ids, **width})).eval(),
        tokenizer=tokenizer,
    )


ENTRIES = {
    "Flux2Pipeline": Entry(build=flux2, call=usual()),
    "ErnieImagePipeline": Entry(build=ernie_image, call=usual(use_pe=False)),
    "OmniGenPipeline": Entry(build=omnigen, call=usual(), batch_is_told=True),
    "HiDreamImagePipeline": Entry(
        build=hidream, call=usual(steps=1), options={"steps": 1, "guidance": 5.0}, size=(128, 128)
    ),
    "BriaFiboPipeline": Entry(build=fibo, call=usual(64), asked=64, size=(64, 64), levels=ROUNDED),
}
