"""Trains the embedded PixArt-Sigma: a small transformer and its T5 text encoder, from scratch, on robots.

python -m scripts.embedded.train_pixart
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
from torch import Tensor
from torch.nn import functional
from transformers import T5Config, T5EncoderModel, T5Tokenizer

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

TEXT_WIDTH = 128


def build_text_encoder(tokenizer: Any) -> T5EncoderModel:
    """Return a T5 v1.1 encoder of two layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            tie_word_embeddings=False,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def build_transformer() -> PixArtTransformer2DModel:
    """Return PixArt-Sigma's architecture at 3.1 M parameters."""
    return PixArtTransformer2DModel(
        sample_size=LATENT_SIDE,
        patch_size=2,
        in_channels=4,
        out_channels=8,
        num_attention_heads=5,
        attention_head_dim=32,
        num_layers=7,
        cross_attention_dim=160,
        caption_channels=TEXT_WIDTH,
        norm_type="ada_norm_single",
        use_additional_conditions=False,
    )


def build_scheduler() -> DPMSolverMultistepScheduler:
    """Return the published pipeline's scheduler."""
    return DPMSolverMultistepScheduler(
        beta_start=0.0001,
        beta_end=0.02,
        beta_schedule="linear",
        algorithm_type="dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
    )


def build_pipeline(assets: Path, vae: AutoencoderKL) -> PixArtSigmaPipeline:
    """Return the untrained pipeline around a trained VAE and the shipped tokenizer."""
    tokenizer = from_pretrained(T5Tokenizer, assets / "pixart" / "tokenizer")
    return PixArtSigmaPipeline(
        tokenizer=tokenizer,
        text_encoder=build_text_encoder(tokenizer),
        vae=vae,
        transformer=build_transformer(),
        scheduler=build_scheduler(),
    )


def empty_caption_ids(tokenizer: Any) -> Tensor:
    """Return `ids_L` of the pipeline's unconditional input, the empty caption: the end token alone."""
    ids_L = torch.full((tokenizer.model_max_length,), tokenizer.pad_token_id)
    ids_L[0] = tokenizer.eos_token_id
    return ids_L


def save_pixart(pipeline: PixArtSigmaPipeline, folder: Path, assets: Path) -> None:
    """Write the pipeline in diffusers' layout, float16, without the VAE."""
    halves = {name: halve(getattr(pipeline, name)) for name in ("transformer", "text_encoder")}
    save_pipeline(PixArtSigmaPipeline(**{**pipeline.components, **halves}), folder, assets)


def main(given: Sequence[str] | None = None) -> None:
    parser = open_training_parser(__doc__, minutes=6.0, batch=512, compile_flag="--compile")
    parser.add_argument("--vae", type=Path, help="folder of the trained VAE (default: --assets/vae)")
    arguments = parser.parse_args(given)
    job = start_job(arguments, "pixart")
    device, batch, assets, sprites = job.device, job.batch, job.assets, job.sprites

    vae = from_pretrained(AutoencoderKL, arguments.vae or assets / "vae", dtype=torch.float32).to(device)
    vae.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    pipeline = build_pipeline(assets, vae).to(device)
    transformer, text_encoder, tokenizer = pipeline.transformer, pipeline.text_encoder, pipeline.tokenizer
    if job.is_compiled:
        transformer.compile(dynamic=False)
    pad, end = tokenizer.pad_token_id, tokenizer.eos_token_id

    def tokenize(captions: Sequence[str]) -> Tensor:
        # The pipeline lowers the case and strips spaces before it tokenises.
        texts = [caption.lower().strip() for caption in captions]
        padding = {"padding": "max_length", "max_length": tokenizer.model_max_length, "truncation": True}
        ids_BL: Tensor = tokenizer(texts, return_tensors="pt", **padding).input_ids
        return ids_BL

    tokens = CaptionTokens(sprites, tokenize, pad, end)
    empty_L = empty_caption_ids(tokenizer).to(device)
    pool = LatentPool(sprites, vae, batch, pool_size(device, arguments.tiny))
    noising = Noising(pipeline.scheduler, device)
    sizes: dict[str, None] = {"resolution": None, "aspect_ratio": None}

    def loss() -> Tensor:
        latents_BCHW, attributes_BA = pool.draw()
        noised_BCHW, timesteps_B, target_BCHW = noising.draw(latents_BCHW)
        kept_B = kept_conditions(batch, device)
        ids_BL = torch.where(kept_B[:, None], tokens(attributes_BA), empty_L)
        mask_BL = (ids_BL != pad).long()
        text_BLC = text_encoder(ids_BL, attention_mask=mask_BL)[0]
        predicted_BCHW = transformer(
            noised_BCHW,
            encoder_hidden_states=text_BLC,
            encoder_attention_mask=mask_BL,
            timestep=timesteps_B,
            added_cond_kwargs=sizes,
            return_dict=False,
        )[0]
        # The second half is the learnt variance, which the published sampler leaves out.
        return functional.mse_loss(predicted_BCHW.chunk(2, dim=1)[0].float(), target_BCHW)

    record = job.train("pixart", [transformer, text_encoder], loss)
    save_pixart(pipeline, job.folder, assets)
    shipped = from_pretrained(PixArtSigmaPipeline, job.folder, vae=vae, dtype=torch.float32).to(device)
    options = {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": tokens.length}
    found = judge_pipeline(shipped, sprites, assets, job.count(512, tiny=4), **options)
    log("pixart", found.text())
    count = {
        name: sum(p.numel() for p in getattr(pipeline, name).parameters()) for name in ("transformer", "text_encoder")
    }
    facts = {
        "What": "PixArt-Sigma's architecture at 64 px: transformer and T5 encoder; the VAE lies in assets/vae",
        "Parameters": ", ".join(f"{name} {number:,}" for name, number in count.items()) + "; float16 on disk",
        "Data": "robots drawn on the device and their full captions, held-out pairs of body and accessory left out",
        "Recipe": f"epsilon prediction, AdamW 1e-3, batch {batch}, 10 % of captions dropped, average of weights .999",
        "512 held-out captions, 10 steps, guidance 1.5": found.text(),
    }
    job.write_card("Embedded PixArt-Sigma", facts, record)


if __name__ == "__main__":
    main()
