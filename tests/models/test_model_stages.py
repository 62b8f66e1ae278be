"""Which stages a diffusers pipeline has, and when each is entered and left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import (
    build_deepfloyd,
    build_kandinsky,
    build_pixart,
    build_sdxl,
    build_stable_diffusion,
    write_lora,
    write_pixart_split,
)

from models import diffusers_hub, pixart
from models.base import ImageGenerator, Request, Runtime, Stage, StageName
from models.pipelines.facts import PipelineFacts
from models.pipelines.generator import DiffusersGenerator

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]
TEXT: StageName = "text encoder"
BACKBONE: StageName = "backbone"
DECODER: StageName = "decoder"


class Edges:
    """Writes down what a watch is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def enter(self, stage: str) -> None:
        self.seen.append(stage)

    def leave(self, stage: str) -> None:
        assert self.seen[-1] == stage, "nothing of another stage runs inside"


def watched(generator: ImageGenerator) -> list[str]:
    """Return the stages in the order in which a call enters them, after a look at its images."""
    edges = Edges()
    plain = generator.generate(REQUESTS)
    with generator.watched(edges):
        assert torch.equal(generator.generate(REQUESTS), plain)
    assert torch.equal(generator.generate(REQUESTS), plain)
    return edges.seen


def runtime(folder: Path, **changes: Any) -> Runtime:
    return Runtime("pretrained", "cpu", "float32", 32, assets=folder / "assets", cache=folder / "cache", **changes)


@pytest.mark.parametrize(
    ("build", "encoders"),
    [(build_sdxl, 2), (build_pixart, 2), (build_stable_diffusion, 2)],
)
def test_any_pipeline_of_the_hub_is_watched(build: Any, encoders: int, tmp_path: Path) -> None:
    build().save_pretrained(tmp_path / "pipeline")
    options = diffusers_hub.Options(id=str(tmp_path / "pipeline"), steps=3, guidance=3.0)
    generator = diffusers_hub.FAMILY.load(options, runtime(tmp_path))
    assert generator.stages() == (Stage(TEXT), Stage(BACKBONE), Stage(DECODER, 1))
    assert watched(generator) == [TEXT] * encoders + [BACKBONE] * 3 + [DECODER]


def test_the_encoder_of_a_prior_is_a_text_encoder() -> None:
    generator = DiffusersGenerator("x", build_kandinsky(), 64, {"num_inference_steps": 2, "height": 64, "width": 64})
    seen = watched(generator)
    assert list(dict.fromkeys(seen)) == [TEXT, BACKBONE, DECODER]
    # The prior has 25 steps of its own; the UNet has the two that were asked for.
    assert (seen.count(BACKBONE), seen.count(DECODER)) == (25 + 2, 1)


def test_a_pipeline_of_pixels_has_no_decoder() -> None:
    generator = DiffusersGenerator("x", build_deepfloyd(), 32, {"num_inference_steps": 3, "clean_caption": False})
    assert generator.stages() == (Stage(TEXT), Stage(BACKBONE))
    assert watched(generator)[-3:] == [BACKBONE] * 3


def test_the_decoder_is_a_stage_though_its_dtype_changes_with_every_image() -> None:
    """In float16 such a VAE is not compiled, but its seconds are still the decoder's."""
    pipeline = build_sdxl(force_upcast=True)
    pipeline.vae.to(torch.float16)
    stages = DiffusersGenerator("x", pipeline, 32, {}).stages()
    assert [stage.name for stage in stages] == [TEXT, BACKBONE, DECODER]


def test_a_scheduler_of_higher_order_makes_the_calls_unknown() -> None:
    from diffusers import HeunDiscreteScheduler

    pipeline = build_sdxl()
    known = DiffusersGenerator("x", pipeline, 32, {"num_inference_steps": 3}, one_call_a_step=True)
    assert known.stages()[1] == Stage(BACKBONE, 3)
    pipeline.scheduler = HeunDiscreteScheduler.from_config(pipeline.scheduler.config)
    assert known.stages()[1] == Stage(BACKBONE)
    assert watched(known).count(BACKBONE) == 5


def test_requests_that_are_called_one_by_one_make_the_calls_unknown() -> None:
    arguments = {"num_inference_steps": 3}
    generator = DiffusersGenerator(
        "x", build_sdxl(), 32, arguments, one_call_a_step=True, facts=PipelineFacts(alone=True)
    )
    assert generator.stages() == (Stage(TEXT), Stage(BACKBONE), Stage(DECODER))
    assert watched(generator) == ([TEXT] * 2 + [BACKBONE] * 3 + [DECODER]) * len(REQUESTS)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_pixart_of_two_folders_with_a_lora_is_watched(guidance: float, tmp_path: Path) -> None:
    model, base = write_pixart_split(tmp_path)
    lora = write_lora(tmp_path / "lora", build_pixart().transformer)
    options = pixart.Options(model=str(model), base=str(base), steps=3, guidance=guidance, lora=str(lora))
    generator = pixart.FAMILY.load(options, runtime(tmp_path))
    assert generator.name == "PixArt+LoRA"
    assert generator.stages() == (Stage(TEXT), Stage(BACKBONE, 3), Stage(DECODER, 1))
    assert watched(generator) == [TEXT] * (2 if guidance > 1 else 1) + [BACKBONE] * 3 + [DECODER]
