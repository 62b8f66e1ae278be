"""A negative prompt reaches the pipelines of the zoo that take one, as each takes it; for the others it is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from zoo_entries import REQUESTS
from zoo_pipelines import ENTRIES
from zoo_promises import bytes_of, load, own_images, remembered_images

NEGATIVE = "round head"
# One of each way in which classes take it: beside CLIP, T5, BERT and language models, through a prior, token by token.
TAKE_IT = [
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "ChromaPipeline",
    "AuraFlowPipeline",
    "PixArtSigmaPipeline",
    "HunyuanDiTPipeline",
    "CogView3PlusPipeline",
    "KandinskyCombinedPipeline",
    "KandinskyV22CombinedPipeline",
    "Kandinsky3Pipeline",
    "StableCascadeCombinedPipeline",
    "WuerstchenCombinedPipeline",
    "StableUnCLIPPipeline",
    "IFPipeline",
    "AmusedPipeline",
    "SanaPipeline",
    "Lumina2Pipeline",
]


@pytest.mark.parametrize("name", TAKE_IT)
def test_images_are_those_of_the_pipelines_own_negative_prompt(name: str, zoo_folder: Callable[[str], Path]) -> None:
    entry, folder = ENTRIES[name], zoo_folder(name)
    images_BHWC = bytes_of(load(entry, folder, negative_prompt=NEGATIVE).generate(REQUESTS))
    # The priors of Kandinsky 2 draw noise for negative prompts too, of a list of generators that is too short.
    one_at_a_time = entry.one_at_a_time or name in ("KandinskyCombinedPipeline", "KandinskyV22CombinedPipeline")
    call = {**entry.call, "negative_prompt": NEGATIVE if one_at_a_time else [NEGATIVE] * len(REQUESTS)}
    expected = own_images(dataclasses.replace(entry, call=call, one_at_a_time=one_at_a_time), folder)
    np.testing.assert_array_equal(images_BHWC, expected)
    assert (images_BHWC != remembered_images(entry, folder)).any()


@pytest.mark.parametrize(
    "name",
    # UniDiffuser encodes it and guides by noise; FLUX needs another guidance than the distilled one.
    ["LatentConsistencyModelPipeline", "UnCLIPPipeline", "UniDiffuserPipeline", "FluxPipeline"],
)
def test_negative_prompt_that_reaches_nothing_is_told(name: str, zoo_folder: Callable[[str], Path]) -> None:
    entry, folder = ENTRIES[name], zoo_folder(name)
    loaded = load(entry, folder, negative_prompt=NEGATIVE)
    np.testing.assert_array_equal(bytes_of(loaded.generate(REQUESTS)), remembered_images(entry, folder))
    assert any("HUB_NEGATIVE_PROMPT does not reach it" in note for note in loaded.notes), loaded.notes
