"""A loaded model called with other options makes the images, notes and stages of one that was loaded with them."""

from __future__ import annotations

import dataclasses
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import build_sdxl
from torch import nn
from zoo_pipelines import ENTRIES, save_pipeline

import models
from benchmark.settings.fields import settings_class
from models import diffusers_hub
from models.base import ImageGenerator, ModelFamily, Request, Runtime
from models.pipelines.cuda_graphs import GraphedCall
from models.pipelines.generator import DiffusersGenerator
from models.pipelines.reuse import LoadedPipeline

ASSETS = Path(__file__).resolve().parents[2] / "assets"
REQUESTS = [Request(0, "a pink robot", 3, 1), Request(1, "a blue cat with a round head", 4, 2)]
FAMILIES = {family.key: family for family in models.FAMILIES}
# The first options of each are those of the load.
CASES: dict[str, list[dict[str, Any]]] = {
    "sdxl": [
        {"steps": 2}, {"steps": 1, "guidance": 1.0}, {"steps": 3, "scheduler": "dpm++2m", "negative_prompt": "red"},
    ],
    "pixart": [
        {"steps": 2}, {"steps": 1, "guidance": 1.0}, {"steps": 3, "scheduler": "euler", "negative_prompt": "red"},
    ],
    "var": [
        {}, {"cfg": 4.0, "classes": "3,5", "top_p": 0.9}, {"cfg": 0.0, "top_k": 3, "more_smooth": True},
        {"official_rng": True},
    ],
    "infinity": [
        {}, {"cfg": 3.0, "tau": 1.0}, {"cfg": 1.0, "top_k": 1, "positive_prompt": True},
        {"insertion": -1, "negative_prompt": "red", "top_p": 0.9, "official_rng": True},
    ],
}  # fmt: skip


def make(generator: ImageGenerator) -> torch.Tensor:
    return generator.generate(generator.prepare(REQUESTS))


def check_same(found: ImageGenerator, expected: ImageGenerator) -> torch.Tensor:
    """Check that two generators cannot be told apart; return their images."""
    images, wanted = make(found), make(expected)
    assert torch.equal(images, wanted)
    assert (found.name, found.notes, found.stages()) == (expected.name, expected.notes, expected.stages())
    assert (found.parameters, found.image_size) == (expected.parameters, expected.image_size)
    return images


def check_options(family: ModelFamily, options: list[Any], runtime: Runtime) -> None:
    """Check each of the options after the first against a load of its own, in a chain, and the first ones again."""
    first = generator = family.load(options[0], runtime)
    images = [make(first)]
    for other in options[1:]:
        generator = generator.with_options(other)
        images.append(check_same(generator, family.load(other, runtime)))
    assert torch.equal(make(first), images[0]), "it stays as it was"
    assert torch.equal(make(generator.with_options(options[0])), images[0])
    for place, made in enumerate(images):
        assert not any(torch.equal(made, other) for other in images[:place]), "these options change nothing"


@pytest.mark.parametrize("name", CASES)
def test_other_options_give_what_a_load_with_them_gives(name: str, tmp_path: Path) -> None:
    settings = settings_class()(WEIGHTS="tiny", MODELS=name)  # type: ignore[call-arg]  # named by alias
    (model,) = settings.selected_models()
    options = [dataclasses.replace(model.options, **given) for given in CASES[name]]
    varied = {option for given in CASES[name] for option in given}
    assert varied | {"clip"} >= model.family.call_options >= varied
    check_options(model.family, options, Runtime("tiny", "cpu", "float32", 64, ASSETS, tmp_path))


# A scheduler that remembers steps, guidance by objects, guidance as an input of the network.
@pytest.mark.parametrize("name", ["StableDiffusionPipeline", "HunyuanImagePipeline", "FluxPipeline"])
def test_a_pipeline_of_the_hub_can_be_called_with_other_options(name: str, tmp_path: Path) -> None:
    folder, entry = save_pipeline(name, tmp_path / name), ENTRIES[name]
    own = {"id": str(folder), **entry.options}
    options = [diffusers_hub.Options(**own | given) for given in ({}, {"steps": 3, "guidance": 2.5}, {"steps": 4})]
    runtime = Runtime("pretrained", "cpu", "float32", entry.asked, tmp_path, tmp_path / "cache")
    check_options(diffusers_hub.FAMILY, options, runtime)


def test_what_is_an_argument_of_the_call_is_an_option_of_its_family_and_the_strength_of_a_lora_is_none() -> None:
    for family in models.FAMILIES:
        assert family.call_options <= {field.name for field in dataclasses.fields(family.options)}
    assert not {"lora", "lora_scale", "model"} & FAMILIES["pixart"].call_options
    assert not FAMILIES["hub"].shares_compiled


@pytest.mark.parametrize(("name", "words"), [
    ("sdxl", "SDXL_NEGATIVE_PROMPT reaches nothing"), ("pixart", "PIXART_NEGATIVE_PROMPT reaches nothing"),
])  # fmt: skip
def test_options_that_a_load_would_refuse_are_refused(name: str, words: str, tmp_path: Path) -> None:
    family = FAMILIES[name]
    generator = family.load(family.options(steps=1), Runtime("tiny", "cpu", "float32", 64, ASSETS, tmp_path))
    with pytest.raises(ValueError, match=words):
        generator.with_options(family.options(steps=1, guidance=1.0, negative_prompt="red"))


class Baked(GraphedCall):
    """A network whose graphs are known by their number; without a GPU. captures: those of all such networks."""

    captures = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.graphs:
            Baked.captures += 1
            self.graphs["all",] = (None, [], None)
        return self.function(*args, **kwargs)


def test_graphs_are_those_of_the_options_that_were_called_last(monkeypatch: pytest.MonkeyPatch) -> None:
    pools: list[object] = []

    def new_pool() -> object:
        pools.append(object())
        return pools[-1]

    def ask(pipeline: Any, steps: int) -> DiffusersGenerator:
        arguments = {"num_inference_steps": steps, "guidance_scale": 3.0, "height": 32, "width": 32}
        return DiffusersGenerator("x", pipeline, 32, arguments)

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", new_pool)
    pipeline = build_sdxl()
    loaded = LoadedPipeline(pipeline, ask)
    first = ask(pipeline, 1)
    first.loaded = loaded
    done = first.speed_up("eager", "cpu")
    unet: nn.Module = pipeline.unet
    call = Baked(unet.forward, None, frozenset())
    unet.forward = call
    done.graphed["UNet2DConditionModel"] = [call]
    make(first)
    make(first)
    assert (Baked.captures, pools) == (1, [])
    second = first.with_options(2)
    assert call.graphs, "nothing is dropped before it is called"
    make(second)
    assert (Baked.captures, call.pool) == (2, pools[0])
    make(second)
    assert Baked.captures == 2
    make(first)
    assert (Baked.captures, call.pool) == (3, pools[1]), "a pool that has lost its graphs is not used again"
    del second
    assert call.graphs
    del first
    gc.collect()
    assert not call.graphs, "they go with their generator"
