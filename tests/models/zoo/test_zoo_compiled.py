"""MODE=compiled compiles the blocks of each pipeline for real, counts them, and makes the images of MODE=eager."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from zoo_pipelines import ENTRIES, ZOO

from models.base import Request
from models.diffusers_hub import FASTEST
from models.pipelines.generator import DiffusersGenerator
from models.pipelines.networks import backbones_of

# Of three lengths, each of which would be a shape of its own.
PROMPTS = (
    "a robot",
    "a pink robot in a painting",
    "a pink robot in a painting with a tree and a forest and a blue cat",
)
# By the network's class: how many blocks of the tiny pipeline are compiled.
BLOCKS: dict[str, dict[str, int]] = {
    "FluxPipeline": {"FluxTransformer2DModel": 2},
    "StableDiffusion3Pipeline": {"SD3Transformer2DModel": 2},
    "SanaPipeline": {"SanaTransformer2DModel": 2},
    "QwenImagePipeline": {"QwenImageTransformer2DModel": 2},
    "ZImagePipeline": {"ZImageTransformer2DModel": 4},
    "Flux2KleinPipeline": {"Flux2Transformer2DModel": 2},
    "Lumina2Pipeline": {"Lumina2Transformer2DModel": 3},
    "CogView4Pipeline": {"CogView4Transformer2DModel": 2},
    "HunyuanDiTPipeline": {"HunyuanDiT2DModel": 2},
    "ChromaPipeline": {"ChromaTransformer2DModel": 2},
    "AuraFlowPipeline": {"AuraFlowTransformer2DModel": 2},
    "StableDiffusionXLPipeline": {"UNet2DConditionModel": 12, "Decoder": 8},
    "StableDiffusionPipeline": {"UNet2DConditionModel": 12, "Decoder": 8},
    "PixArtSigmaPipeline": {"PixArtTransformer2DModel": 2, "Decoder": 8},
    "Ideogram4Pipeline": {"Ideogram4Transformer2DModel": 2},
    "KandinskyV22CombinedPipeline": {"PriorTransformer": 1, "UNet2DConditionModel": 10},
    "StableCascadeCombinedPipeline": {"StableCascadeUNet": 20},
}
# What their blocks get is as long as the prompt.
OF_LENGTHS = ("QwenImagePipeline", "ZImagePipeline", "Lumina2Pipeline", "CogView4Pipeline")


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Iterator[None]:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    logging.disable(logging.DEBUG)  # the compiler's traces are long, and pytest would keep them
    yield
    logging.disable(logging.NOTSET)
    torch._dynamo.reset()


def generator_of(name: str) -> Any:
    prior = {"prior_num_inference_steps": 2} if "Combined" in name else {}
    return DiffusersGenerator(name, ZOO[name](), 32, {**ENTRIES[name].call, **prior})


@pytest.mark.parametrize("name", BLOCKS)
def test_compiled_blocks_are_counted_and_make_the_images_of_plain_ones(name: str) -> None:
    plain, compiled = generator_of(name), generator_of(name)
    # Traced as for inductor, without graph breaks, and run by torch itself: no compiler is needed here.
    done = compiled.speed_up(FASTEST, "cpu", backend="eager")
    assert done.modules.items() >= BLOCKS[name].items()
    told = done.note(FASTEST)
    for network, count in BLOCKS[name].items():
        assert f"{count} block{'s' * (count > 1)} of {network}" in told
    is_compiled = [
        module
        for network in backbones_of(compiled.pipeline)
        for module in network.modules()
        if module._compiled_call_impl is not None
    ]
    assert len(is_compiled) == sum(count for network, count in done.modules.items() if "Decoder" not in network)
    graphs = []
    for prompt in PROMPTS if name in OF_LENGTHS else PROMPTS[:1]:
        asked = [Request(0, prompt, 0)]
        difference = (plain.generate(asked).int() - compiled.generate(asked).int()).abs()
        assert difference.max() <= 1, prompt
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs[0] > 0
    if name in OF_LENGTHS:
        assert graphs[2] == graphs[1], "a third prompt's length compiles nothing anew"
