"""Negative prompts, other schedulers and few-step models, for SDXL and PixArt alike."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from diffusers_folders import build_pixart, build_sdxl
from torch import Tensor

from models import pixart, sdxl
from models.base import ImageGenerator, Request, Runtime

REQUESTS = [Request(seed, prompt, seed) for seed, prompt in enumerate(("a pink robot", "a blue cat", "tree", "a"))]
FAMILIES: dict[str, ModuleType] = {"SDXL": sdxl, "PIXART": pixart}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for name, build in (("SDXL", build_sdxl), ("PIXART", build_pixart)):
        made[name] = tmp_path_factory.mktemp(name)
        build().save_pretrained(made[name])
    return made


def load(folders: dict[str, Path], family: str, **options: Any) -> ImageGenerator:
    asked = FAMILIES[family].Options(**{"model": str(folders[family]), "steps": 3, **options})
    runtime = Runtime("pretrained", "cpu", "float32", 32, assets=folders[family], cache=folders[family])
    loaded: ImageGenerator = FAMILIES[family].FAMILY.load(asked, runtime)
    return loaded


def images(folders: dict[str, Path], family: str, **options: Any) -> Tensor:
    return load(folders, family, **options).generate(REQUESTS).int()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_negative_prompt_is_what_the_pipeline_is_guided_away_from(folders: dict[str, Path], family: str) -> None:
    plain = load(folders, family)
    away = images(folders, family, negative_prompt="a forest")
    assert not torch.equal(away, plain.generate(REQUESTS).int())
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS]
    prompts = [request.prompt for request in REQUESTS]
    stock = plain.pipeline(prompts, generator=generators, negative_prompt=["a forest"] * 4, output_type="pt",
                           **plain.arguments).images  # fmt: skip
    assert ((stock * 255).round().int() - away).abs().max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("guidance", [0, 1])
def test_a_negative_prompt_that_reaches_nothing_is_refused_before_loading(family: str, guidance: float) -> None:
    module = FAMILIES[family]
    asked = module.Options(model="./nowhere", negative_prompt="a forest", guidance=guidance)
    runtime = Runtime("random", "cpu", "float32", 32, assets=Path(), cache=Path())
    for refuse in (module.FAMILY.check, module.FAMILY.load):
        with pytest.raises(
            ValueError, match=f"{family}_NEGATIVE_PROMPT reaches nothing with {family}_GUIDANCE="
        ) as caught:
            refuse(asked, runtime)
        assert "\n" not in str(caught.value)


def test_a_negative_prompt_is_refused_where_guidance_is_a_number_that_the_network_reads(tmp_path: Path) -> None:
    pipeline = build_sdxl()
    config = {**pipeline.unet.config, "time_cond_proj_dim": 8, "_use_default_values": []}
    pipeline.register_modules(unet=type(pipeline.unet).from_config(config))
    pipeline.save_pretrained(tmp_path)
    load({"SDXL": tmp_path}, "SDXL").generate(REQUESTS[:1])
    with pytest.raises(ValueError, match="SDXL_NEGATIVE_PROMPT reaches nothing: this UNet takes guidance as a number"):
        load({"SDXL": tmp_path}, "SDXL", negative_prompt="a forest")


@pytest.mark.parametrize("family", FAMILIES)
def test_four_steps_without_guidance_at_trailing_timesteps_are_the_pipelines_own(
    folders: dict[str, Path], family: str
) -> None:
    from diffusers import EulerDiscreteScheduler

    few = load(folders, family, steps=4, guidance=0, scheduler="euler-trailing")
    assert few.arguments["guidance_scale"] == 0
    calls: list[int] = []
    backbone = few.pipeline.unet if family == "SDXL" else few.pipeline.transformer
    backbone.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].shape[0]))
    made = few.generate(REQUESTS[:2]).int()
    assert calls == [2, 2, 2, 2], "without guidance a step has one row for each image"
    stock = load(folders, family).pipeline
    stock.scheduler = EulerDiscreteScheduler.from_config(stock.scheduler.config, timestep_spacing="trailing")
    generators = [torch.Generator("cpu").manual_seed(request.seed) for request in REQUESTS[:2]]
    prompts = [request.prompt for request in REQUESTS[:2]]
    expected = stock(prompts, generator=generators, output_type="pt", **few.arguments).images
    assert ((expected * 255).round().int() - made).abs().max() <= 1


@pytest.mark.parametrize("scheduler", ["euler-a", "dpm++2m-sde", "lcm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_noise_that_a_scheduler_adds_belongs_to_the_request(
    folders: dict[str, Path], family: str, scheduler: str
) -> None:
    loaded = load(folders, family, scheduler=scheduler)
    whole = loaded.generate(REQUESTS).int()
    alone = torch.cat([loaded.generate([request]) for request in REQUESTS]).int()
    assert (whole - alone).abs().max() <= 1
    assert not torch.equal(whole, images(folders, family))


def test_folders_of_fine_tuned_images_know_their_settings_from_before_these_options() -> None:
    before = "Options(model='m', base='b', steps=20, guidance=4.5, lora='', lora_scale=1.0)"
    assert str(pixart.Options(model="m", base="b")) == before
    assert str(pixart.Options(model="m", base="b", scheduler="heun")) == before.replace(
        "guidance=4.5, ", "guidance=4.5, scheduler='heun', "
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_no_option_leaves_images_and_scheduler_as_they_are(folders: dict[str, Path], family: str) -> None:
    loaded = load(folders, family)
    assert "negative_prompt" not in loaded.arguments
    assert type(loaded.pipeline.scheduler).__name__ == (
        "EulerDiscreteScheduler" if family == "SDXL" else "DPMSolverMultistepScheduler"
    )
