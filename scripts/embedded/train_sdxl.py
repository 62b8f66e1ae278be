"""Trains the embedded SDXL: a small UNet and its two CLIP text encoders, all from scratch, on robots.

python -m scripts.embedded.train_sdxl
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from files.opening import from_pretrained
from finetuning.objective import Noising
from scripts.embedded.diffusion import (
    LATENT_SIDE,
    LatentPool,
    halve,
    judge_pipeline,
    kept_conditions,
    pool_size,
    save_pipeline,
)
from scripts.embedded.job import open_training_parser, start_job
from scripts.embedded.sprites import CaptionTokens
from scripts.embedded.training import log

WIDTHS = (64, 96)  # of the two text encoders
TIME_WIDTH = 16
SIZE = 64


def build_text_encoders(tokenizer: Any) -> tuple[CLIPTextModel, CLIPTextModelWithProjection]:
    """Return the two text encoders; both give their last layer but one, the second also its pooled projection."""

    def config(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.model_max_length,
            hidden_size=width,
            intermediate_size=2 * width,
            num_hidden_layers=3,
            num_attention_heads=width // 32,
            projection_dim=width,
            hidden_act="gelu",
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )

    return CLIPTextModel(config(WIDTHS[0])), CLIPTextModelWithProjection(config(WIDTHS[1]))


def build_unet() -> UNet2DConditionModel:
    """Return SDXL's architecture at 2.3 M parameters."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        block_out_channels=(32, 64, 80),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        attention_head_dim=(1, 2, 2),
        transformer_layers_per_block=1,
        cross_attention_dim=sum(WIDTHS),
        norm_num_groups=16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=TIME_WIDTH,
        projection_class_embeddings_input_dim=WIDTHS[1] + 6 * TIME_WIDTH,
    )


def build_scheduler() -> EulerDiscreteScheduler:
    """Return SDXL's scheduler, predicting v down to pure noise, so that ten steps begin where training began."""
    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def build_pipeline(assets: Path, vae: AutoencoderKL) -> StableDiffusionXLPipeline:
    """Return the untrained pipeline around a trained VAE and the shipped tokenizers."""
    tokenizer = from_pretrained(CLIPTokenizer, assets / "sdxl" / "tokenizer")
    first, second = build_text_encoders(tokenizer)
    return StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=first,
        text_encoder_2=second,
        tokenizer=tokenizer,
        tokenizer_2=from_pretrained(CLIPTokenizer, assets / "sdxl" / "tokenizer_2"),
        unet=build_unet(),
        scheduler=build_scheduler(),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )


def encode_captions(first: Any, second: Any, ids_BL: Tensor) -> tuple[Tensor, Tensor]:
    """Return `text_BLC` and `pooled_BC` as SDXL's pipeline takes them from its two encoders."""
    one, two = first(ids_BL, output_hidden_states=True), second(ids_BL, output_hidden_states=True)
    return torch.cat([one.hidden_states[-2], two.hidden_states[-2]], dim=-1), two.text_embeds


def save_sdxl(pipeline: StableDiffusionXLPipeline, folder: Path, assets: Path) -> None:
    """Write the pipeline in diffusers' layout, float16, without the VAE."""
    names = ("unet", "text_encoder", "text_encoder_2")
    half = StableDiffusionXLPipeline(
        **{**pipeline.components, **{name: halve(getattr(pipeline, name)) for name in names}},
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    save_pipeline(half, folder, assets)


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=6.5, batch=512, compile_flag="--compile")
    parser.add_argument("--vae", type=Path, help="folder of the trained VAE (default: --assets/vae)")
    arguments = parser.parse_args(given)
    job = start_job(arguments, "sdxl")
    device, batch, assets, sprites = job.device, job.batch, job.assets, job.sprites

    vae = from_pretrained(AutoencoderKL, arguments.vae or assets / "vae", dtype=torch.float32).to(device)
    vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    pipeline = build_pipeline(assets, vae).to(device)
    unet, first, second = pipeline.unet, pipeline.text_encoder, pipeline.text_encoder_2
    tokenizer = pipeline.tokenizer
    unet.to(memory_format=torch.channels_last)
    if job.is_compiled:
        unet.compile(dynamic=False)

    def tokenize(captions: Sequence[str]) -> Tensor:
        padding = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids_BL: Tensor = tokenizer(list(captions), return_tensors="pt", **padding).input_ids
        return ids_BL

    tokens = CaptionTokens(
        sprites, tokenize, tokenizer.pad_token_id, tokenizer.eos_token_id, start_id=tokenizer.bos_token_id
    )
    pool = LatentPool(sprites, vae, batch, pool_size(device, arguments.tiny))
    noising = Noising(pipeline.scheduler, device)
    # What the pipeline passes for an image that was neither resized nor cropped.
    sizes_B6 = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]], device=device).expand(batch, 6).float()

    def loss() -> Tensor:
        latents_BCHW, attributes_BA = pool.draw()
        noised_BCHW, timesteps_B, target_BCHW = noising.draw(latents_BCHW)
        ids_BL = tokens(attributes_BA)
        text_BLC, pooled_BC = encode_captions(first, second, ids_BL)
        kept_B = kept_conditions(batch, device)
        predicted_BCHW = unet(
            noised_BCHW,
            timesteps_B,
            encoder_hidden_states=text_BLC * kept_B[:, None, None],
            added_cond_kwargs={"text_embeds": pooled_BC * kept_B[:, None], "time_ids": sizes_B6},
            return_dict=False,
        )[0]
        return functional.mse_loss(predicted_BCHW.float(), target_BCHW)

    record = job.train("sdxl", [unet, first, second], loss)
    save_sdxl(pipeline, job.folder, assets)
    shipped = from_pretrained(
        StableDiffusionXLPipeline, job.folder, vae=vae, dtype=torch.float32, add_watermarker=False
    )
    found = judge_pipeline(shipped.to(device), sprites, assets, job.count(512, tiny=4))
    log("sdxl", found.text())
    count = {name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in ("unet", "text_encoder")}
    count["text_encoder_2"] = sum(p.numel() for p in second.parameters())
    facts = {
        "What": "SDXL's architecture at 64 px: UNet and two CLIP text encoders; the VAE lies in assets/vae",
        "Parameters": ", ".join(f"{name} {number:,}" for name, number in count.items()) + "; float16 on disk",
        "Data": "robots drawn on the device and their full captions, held-out pairs of body and accessory left out",
        "Recipe": f"v-prediction, zero terminal SNR, AdamW 1e-3, batch {batch}, 10 % of captions dropped, "
        "average of weights .999",
        "512 held-out captions, 10 steps, guidance 1.5": found.text(),
    }
    job.write_card("Embedded SDXL", facts, record)


if __name__ == "__main__":
    main()
