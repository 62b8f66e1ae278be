"""Which networks a diffusers pipeline consists of, and the size of the images that it makes unasked."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import torch

# A pipeline's names for what denoises, in the order of a call; "decoder" is the second network of Stable Cascade.
_PRIORS = ("prior_prior", "prior", "vision_language_encoder")
_BACKBONES = ("unet", "image_unet", "transformer", "transformer_2", "unconditional_transformer", "decoder")
_UPSCALERS = ("super_res_first", "super_res_last")
_AUTOENCODERS = ("vae", "movq", "vqvae", "vqgan")
# LDM calls its text encoder by the name of the network that it once was.
_TEXT_ENCODERS = ("text_encoder", "bert")
# Their calls name a side of their own, whatever their networks' configurations say.
_SIZED_BY_CALL = ("AuraFlowPipeline",)
# Theirs is a number in its code.
_SIDES = {"ZImagePipeline": 1024, "ZImageOmniPipeline": 1024}
# Their default_sample_size counts pixels; everyone else's counts latents.
_SIZED_IN_PIXELS = ("PRXPipeline", "PRXPixelPipeline")


def backbones_of(pipeline: Any) -> list[torch.nn.Module]:
    """Return all networks that a step runs, in the order of a call: a prior, what denoises, what enlarges.

    Raises:
        ValueError: the pipeline has no such network.
    """
    found = [*_named(pipeline, (*_PRIORS, *_BACKBONES, *_UPSCALERS))]
    if not _named_first(pipeline, _BACKBONES):
        raise ValueError(
            f"{type(pipeline).__name__} has no network that makes images ({', '.join(_BACKBONES)}): "
            "it cannot be benchmarked"
        )
    return found


def backbone_of(pipeline: Any) -> torch.nn.Module:
    """Return the one network of `backbones_of` that makes the image: not its prior, nor what enlarges it.

    Raises:
        ValueError: the pipeline has no such network.
    """
    backbones_of(pipeline)
    backbone = _named_first(pipeline, _BACKBONES)
    assert backbone is not None
    return backbone


def count_parameters(networks: torch.nn.Module | Iterable[torch.nn.Module]) -> int:
    """Return the number of weights of a network, or of several ones together, as papers count: a shared one once."""
    many = (networks,) if isinstance(networks, torch.nn.Module) else networks
    return sum({parameter: parameter.numel() for network in many for parameter in network.parameters()}.values())


def text_encoders_of(pipeline: Any) -> list[torch.nn.Module]:
    """Return the networks that encode prompts, those of a prior that is part of the pipeline included."""
    names = [name for name in pipeline.components if any(part in name for part in _TEXT_ENCODERS)]
    return [*_named(pipeline, names)]


def decoder_of(pipeline: Any) -> torch.nn.Module | None:
    """Return the network that makes pixels of latents, or None where the pipeline has none of its own."""
    for name in _AUTOENCODERS:
        autoencoder = getattr(pipeline, name, None)
        # Wuerstchen's has no module for the whole way up: its blocks are all but the first and last layer.
        decoder = getattr(autoencoder, "decoder", None) or getattr(autoencoder, "up_blocks", None)
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


def native_size(pipeline: Any) -> int:
    """Return the side in pixels that the pipeline makes unasked, or 0 where that is not known."""
    name = type(pipeline).__name__
    called = _SIDES.get(name) or _side_of_call(pipeline)
    if name in _SIZED_BY_CALL:
        return called
    own = _side(getattr(pipeline, "default_sample_size", None) or _configured(pipeline, "default_sample_size"))
    if own and name in _SIZED_IN_PIXELS:
        return own
    last = getattr(pipeline, _UPSCALERS[-1], None)
    if isinstance(last, torch.nn.Module):
        return _side(_configured(last, "sample_size"))
    latents = own or _side(_configured(backbone_of(pipeline), "sample_size"))
    return latents * _pixels_per_latent(pipeline) or called


def _pixels_per_latent(pipeline: Any) -> int:
    """Return how many pixels one side of a latent becomes: 1 without an autoencoder, 0 where that is not known."""
    if not any(isinstance(getattr(pipeline, name, None), torch.nn.Module) for name in _AUTOENCODERS):
        return 1
    for name in ("vae_scale_factor", "movq_scale_factor"):
        factor = getattr(pipeline, name, None)
        if isinstance(factor, int) and factor > 0:
            return factor
    return 0


def _side_of_call(pipeline: Any) -> int:
    """Return the default height of the pipeline's call where it is the default width too, else 0."""
    taken = inspect.signature(type(pipeline).__call__).parameters
    sides = {_side(taken[name].default) if name in taken else 0 for name in ("height", "width")}
    return sides.pop() if len(sides) == 1 else 0


def _side(size: object) -> int:
    """Return a side of a size that is written as one number or as several."""
    one = size[0] if isinstance(size, (list, tuple)) and size else size
    return one if isinstance(one, int) and one > 0 else 0


def _configured(part: Any, name: str) -> object:
    return getattr(getattr(part, "config", None), name, None)


def _named(pipeline: Any, names: Iterable[str]) -> Iterator[torch.nn.Module]:
    for name in names:
        part = getattr(pipeline, name, None)
        if isinstance(part, torch.nn.Module):
            yield part


def _named_first(pipeline: Any, names: Iterable[str]) -> torch.nn.Module | None:
    return next(_named(pipeline, names), None)
