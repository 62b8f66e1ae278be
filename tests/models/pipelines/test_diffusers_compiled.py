"""Speeding a pipeline up leaves its images as they were; strategies are read and refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from diffusers_folders import build_pixart, build_sdxl, write_sdxl

from models import sdxl
from models.base import Request, Runtime
from models.pipelines.compiled import FamilyModifier, SpedUp, Strategy, speed_up
from models.pipelines.generator import DiffusersGenerator
from models.pipelines.repeated_blocks import repeated_blocks
from models.pixart_conditions import MODIFIERS

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]
CALL: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0, "height": 32, "width": 32}
PIXART_CALL = CALL | {"use_resolution_binning": False, "clean_caption": False, "max_sequence_length": 40}
SDXL_STRATEGIES = ("full+fuse+nhwc", "regional+text", "eager+fuse")
PIXART_STRATEGIES = ("full+fuse+empty", "regional+empty", "eager+nhwc", "full+fuse+empty+once", "eager+once")


@pytest.fixture(autouse=True)
def _forget_compiled_code() -> Any:
    yield
    torch._dynamo.reset()


def check(build: Any, arguments: dict[str, Any], strategy: str, modifiers: Mapping[str, FamilyModifier]) -> None:
    expected = DiffusersGenerator("x", build(), 32, arguments).generate(REQUESTS).int()
    generator = DiffusersGenerator("x", build(), 32, arguments, modifiers=modifiers)
    # Traced as for inductor, without graph breaks, and run by torch itself: no compiler is needed here.
    generator.speed_up(strategy, "cpu", backend="eager")
    for _ in range(2):
        assert (generator.generate(REQUESTS).int() - expected).abs().max() <= 1


@pytest.mark.parametrize("strategy", SDXL_STRATEGIES)
def test_sdxl_images_stay_the_same(strategy: str) -> None:
    check(build_sdxl, CALL, strategy, {})


@pytest.mark.parametrize("strategy", PIXART_STRATEGIES)
def test_pixart_images_stay_the_same(strategy: str) -> None:
    check(build_pixart, PIXART_CALL, strategy, MODIFIERS)


def test_empty_prompt_is_encoded_once() -> None:
    generator = DiffusersGenerator("x", build_pixart(), 32, PIXART_CALL, modifiers=MODIFIERS)
    generator.speed_up("eager+empty", "cpu")
    calls = []
    generator.pipeline.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    for _ in range(3):
        generator.generate(REQUESTS)
    assert len(calls) == 4


@pytest.mark.parametrize("text", ["fast", "full+faster", ""])
def test_unknown_strategies_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="is none of"):
        Strategy.parse(text)


def test_a_familys_modifiers_are_known_to_that_family_alone() -> None:
    assert Strategy.parse("full+once", MODIFIERS).modifiers == {"once"}
    with pytest.raises(ValueError, match="once is none of"):
        DiffusersGenerator("x", build_sdxl(), 32, CALL).speed_up("full+once", "cpu")


@pytest.mark.parametrize(("name", "words"), [("empty", "does not encode its empty prompt"), ("once", "has no part")])
def test_another_pipeline_than_the_familys_is_refused(name: str, words: str) -> None:
    pipeline = build_sdxl()
    pipeline.transformer = pipeline.unet
    with pytest.raises(ValueError, match=words):
        MODIFIERS[name].apply(pipeline)


def test_compiled_run_counts_and_notes_what_it_loaded(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path)
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=tmp_path, cache=tmp_path, mode="compiled")
    compiled = sdxl.FAMILY.load(sdxl.Options(model=str(folder)), runtime)
    eager = sdxl.FAMILY.load(sdxl.Options(model=str(folder)), dataclasses.replace(runtime, mode="eager"))
    assert compiled.parameters == eager.parameters
    assert compiled.notes == (*eager.notes, f"compiled: {sdxl.FASTEST}")


class Backbone(torch.nn.Module):
    """A network of diffusers' kind around one block, if any."""

    _repeated_blocks: ClassVar[list[str]] = []

    def __init__(self, *blocks: torch.nn.Module) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class BreakingBlock(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        answer: torch.Tensor = self.part(x)
        return answer


def pipeline_around(backbone: torch.nn.Module) -> Any:
    return SimpleNamespace(transformer=backbone, components={"transformer": backbone})


def test_a_network_without_blocks_is_refused_before_it_is_asked_for_images() -> None:
    with pytest.raises(ValueError, match=r"^nothing in Backbone can be compiled by regional: set MODE=eager$"):
        speed_up(pipeline_around(Backbone()), Strategy.parse("regional"), "cpu")


@pytest.mark.parametrize("strategy", ["regional", "full"])
def test_what_the_compiler_refuses_is_told_in_one_line(strategy: str) -> None:
    backbone = Backbone(BreakingBlock())
    done = speed_up(pipeline_around(backbone), Strategy.parse(strategy), "cpu", backend="eager")
    assert done.modules == {"Backbone": 1}
    with pytest.raises(ValueError, match=r"^Backbone cannot be compiled \(.*\): set MODE=eager$") as caught:
        backbone(torch.ones(2))
    assert "\n" not in str(caught.value)


def test_networks_that_have_no_graphs_are_told_by_reason() -> None:
    done = SpedUp("regional", {"A": 1, "B": 57}, plain={"A": "it varies", "B": "it reads", "C": "it varies"})
    expected = "compiled: regional, 1 block of A, 57 blocks of B; no CUDA graphs of A, C: it varies"
    assert done.note("regional") == f"{expected}; no CUDA graphs of B: it reads"


def test_blocks_that_diffusers_lists_are_those_that_lists_of_modules_hold() -> None:
    from diffusers import FluxTransformer2DModel

    small = {"num_layers": 2, "num_single_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2}
    with torch.device("meta"):
        network = FluxTransformer2DModel(**small, joint_attention_dim=8, pooled_projection_dim=8)
    listed = repeated_blocks(network)
    assert len(listed) == 5
    network._repeated_blocks = []
    assert repeated_blocks(network) == listed


@pytest.mark.parametrize(("device", "current"), [("cuda:1", [1]), ("cuda", [])])
def test_graphs_are_captured_on_the_device_that_was_asked_for(
    device: str, current: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A capture records the streams of the current device alone."""
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    speed_up(build_sdxl(), Strategy("eager"), device)
    assert chosen == current
