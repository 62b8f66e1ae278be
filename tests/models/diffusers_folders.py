"""Writes small pipelines in the official folder layouts of diffusers, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = ("a", "pink", "blue", "robot", "with", "round", "head", "cat", "tree", "in", "forest", "painting")
VAE = {
    "sample_size": 32,
    "latent_channels": 4,
    "block_out_channels": (16, 16, 16),
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
    "force_upcast": False,
}


def build_sdxl(**vae: Any) -> Any:
    """Return a StableDiffusionXLPipeline of 32 px, all parts present."""
    import torch
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    from models.sdxl import SCHEDULER

    torch.manual_seed(0)
    letters = [chr(i) for i in range(ord("a"), ord("z") + 1)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(letter + "</w>" for letter in letters)]
    tokenizer = CLIPTokenizer(
        vocab={token: i for i, token in enumerate(tokens)},
        merges=[],
        unk_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        model_max_length=77,
    )
    clip = {
        "vocab_size": len(tokens),
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 1,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "projection_dim": 16,
    }
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4),
        transformer_layers_per_block=1,
        cross_attention_dim=32,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=64,
    )
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(**VAE | vae),
        text_encoder=CLIPTextModel(CLIPTextConfig(**clip, hidden_size=16)).eval(),
        text_encoder_2=CLIPTextModelWithProjection(CLIPTextConfig(**clip, hidden_size=16)).eval(),
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**SCHEDULER),
        add_watermarker=False,
    )


def build_pixart() -> Any:
    """Return a PixArtSigmaPipeline of 32 px, all parts present, prompts of 40 tokens."""
    import torch
    from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    from models.pixart import SCHEDULER

    torch.manual_seed(0)
    pieces = ["<pad>", "</s>", "<unk>", "▁", *(f"▁{word}" for word in WORDS), *map(chr, range(ord("a"), ord("z") + 1))]
    tokenizer = T5Tokenizer(
        vocab=[(piece, -float(i)) for i, piece in enumerate(pieces)], extra_ids=0, model_max_length=40
    )
    t5 = T5Config(
        vocab_size=len(pieces),
        d_model=32,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="gated-gelu",
    )
    transformer = PixArtTransformer2DModel(
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
    return PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=T5EncoderModel(t5).eval(),
        vae=AutoencoderKL(**VAE),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(**SCHEDULER),
    )


def build_kandinsky() -> Any:
    """Return a KandinskyV22CombinedPipeline of 64 px, whose tensors are what its decoder makes, of any range."""
    import torch
    from diffusers import DDPMScheduler, KandinskyV22CombinedPipeline, PriorTransformer, UnCLIPScheduler, VQModel
    from diffusers import UNet2DConditionModel as UNet
    from transformers import (
        CLIPImageProcessor,
        CLIPTextConfig,
        CLIPTextModelWithProjection,
        CLIPVisionConfig,
        CLIPVisionModelWithProjection,
    )

    sdxl = build_sdxl()
    torch.manual_seed(0)
    clip = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "projection_dim": 16}
    text = CLIPTextConfig(**clip, vocab_size=54, hidden_size=16, bos_token_id=0, eos_token_id=1, pad_token_id=1)
    vision = CLIPVisionConfig(**clip, hidden_size=16, image_size=32, patch_size=8)
    unet = UNet(
        in_channels=4,
        out_channels=8,  # with the variances
        addition_embed_type="image",
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        block_out_channels=(32, 64),
        layers_per_block=1,
        encoder_hid_dim=16,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
        sample_size=8,
    )
    movq = VQModel(
        block_out_channels=(32, 64),
        down_block_types=("DownEncoderBlock2D", "AttnDownEncoderBlock2D"),
        up_block_types=("AttnUpDecoderBlock2D", "UpDecoderBlock2D"),
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        num_vq_embeddings=12,
        vq_embed_dim=4,
        norm_num_groups=8,
        norm_type="spatial",
    )
    with torch.no_grad():
        movq.decoder.conv_out.weight.mul_(8)  # as far out of -1..1 as a trained decoder overshoots, and farther
    prior_noise = {"variance_type": "fixed_small_log", "prediction_type": "sample", "num_train_timesteps": 1000}
    return KandinskyV22CombinedPipeline(
        unet=unet.eval(),
        scheduler=DDPMScheduler(num_train_timesteps=1000, variance_type="learned_range", thresholding=False),
        movq=movq.eval(),
        prior_prior=PriorTransformer(
            num_attention_heads=2, attention_head_dim=8, num_layers=1, embedding_dim=16
        ).eval(),
        prior_image_encoder=CLIPVisionModelWithProjection(vision).eval(),
        prior_text_encoder=CLIPTextModelWithProjection(text).eval(),
        prior_tokenizer=sdxl.tokenizer,
        prior_scheduler=UnCLIPScheduler(**prior_noise, clip_sample=True, clip_sample_range=10.0),
        prior_image_processor=CLIPImageProcessor(crop_size=32, size=32),
    )


def build_deepfloyd() -> Any:
    """Return an IFPipeline of 32 px without watermarker and safety checker, whose tensors are of -1..1."""
    import torch
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel

    pixart = build_pixart()
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=32,
        layers_per_block=1,
        block_out_channels=(32, 64),
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        in_channels=3,
        out_channels=6,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        act_fn="gelu",
    )
    return IFPipeline(
        tokenizer=pixart.tokenizer,
        text_encoder=pixart.text_encoder,
        unet=unet.eval(),
        scheduler=DDPMScheduler(
            num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", variance_type="learned_range"
        ),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def build_stable_diffusion() -> Any:
    """Return a StableDiffusionPipeline of 32 px without safety checker."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    sdxl = build_sdxl()
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 32),
        norm_num_groups=8,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,
        cross_attention_dim=16,
    )
    return StableDiffusionPipeline(
        vae=sdxl.vae,
        text_encoder=sdxl.text_encoder,
        tokenizer=sdxl.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def write_sdxl(folder: Path, variant: str | None = None) -> Path:
    """Write the pipeline as the hub's SDXL repository lays it out."""
    build_sdxl().save_pretrained(folder, variant=variant)
    return folder


def write_pixart_split(folder: Path) -> tuple[Path, Path]:
    """Write the pipeline as PixArt-Sigma is published: the transformer in one folder, all else in another."""
    import json

    pipeline = build_pixart()
    pipeline.transformer.save_pretrained(folder / "model" / "transformer")
    config = folder / "model" / "transformer" / "config.json"
    # The published files still name the class that they were first saved with.
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_class_name": "Transformer2DModel"}))
    base = folder / "base"
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        getattr(pipeline, part).save_pretrained(base / part)
    index = {
        "_class_name": "PixArtSigmaPipeline",
        "_diffusers_version": "0.28.0",
        "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": [None, None],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (base / "model_index.json").write_text(json.dumps(index))
    return folder / "model", base


def write_lora(folder: Path, transformer: Any, **config: Any) -> Path:
    """Write a LoRA with random weights, strong enough to change images, as PEFT saves it."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    model = get_peft_model(transformer, LoraConfig(**{"r": 4, "target_modules": ["to_q", "to_v"], **config}))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
            elif "magnitude" in name:
                parameter.mul_(1.1)
    model.save_pretrained(str(folder))
    return folder
