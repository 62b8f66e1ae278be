"""Pipelines of the zoo in other forms, and asked for other things, than its entries ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from zoo_entries import REQUESTS, Entry, usual
from zoo_pipelines import ENTRIES
from zoo_promises import bytes_of, load, own_images
from zoo_qwen import hunyuan_image
from zoo_qwen3 import flux2_klein

SIZE = {"height": 32, "width": 32}


@dataclass(frozen=True)
class Variation:
    """What the benchmark is asked of a pipeline, and the call of its own that this has to come to.

    name: the class, whose folder is the zoo's. build: makes another form of it.
    """

    name: str
    options: Mapping[str, object]
    call: Mapping[str, object]
    build: Callable[[], Any] | None = None


def guided(name: str, **more: object) -> Variation:
    """Return a variation with a negative prompt, and `more` of the class's own arguments."""
    options = {"steps": 2, "guidance": 3.0, "negative_prompt": "a blue tree"}
    return Variation(name, options, usual(guidance=3.0, negative_prompt=["a blue tree"] * 2, **more))


VARIATIONS = {
    "Qwen-Image is guided unasked": Variation(
        "QwenImagePipeline",
        {"steps": 2},
        {**SIZE, "num_inference_steps": 2, "negative_prompt": " "},
    ),
    "distilled HunyuanImage is guided by an input of its network": Variation(
        "HunyuanImagePipeline",
        {"steps": 2, "guidance": 7.0},
        {**SIZE, "num_inference_steps": 2, "distilled_guidance_scale": 7.0},
        lambda: hunyuan_image(is_distilled=True),
    ),
    "distilled Klein is not guided": Variation(
        "Flux2KleinPipeline",
        {"steps": 2},
        {**SIZE, "num_inference_steps": 2},
        lambda: flux2_klein("Flux2KleinPipeline", is_distilled=True),
    ),
    "Sana without its instruction": Variation(
        "SanaPipeline",
        {"steps": 2, "guidance": 5.0, "args": '{"complex_human_instruction": null}'},
        usual(use_resolution_binning=False, complex_human_instruction=None),
    ),
    "Sana Sprint in three steps": Variation(
        "SanaSprintPipeline",
        {"steps": 3, "guidance": 5.0},
        usual(steps=3, use_resolution_binning=False, intermediate_timesteps=None),
    ),
    "Ideogram 4 in its own schedule of guidance": Variation(
        "Ideogram4Pipeline",
        {"steps": 4, "args": '{"max_sequence_length": 256}'},
        {**SIZE, "num_inference_steps": 4, "guidance_schedule": (7.0,) * 3 + (3.0,), "max_sequence_length": 256},
    ),
    "Z-Image with a shorter prompt": Variation(
        "ZImagePipeline",
        {"steps": 2, "guidance": 5.0, "args": '{"max_sequence_length": 32}'},
        usual(max_sequence_length=32),
    ),
    "ERNIE with a negative prompt": guided("ErnieImagePipeline", use_pe=False),
    "Kolors with a negative prompt": guided("KolorsPipeline"),
    "Ovis with a negative prompt": guided("OvisImagePipeline"),
    "Nucleus with a negative prompt": guided("NucleusMoEImagePipeline"),
}


def entry_of(variation: Variation) -> Entry:
    return replace(ENTRIES[variation.name], options=variation.options, call=variation.call)


@pytest.mark.parametrize("variation", VARIATIONS.values(), ids=list(VARIATIONS))
def test_what_is_asked_is_what_the_pipeline_is_called_with(
    variation: Variation, zoo_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    entry, folder = entry_of(variation), tmp_path / variation.name
    if variation.build is None:
        folder = zoo_folder(variation.name)
    else:
        variation.build().save_pretrained(folder)
    images_BHWC = bytes_of(load(entry, folder).generate(REQUESTS))
    np.testing.assert_array_equal(images_BHWC, own_images(entry, folder))


def test_distilled_klein_tells_that_guidance_does_not_reach_it(tmp_path: Path) -> None:
    flux2_klein("Flux2KleinPipeline", is_distilled=True).save_pretrained(folder := tmp_path / "klein")
    loaded = load(ENTRIES["Flux2KleinPipeline"], folder)
    assert any("guidance does not reach it" in note.lower().replace("hub_", "") for note in loaded.notes), loaded.notes


def test_hunyuan_image_tells_the_scale_of_the_guider_that_it_really_has(zoo_folder: Callable[[str], Path]) -> None:
    name = "HunyuanImagePipeline"
    loaded = load(ENTRIES[name], zoo_folder(name), guidance=4.5)
    assert "guider.guidance_scale 4.5" in loaded.notes
    assert not any("distilled_guidance_scale" in note for note in loaded.notes), loaded.notes
