"""Tiny pipelines behind T5 whose tensors are not 0..1: DeepFloyd IF (pixels, without a decoder), Kandinsky 3."""

from __future__ import annotations

from typing import Any

import torch
from zoo_entries import Entry, usual
from zoo_parts import t5_encoder, t5_tokenizer
from zoo_priors import ATTENTIVE, OVERSHOOTING, vector_decoder
from zoo_stable_diffusion import unet


def deepfloyd() -> Any:
    """Return an IFPipeline without watermark and safety checker."""
    import diffusers

    torch.manual_seed(0)
    network = unet(
        **ATTENTIVE,
        sample_size=32,
        in_channels=3,
        out_channels=6,  # with the variances
        block_out_channels=(32, 64),
        norm_num_groups=32,
        cross_attention_dim=32,
        encoder_hid_dim=32,
        attention_head_dim=8,
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        act_fn="gelu",
    )
    return diffusers.IFPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=network,
        scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2", variance_type="learned_range"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )


def kandinsky_3() -> Any:
    """Return a Kandinsky3Pipeline."""
    import diffusers

    torch.manual_seed(0)
    network = diffusers.Kandinsky3UNet(
        time_embedding_dim=16,
        groups=8,
        attention_head_dim=8,
        layers_per_block=2,
        block_out_channels=(16, 16, 32, 32),
        cross_attention_dim=16,
        encoder_hid_dim=32,
    )
    # The first step divides what the network gives by a small number, and with it what bfloat16 rounds, on some CPUs
    # differently in a batch: unscaled, a batch of two then had other images.
    with torch.no_grad():
        network.conv_out.weight.mul_(0.02)
        network.conv_out.bias.mul_(0.02)
    decoder = vector_decoder(
        block_out_channels=(32, 32, 32, 64),
        down_block_types=("DownEncoderBlock2D",) * 3 + ("AttnDownEncoderBlock2D",),
        up_block_types=("AttnUpDecoderBlock2D",) + ("UpDecoderBlock2D",) * 3,
    )
    return diffusers.Kandinsky3Pipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=t5_encoder(),
        unet=network.eval(),
        scheduler=diffusers.DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        movq=decoder,
    )


ENTRIES = {
    "IFPipeline": Entry(deepfloyd, usual(clean_caption=False)),
    "Kandinsky3Pipeline": Entry(kandinsky_3, usual(64), asked=64, size=(64, 64), levels=OVERSHOOTING),
}
