"""Speeding a pipeline up leaves its images as they were; strategies are read and refused by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import build_pixart, build_sdxl, write_sdxl

from models import sdxl
from models.base import Request, Runtime
from models.diffusers_compiled import FamilyModifier, Strategy
from models.diffusers_pipeline import DiffusersGenerator
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
