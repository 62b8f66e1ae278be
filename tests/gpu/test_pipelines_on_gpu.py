"""Tiny pipelines of the hub on a GPU: compiled and in CUDA graphs they make the images of the plain ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from zoo_pipelines import ENTRIES, save_pipeline

from models import diffusers_hub
from models.base import Mode, Request, Runtime
from models.pipelines.rehearsal import READS, VARIES

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
PROMPTS = ("a pink robot", "a blue cat in a forest", "a tree", "a round head with a robot and a cat in a painting")
# The backbone of each, how many of its blocks are compiled, and why it is not in CUDA graphs.
CASES = {
    "FluxPipeline": ("FluxTransformer2DModel", 2, ""),
    "StableDiffusion3Pipeline": ("SD3Transformer2DModel", 2, ""),
    "SanaPipeline": ("SanaTransformer2DModel", 2, ""),
    "StableDiffusionXLPipeline": ("UNet2DConditionModel", 12, ""),
    "QwenImagePipeline": ("QwenImageTransformer2DModel", 2, VARIES),
    "ZImagePipeline": ("ZImageTransformer2DModel", 4, VARIES),
    "Lumina2Pipeline": ("Lumina2Transformer2DModel", 3, READS),
}


@pytest.fixture(autouse=True)
def _full_float32() -> Any:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch._dynamo.reset()


def load(folder: Path, mode: Mode, options: Any) -> Any:
    runtime = Runtime("pretrained", "cuda", "float32", 32, assets=folder, cache=folder.parent / "cache", mode=mode)
    return diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), **options), runtime)


@pytest.mark.parametrize("name", CASES)
def test_compiled_pipelines_make_the_images_of_the_plain_ones(name: str, tmp_path: Path) -> None:
    backbone, blocks, reason = CASES[name]
    folder = save_pipeline(name, tmp_path / name)
    plain, compiled = (load(folder, mode, ENTRIES[name].options) for mode in ("eager", "compiled"))
    assert any(f"{blocks} blocks of {backbone}" in note for note in compiled.notes), compiled.notes
    assert compiled.sped_up.plain.get(backbone, "") == reason
    for index, prompt in enumerate(PROMPTS):
        asked = [Request(index, prompt, index)]
        difference = (plain.generate(asked).int() - compiled.generate(asked).int()).abs()
        assert difference.max() <= 2, f"{prompt}: {difference.max()} of 255"
    # One for both halves of guidance, or one each; none for a prompt, a step or an image.
    assert compiled.sped_up.graphs.get(backbone, 0) in ((0,) if reason else (1, 2))
    plain_calls = [call.plain_calls for calls in compiled.sped_up.graphed.values() for call in calls]
    assert sum(plain_calls) == 0


@pytest.mark.parametrize("name", ["VQDiffusionPipeline", "AmusedPipeline", "KandinskyCombinedPipeline"])
def test_a_pipeline_that_draws_its_noise_on_the_device_gets_a_generator_there(name: str, tmp_path: Path) -> None:
    entry = ENTRIES[name]
    generator = load(save_pipeline(name, tmp_path / name), "eager", entry.options)
    first, again = (generator.generate([Request(0, PROMPTS[0], 5)]) for _ in range(2))
    assert first.device.type == "cuda"
    assert torch.equal(first, again)
    assert not torch.equal(first, generator.generate([Request(0, PROMPTS[0], 6)]))
