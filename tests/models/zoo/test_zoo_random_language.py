"""Pipelines behind language models as configurations and tokenizers alone: WEIGHTS=random draws their weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from zoo_entries import REQUESTS
from zoo_pipelines import ENTRIES

from models import diffusers_hub
from models.base import Runtime

# One of each: beside Qwen, Qwen-VL, Mistral and GLM, with experts, with two transformers, with a plan of the image.
NAMES = [
    "QwenImagePipeline",
    "Flux2Pipeline",
    "ZImagePipeline",
    "NucleusMoEImagePipeline",
    "Ideogram4Pipeline",
    "KolorsPipeline",
    "GlmImagePipeline",
]


@pytest.mark.parametrize("name", NAMES)
def test_configurations_alone_make_images(name: str, zoo_folder: Callable[[str], Path], tmp_path: Path) -> None:
    folder, entry = tmp_path / name, ENTRIES[name]
    shutil.copytree(zoo_folder(name), folder, ignore=shutil.ignore_patterns("*.safetensors", "generation_config.json"))
    runtime = Runtime("random", "cpu", "bfloat16", entry.asked, tmp_path, tmp_path)
    loaded = diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), **entry.options), runtime)
    images_BCHW = loaded.generate(REQUESTS)
    assert images_BCHW.shape == (2, 3, *entry.size)
    assert (images_BCHW[0] != images_BCHW[1]).any()
    assert images_BCHW.float().std() > 1
