"""Sides that a pipeline's networks cannot make are refused before loading, or its own are made and told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from zoo_entries import REQUESTS
from zoo_pipelines import ENTRIES
from zoo_promises import bytes_of, load


@pytest.mark.parametrize(
    ("name", "side"),
    [
        ("StableDiffusionPipeline", 36),
        ("WuerstchenCombinedPipeline", 144),
        ("IFPipeline", 37),
        ("AmusedPipeline", 40),
        ("OmniGenPipeline", 40),
        ("SanaPipeline", 48),
    ],
)
def test_side_that_networks_cannot_tile_is_refused(name: str, side: int, zoo_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match=f"IMAGE_SIZE={side}: {name} needs a multiple of"):
        load(dataclasses.replace(ENTRIES[name], asked=side), zoo_folder(name))


@pytest.mark.parametrize(
    ("name", "asked", "made"),
    [
        ("KandinskyV22CombinedPipeline", 70, 72),
        ("FluxPipeline", 37, 32),
        ("UnCLIPPipeline", 48, 32),
        ("UniDiffuserPipeline", 48, 32),
        ("VQDiffusionPipeline", 48, 32),
    ],
)
def test_side_that_a_pipeline_chooses_is_told(
    name: str, asked: int, made: int, zoo_folder: Callable[[str], Path]
) -> None:
    loaded = load(dataclasses.replace(ENTRIES[name], asked=asked), zoo_folder(name))
    images_BHWC = bytes_of(loaded.generate(REQUESTS[:1]))
    assert images_BHWC.shape == (1, made, made, 3)
    assert loaded.image_size == made
    assert any(note.startswith(f"makes {made} px images") for note in loaded.notes), loaded.notes
