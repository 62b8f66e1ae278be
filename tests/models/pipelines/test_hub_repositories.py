"""Pipelines of the hub load from the files that they say they need, and from nothing else."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers_folders import build_kandinsky, build_sdxl
from single_file_layouts import build_file_sdxl, write_file

from files.downloads import HubFiles
from models import diffusers_hub, sdxl
from models.base import ImageGenerator, Request, Runtime
from models.pipelines import sources as pipeline_sources

REQUEST = Request(0, "a pink robot", 0)


class Hub:
    """A hub that lists repositories, and a cache into which what is asked of it is put by `download`."""

    def __init__(self, cache: Path) -> None:
        self.cache = cache
        self.published: dict[tuple[str, str], Path] = {}

    def list_files(self, repository: str, revision: str = "") -> Mapping[str, int]:
        folder = self.published[repository, revision]
        return {path.relative_to(folder).as_posix(): 1 for path in folder.rglob("*") if path.is_file()}

    def publish(self, repository: str, folder: Path, revision: str = "") -> None:
        """List a repository, and put its index into the cache, as after the first look at it."""
        self.published[repository, revision] = folder
        self.put(repository, revision, ["model_index.json"])

    def put(self, repository: str, revision: str, names: list[str]) -> None:
        place = self.cache / f"models--{repository.replace('/', '--')}"
        commit = f"{sum(revision.encode()):040x}"
        (place / "refs").mkdir(parents=True, exist_ok=True)
        (place / "refs" / (revision or "main")).write_text(commit)
        for name in names:
            target = place / "snapshots" / commit / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.published[repository, revision] / name, target)

    def download(self, needs: Any) -> list[str]:
        """Put into the cache what is needed, and return the names of the weights among it."""
        weights = []
        for need in needs:
            assert isinstance(need, HubFiles)
            self.put(need.repository, need.revision, list(need.patterns))
            assert need.here()
            weights += [name for name in need.patterns if name.endswith((".safetensors", ".bin"))]
        return weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub(tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(found.cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nothing answers there
    for name in ("OFFLINE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pipeline_sources, "list_files", found.list_files)
    return found


def runtime(**changes: Any) -> Runtime:
    whole = Runtime("pretrained", "cpu", "float32", 32, assets=Path("assets"), cache=Path("cache"))
    return dataclasses.replace(whole, **changes)


def load(hub: Hub, options: diffusers_hub.Options, asked: Runtime) -> tuple[ImageGenerator, list[str]]:
    assert diffusers_hub.FAMILY.needs is not None
    weights = hub.download(diffusers_hub.FAMILY.needs(options, asked))
    return diffusers_hub.FAMILY.load(options, asked), weights


def largest_difference(first: ImageGenerator, second: ImageGenerator) -> int:
    return int((first.generate([REQUEST]).int() - second.generate([REQUEST]).int()).abs().max())


def test_named_revision_loads_without_the_weights_that_it_does_not_read(hub: Hub, tmp_path: Path) -> None:
    pipeline = build_sdxl()
    pipeline.save_pretrained(tmp_path / "sdxl")
    pipeline.to(torch.float16).save_pretrained(tmp_path / "sdxl", variant="fp16")
    (tmp_path / "sdxl" / "all_in_one.safetensors").touch()
    hub.publish("org/sdxl", tmp_path / "sdxl", "v2")
    loaded, weights = load(hub, diffusers_hub.Options(id="org/sdxl@v2", steps=2), runtime())
    assert len(weights) == 4
    assert not any("fp16" in name for name in weights)
    local = diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(tmp_path / "sdxl"), steps=2), runtime())
    assert largest_difference(loaded, local) == 0


def test_random_weights_of_the_hub_need_no_weights(hub: Hub, tmp_path: Path) -> None:
    build_sdxl().save_pretrained(tmp_path / "sdxl")
    hub.publish("org/sdxl", tmp_path / "sdxl")
    options = diffusers_hub.Options(id="org/sdxl", steps=2)
    loaded, weights = load(hub, options, runtime(weights="random", dtype="bfloat16"))
    assert weights == []
    assert loaded.generate([REQUEST]).float().std() > 1


def test_published_decoder_loads_with_its_published_prior(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import KandinskyV22Pipeline, KandinskyV22PriorPipeline

    whole = build_kandinsky()
    prior = {name.removeprefix("prior_"): part for name, part in whole.components.items() if "prior_" in name}
    KandinskyV22Pipeline(unet=whole.unet, scheduler=whole.scheduler, movq=whole.movq).save_pretrained(tmp_path / "d")
    KandinskyV22PriorPipeline(**prior).save_pretrained(tmp_path / "p")
    (tmp_path / "d" / "README.md").write_text("---\nprior:\n- someone/else\n---\n")
    monkeypatch.setattr(pipeline_sources, "PRIORS", {"org/decoder": "org/prior"})
    hub.publish("org/decoder", tmp_path / "d")
    hub.publish("org/prior", tmp_path / "p")
    loaded, weights = load(hub, diffusers_hub.Options(id="org/decoder", steps=2), runtime(image_size=64))
    assert len(weights) == 5
    assert "prior: org/prior" in loaded.notes
    assert loaded.generate([REQUEST]).shape == (1, 3, 64, 64)


def test_single_file_of_sdxl_takes_text_alone_from_the_published_repository(hub: Hub, tmp_path: Path) -> None:
    pipeline = build_file_sdxl()
    pipeline.save_pretrained(tmp_path / "sdxl")
    hub.publish(sdxl.HUB_MODEL, tmp_path / "sdxl")
    options = sdxl.Options(model=str(write_file(tmp_path / "mine.safetensors", pipeline)), steps=2)
    assert sdxl.FAMILY.needs is not None
    assert hub.download(sdxl.FAMILY.needs(options, runtime())) == []
    loaded = sdxl.FAMILY.load(options, runtime())
    whole = sdxl.FAMILY.load(sdxl.Options(model=str(tmp_path / "sdxl"), steps=2), runtime())
    assert largest_difference(loaded, whole) <= 1
    assert f"configurations and tokenizers: {sdxl.HUB_MODEL}" in loaded.notes


def test_component_of_the_hub_takes_the_place_of_the_folders_own(hub: Hub, tmp_path: Path) -> None:
    pipeline = build_sdxl()
    pipeline.save_pretrained(tmp_path / "sdxl")
    shutil.rmtree(tmp_path / "sdxl" / "vae")
    pipeline.vae.save_pretrained(tmp_path / "vae")
    hub.published["org/vae", "main"] = tmp_path / "vae"
    options = diffusers_hub.Options(id=str(tmp_path / "sdxl"), steps=2, components=json.dumps({"vae": "org/vae@main"}))
    loaded, weights = load(hub, options, runtime())
    assert weights == ["diffusion_pytorch_model.safetensors"]
    assert "vae: org/vae@main" in loaded.notes
    assert loaded.generate([REQUEST]).shape == (1, 3, 32, 32)


def test_safety_checker_is_fetched_only_where_it_stays_on(hub: Hub, tmp_path: Path) -> None:
    index = {
        "_class_name": "StableDiffusionPipeline",
        "vae": ["diffusers", "AutoencoderKL"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    }
    for name in ("vae/diffusion_pytorch_model", "safety_checker/model"):
        (tmp_path / "sd" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sd" / name).with_suffix(".safetensors").touch()
        (tmp_path / "sd" / name).with_name("config.json").write_text("{}")
    (tmp_path / "sd" / "model_index.json").write_text(json.dumps(index))
    hub.publish("org/sd", tmp_path / "sd")
    assert diffusers_hub.FAMILY.needs is not None
    for safety, count in ((False, 1), (True, 2)):
        needs = diffusers_hub.FAMILY.needs(diffusers_hub.Options(id="org/sd", safety=safety), runtime())
        assert len(hub.download(needs)) == count


def test_check_refuses_a_folder_that_is_not_there() -> None:
    assert diffusers_hub.FAMILY.check is not None
    with pytest.raises(OSError, match=r"MODELS=hub:\./nowhere: no folder \./nowhere"):
        diffusers_hub.FAMILY.check(diffusers_hub.Options(id="./nowhere"), runtime())
