"""The registry: its order, its lightness, and that a model is one entry."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from models import FAMILIES
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option


def test_columns_stand_in_their_order() -> None:
    assert [family.key for family in FAMILIES] == ["sdxl", "var", "pixart", "infinity", "hub"]


def test_registry_imports_no_heavy_library() -> None:
    heavy = "('torch', 'diffusers', 'transformers', 'numpy', 'PIL')"
    code = f"import models, sys; print([name for name in {heavy} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.key)
def test_options_are_frozen_and_explained(family: ModelFamily) -> None:
    options = family.options()
    assert family.options.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for field in dataclasses.fields(family.options):
        assert field.metadata["help"]
    family.options(**family.tiny_options)
    assert family.title(options)


@pytest.mark.parametrize("weights", ["pretrained", "random", "tiny"])
def test_every_family_says_where_its_weights_come_from(weights: Any, tmp_path: Path) -> None:
    runtime = Runtime(weights, "cpu", "float32", 512, assets=tmp_path, cache=tmp_path)
    for family in FAMILIES:
        assert "\n" not in family.source(family.options(), runtime)


def test_a_fourth_model_is_one_entry(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        shade: int = option(7, "grey value")

    class Grey(ImageGenerator):
        name, image_size, parameters, notes = "Grey", 8, 1, ()

        def __init__(self, shade: int) -> None:
            self.shade = shade

        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            return torch.full((len(requests), 3, 8, 8), self.shade, dtype=torch.uint8)

    entry = ModelFamily("grey", Options, lambda _: "Grey", lambda *_: "nothing", lambda options, _: Grey(options.shade))
    families = (*FAMILIES, entry)
    chosen = [family for family in families if family.selected_by("grey") is not None]
    assert chosen == [entry]
    generator = entry.load(Options(shade=9), Runtime("tiny", "cpu", "float32", 8, assets=tmp_path, cache=tmp_path))
    requests = generator.prepare([Request(0, "a", 0)])
    assert generator.generate(requests).unique().tolist() == [9]
