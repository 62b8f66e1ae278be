"""Two short calls tell which networks of a pipeline cannot be CUDA graphs, and why. Tensors are on the CPU here."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from diffusers_folders import build_pixart, build_sdxl

from models.base import Request
from models.pipelines.generator import DiffusersGenerator
from models.pipelines.rehearsal import CHANGES, HOLDS, LOOKS, OTHER, VARIES, rehearse

STEPS = 30


class Block(torch.nn.Module):
    """Takes what its network gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.part = torch.nn.Identity()

    def forward(self, **_: Any) -> None: ...


class Backbone(torch.nn.Module):
    """Counts how often it is called, and hands its block what it is given, without the padding (zeros)."""

    _repeated_blocks: ClassVar[list[str]] = []

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.blocks = torch.nn.ModuleList([Block()])

    def forward(self, padded: torch.Tensor | None = None, **inputs: Any) -> None:
        self.calls += 1
        kept = {} if padded is None else {"kept": padded[padded > 0]}
        self.blocks[0](**kept, **inputs)


Backbone.__module__ = "diffusers.models"


class Pipeline:
    """Calls its transformer at every step with what `inputs` gives for a prompt and a step."""

    def __init__(self, inputs: Any) -> None:
        self.transformer, self.inputs = Backbone(), inputs
        self.components: dict[str, torch.nn.Module] = {}
        self.finished = False

    def generate(self, requests: Sequence[Request]) -> None:
        for step in range(STEPS):
            self.transformer(**self.inputs(requests[0].prompt, step))
        self.finished = True


def steady(_prompt: str, step: int) -> dict[str, Any]:
    return {"x": torch.zeros(4), "time": torch.tensor(step), "guidance": 3.5}


def with_and_without_prompt(_prompt: str, step: int) -> dict[str, Any]:
    return {"text": torch.zeros(7 if step % 2 else 5)}


def of_the_prompts_length(prompt: str, _step: int) -> dict[str, Any]:
    return {"texts": [torch.zeros(len(prompt))]}


def of_padded_length(prompt: str, _step: int) -> dict[str, Any]:
    return {"padded": (torch.arange(200) < len(prompt)).int()}


def of_a_number(_prompt: str, step: int) -> dict[str, Any]:
    return {"time": step / STEPS}


def of_a_cache(_prompt: str, _step: int) -> dict[str, Any]:
    return {"cache": SimpleNamespace()}


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (steady, ""),
        (with_and_without_prompt, ""),
        (of_the_prompts_length, VARIES),
        (of_a_number, CHANGES),
        (of_a_cache, HOLDS),
    ],
)
def test_what_changes_between_calls_is_the_reason(inputs: Any, reason: str) -> None:
    pipeline = Pipeline(inputs)
    found = rehearse(pipeline, pipeline.generate, "cpu")
    assert found.plain == ({pipeline.transformer: reason} if reason else {})
    assert found.varying == ([pipeline.transformer] if reason == VARIES else [])


def test_sizes_that_change_inside_of_a_network_are_seen() -> None:
    pipeline = Pipeline(of_padded_length)
    found = rehearse(pipeline, pipeline.generate, "cpu")
    assert (found.plain, found.varying) == ({}, [pipeline.transformer])


def test_a_rehearsal_is_broken_off_after_a_few_steps_and_leaves_no_hooks() -> None:
    pipeline = Pipeline(steady)
    rehearse(pipeline, pipeline.generate, "cpu")
    assert not pipeline.finished
    assert pipeline.transformer.calls == 2 * 4
    pipeline.generate([Request(0, "a", 0)])
    assert pipeline.transformer.calls == 2 * 4 + STEPS


def test_errors_of_the_pipeline_are_not_swallowed() -> None:
    def inputs(_prompt: str, _step: int) -> dict[str, Any]:
        raise RuntimeError("out of memory")

    pipeline = Pipeline(inputs)
    with pytest.raises(RuntimeError, match="out of memory"):
        rehearse(pipeline, pipeline.generate, "cpu")


def test_networks_of_other_libraries_and_pipelines_that_look_inside_have_no_graphs() -> None:
    pipeline = Pipeline(steady)
    pipeline.prior = torch.nn.Linear(1, 1)  # type: ignore[attr-defined]
    pipeline.components = {"text_encoder": torch.nn.Linear(1, 1)}
    pipeline.text_encoder = pipeline.components["text_encoder"]  # type: ignore[attr-defined]
    found = rehearse(pipeline, pipeline.generate, "cpu").plain
    assert found == {pipeline.prior: OTHER, pipeline.text_encoder: OTHER}  # type: ignore[attr-defined]
    looking = type("StableDiffusionSAGPipeline", (Pipeline,), {})(steady)
    assert rehearse(looking, looking.generate, "cpu").plain == {looking.transformer: LOOKS}


@pytest.mark.parametrize(("build", "more"), [(build_sdxl, {}), (build_pixart, {"use_resolution_binning": False})])
def test_pipelines_that_pad_their_prompts_are_graphs_whole(build: Any, more: dict[str, Any]) -> None:
    arguments = {"num_inference_steps": 2, "height": 32, "width": 32, **more}
    generator = DiffusersGenerator("x", build(), 32, arguments)
    found = rehearse(generator.pipeline, generator.generate, "cpu")
    assert (found.plain, found.varying) == ({}, [])
