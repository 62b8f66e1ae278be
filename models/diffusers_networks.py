"""Which networks a diffusers pipeline consists of."""

from __future__ import annotations

from typing import Any

import torch

_AUTOENCODERS = ("vae", "movq", "vqvae", "vqgan")


def backbone_of(pipeline: Any) -> torch.nn.Module:
    """Return the network that denoises: the pipeline's UNet or transformer."""
    backbone = getattr(pipeline, "unet", None) or getattr(pipeline, "transformer", None)
    if not isinstance(backbone, torch.nn.Module):
        raise ValueError(f"{type(pipeline).__name__} has neither a unet nor a transformer: it cannot be benchmarked")
    return backbone


def count_parameters(network: torch.nn.Module) -> int:
    """Return the number of weights of a network, as papers count."""
    return sum(parameter.numel() for parameter in network.parameters())


def text_encoders_of(pipeline: Any) -> list[torch.nn.Module]:
    """Return the networks that encode prompts, those of a prior that is part of the pipeline included."""
    parts = [part for name, part in pipeline.components.items() if "text_encoder" in name]
    return [part for part in parts if isinstance(part, torch.nn.Module)]


def decoder_of(pipeline: Any) -> torch.nn.Module | None:
    """Return the network that makes pixels of latents, or None where the pipeline has none of its own."""
    for name in _AUTOENCODERS:
        decoder = getattr(getattr(pipeline, name, None), "decoder", None)
        if isinstance(decoder, torch.nn.Module):
            return decoder
    return None


def steady_decoder_of(pipeline: Any) -> torch.nn.Module | None:
    """Return the VAE's decoder, unless the pipeline changes its dtype with every image (float16)."""
    vae = getattr(pipeline, "vae", None)
    decoder = getattr(vae, "decoder", None)
    if not isinstance(decoder, torch.nn.Module) or vae is None:
        return None
    upcast = getattr(vae.config, "force_upcast", False) and vae.dtype == torch.float16
    return None if upcast else decoder
