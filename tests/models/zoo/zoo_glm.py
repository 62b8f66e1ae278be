"""Tiny pipelines that GLM reads the prompts of: CogView4, GLM-Image, Kolors."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_language import CHAT, LETTERS, SMALL, plain_tokenizer
from zoo_parts import kl_decoder
from zoo_qwen import flow_scheduler
from zoo_stable_diffusion import unet


def cogview4() -> Any:
    """Return a CogView4Pipeline, which pads prompts on the left and reads the padding."""
    from diffusers import CogView4Pipeline, CogView4Transformer2DModel
    from transformers import GlmConfig, GlmModel

    torch.manual_seed(0)
    tokenizer = plain_tokenizer("<pad>", "</s>", "<sop>", padding_side="left")
    ids = {"vocab_size": len(tokenizer), "pad_token_id": 0}
    transformer = CogView4Transformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        pos_embed_max_size=16,
        sample_size=8,
        rope_axes_dim=(16, 16),
    )
    return CogView4Pipeline(
        tokenizer=tokenizer,
        text_encoder=GlmModel(GlmConfig(**{**SMALL, **ids, "head_dim": 8})).eval(),
        vae=kl_decoder(),
        transformer=transformer.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75),
    )


def glm_image() -> Any:
    """Return a GlmImagePipeline, whose language model draws a plan of the image, token by token."""
    from diffusers import GlmImagePipeline, GlmImageTransformer2DModel
    from transformers import (
        ByT5Tokenizer,
        GlmImageConfig,
        GlmImageForConditionalGeneration,
        GlmImageImageProcessor,
        GlmImageProcessor,
        T5Config,
        T5EncoderModel,
    )

    torch.manual_seed(0)
    tokenizer = plain_tokenizer(
        *("<pad>", "</s>", "<bos>", "<image>", "<grid_bos>", "<grid_eos>"),
        padding_side="left",
        image_token="<image>",
        grid_bos_token="<grid_bos>",
        grid_eos_token="<grid_eos>",
    )
    codes = 64
    text = {**SMALL, "vocab_size": len(tokenizer) + codes, "vision_vocab_size": codes + 2, "pad_token_id": 0}
    config = GlmImageConfig(
        text_config={
            **text,
            "initializer_range": 1.0,
            "eos_token_id": codes + 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]},
        },
        vision_config={
            "depth": 1,
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_heads": 2,
            "image_size": 64,
        },
        vq_config={"embed_dim": 8, "num_embeddings": codes, "latent_channels": 16},
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        image_start_token_id=codes,
        image_end_token_id=codes + 1,
    )
    transformer = GlmImageTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        text_embed_dim=16,
        time_embed_dim=16,
        condition_dim=8,
        prior_vq_quantizer_codebook_size=codes + 2,
    )
    blocks = 4
    decoder = kl_decoder(
        block_out_channels=(8,) * blocks,
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        norm_num_groups=2,
        latents_mean=[0.0] * 4,
        latents_std=[1.0] * 4,
    )
    planner = GlmImageForConditionalGeneration(config).eval()
    planner.generation_config.eos_token_id = None  # random weights would end the plan before it is whole
    glyphs = T5Config(vocab_size=384, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    return GlmImagePipeline(
        tokenizer=ByT5Tokenizer(),
        processor=GlmImageProcessor(GlmImageImageProcessor(), tokenizer, chat_template=CHAT),
        text_encoder=T5EncoderModel(glyphs).eval(),
        vision_language_encoder=planner,
        vae=decoder,
        transformer=transformer.eval(),
        scheduler=flow_scheduler(use_dynamic_shifting=True, base_shift=0.25, max_shift=0.75),
    )


def chatglm_tokenizer() -> Any:
    """Return a ChatGLMTokenizer with one token a letter; its model is a file that SentencePiece made."""
    import sentencepiece
    from diffusers.pipelines.kolors.tokenizer import ChatGLMTokenizer

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(LETTERS), LETTERS]),
        model_writer=model,
        model_type="char",
        vocab_size=len(LETTERS) + 4,
        minloglevel=2,
    )
    folder = tempfile.TemporaryDirectory()
    file = Path(folder.name) / "tokenizer.model"
    file.write_bytes(model.getvalue())
    tokenizer = ChatGLMTokenizer(str(file), model_max_length=256)
    tokenizer.folder = folder  # it copies the file when it is saved; the folder goes when it goes
    return tokenizer


def kolors(kind: str) -> Any:
    """Return a pipeline of one of the Kolors classes, whose language model comes with diffusers."""
    import diffusers
    from diffusers.pipelines.kolors.text_encoder import ChatGLMConfig, ChatGLMModel

    torch.manual_seed(0)
    tokenizer = chatglm_tokenizer()
    config = ChatGLMConfig(
        num_layers=2,
        padded_vocab_size=tokenizer.vocab_size,
        hidden_size=16,
        ffn_hidden_size=16,
        kv_channels=8,
        num_attention_heads=2,
        multi_query_attention=True,
        multi_query_group_num=1,
        add_qkv_bias=True,
        original_rope=True,
    )
    encoder = ChatGLMModel(config, empty_init=False).eval()
    for name, weights in encoder.named_parameters():
        if name.endswith("layernorm.weight"):  # they lie as they do in memory
            torch.nn.init.ones_(weights)
    times = 8
    return getattr(diffusers, kind)(
        vae=kl_decoder(),
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet(
            attention_head_dim=(2, 4),
            cross_attention_dim=16,
            encoder_hid_dim=16,
            encoder_hid_dim_type="text_proj",
            addition_embed_type="text_time",
            addition_time_embed_dim=times,
            projection_class_embeddings_input_dim=16 + 6 * times,
            use_linear_projection=True,
        ),
        scheduler=diffusers.EulerDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="leading"),
    )


ENTRIES = {
    "CogView4Pipeline": Entry(build=cogview4, call=usual(), batch_is_told=True),
    "GlmImagePipeline": Entry(build=glm_image, call=usual(64), asked=64, size=(64, 64), one_at_a_time=True),
    "KolorsPipeline": Entry(build=lambda: kolors("KolorsPipeline"), call=usual()),
    "KolorsPAGPipeline": Entry(build=lambda: kolors("KolorsPAGPipeline"), call=usual()),
}
