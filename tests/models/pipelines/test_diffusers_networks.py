"""Which networks of a pipeline are counted and watched, and the size that it makes unasked."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers_folders import build_deepfloyd, build_kandinsky, build_pixart, build_sdxl, build_stable_diffusion

from models.pipelines.generator import DiffusersGenerator
from models.pipelines.networks import (
    backbone_of,
    backbones_of,
    count_parameters,
    decoder_of,
    native_size,
    text_encoders_of,
)


def network(weights: int = 1, **config: Any) -> torch.nn.Module:
    made = torch.nn.Linear(weights, 1, bias=False)
    made.config = SimpleNamespace(**config)  # type: ignore[assignment]
    return made


def pipeline_of(name: str, call: Any = None, **parts: Any) -> Any:
    """Return a stand-in of class `name` with these components and attributes."""

    made = type(name, (), {"__call__": call or of_any_side})()
    made.components = {key: part for key, part in parts.items() if isinstance(part, torch.nn.Module)}
    for key, part in parts.items():
        setattr(made, key, part)
    return made


def of_any_side(self: Any, prompt: str, height: int | None = None, width: int | None = None) -> None: ...


def of_1024(self: Any, prompt: str, height: int = 1024, width: int = 1024) -> None: ...


def of_two_sides(self: Any, prompt: str, height: int = 768, width: int = 1360) -> None: ...


def test_both_transformers_of_ideogram_are_counted() -> None:
    pipeline = pipeline_of("Ideogram4Pipeline", transformer=network(3), unconditional_transformer=network(3))
    assert backbones_of(pipeline) == [pipeline.transformer, pipeline.unconditional_transformer]
    assert count_parameters(backbones_of(pipeline)) == 6


def test_a_network_that_serves_twice_is_counted_once() -> None:
    shared = network(3)
    pipeline = pipeline_of("Ideogram4Pipeline", transformer=shared, unconditional_transformer=shared)
    assert count_parameters(backbones_of(pipeline)) == 3


def test_networks_come_in_the_order_of_a_call() -> None:
    parts = {name: network() for name in ("super_res_last", "decoder", "prior", "super_res_first", "text_proj")}
    pipeline = pipeline_of("UnCLIPPipeline", **parts)
    assert backbones_of(pipeline) == [parts[name] for name in ("prior", "decoder", "super_res_first", "super_res_last")]
    assert backbone_of(pipeline) is parts["decoder"]


def test_a_prior_alone_makes_no_images() -> None:
    with pytest.raises(ValueError, match="KandinskyPriorPipeline has no network that makes images") as caught:
        backbones_of(pipeline_of("KandinskyPriorPipeline", prior=network()))
    assert "\n" not in str(caught.value)


def test_kandinskys_prior_is_counted_and_watched_with_the_unet() -> None:
    pipeline = build_kandinsky()
    generator = DiffusersGenerator("x", pipeline, 64, {"num_inference_steps": 1, "height": 64, "width": 64})
    both = [pipeline.prior_prior, pipeline.unet]
    assert backbones_of(pipeline) == both
    assert backbone_of(pipeline) is pipeline.unet
    assert generator.parameters == sum(weights.numel() for part in both for weights in part.parameters())
    assert text_encoders_of(pipeline) == [pipeline.prior_text_encoder]
    assert decoder_of(pipeline) is pipeline.movq.decoder
    assert [stage.name for stage in generator.stages()] == ["text encoder", "backbone", "decoder"]


def test_wuerstchens_decoder_has_no_module_of_that_name() -> None:
    vqgan = network()
    vqgan.up_blocks = torch.nn.Sequential(torch.nn.Identity())
    assert decoder_of(pipeline_of("StableCascadeCombinedPipeline", decoder=network(), vqgan=vqgan)) is vqgan.up_blocks


@pytest.mark.parametrize(
    ("build", "side"),
    [
        (build_sdxl, 8 * 4),
        (build_stable_diffusion, 8 * 4),
        (build_pixart, 8 * 4),
        (build_kandinsky, 512),  # what its call says
        (build_deepfloyd, 32),  # pixels: it has no autoencoder
    ],
)
def test_native_size_is_that_of_the_pipelines_own_call(build: Any, side: int) -> None:
    assert native_size(build()) == side


NATIVE = [
    (1024, {"name": "FluxPipeline", "transformer": network(), "vae": network(), "default_sample_size": 128}),
    (1024, {"name": "SanaPipeline", "transformer": network(sample_size=32), "vae": network(), "vae_scale_factor": 32}),
    # Its call says 1024 whatever the transformer's configuration holds.
    (1024, {"name": "AuraFlowPipeline", "call": of_1024, "transformer": network(sample_size=64), "vae": network()}),
    (512, {"name": "PRXPipeline", "transformer": network(), "vae": network(), "default_sample_size": 512}),
    (1024, {"name": "ErnieImagePipeline", "call": of_1024, "transformer": network(), "vae": network()}),
    (1024, {"name": "ZImagePipeline", "transformer": network(), "vae": network()}),
    (256, {"name": "UnCLIPPipeline", "decoder": network(sample_size=64), "super_res_last": network(sample_size=256)}),
    (0, {"name": "StableCascadeCombinedPipeline", "decoder": network(), "vqgan": network()}),
    (0, {"name": "Cosmos2TextToImagePipeline", "call": of_two_sides, "transformer": network(), "vae": network()}),
    # How many pixels a latent has is not known: nothing is claimed.
    (0, {"name": "New", "transformer": network(sample_size=16), "vae": network(), "vae_scale_factor": None}),
    (512, {"name": "New", "transformer": network(sample_size=(64, 64)), "vae": network()}),
]


@pytest.mark.parametrize(("side", "parts"), NATIVE)
def test_native_size_is_right_or_not_claimed(side: int, parts: dict[str, Any]) -> None:
    pipeline = pipeline_of(**{"vae_scale_factor": 8} | parts)
    assert native_size(pipeline) == side
