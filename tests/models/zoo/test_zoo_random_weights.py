"""Pipelines of the zoo as configurations alone: WEIGHTS=random draws their weights."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from zoo_pipelines import ENTRIES
from zoo_programs import flags, images_of

import run_inference

NAMES = [
    "StableDiffusionXLPipeline",
    "FluxPipeline",
    "StableDiffusion3Pipeline",
    "PixArtSigmaPipeline",
    "LuminaPipeline",
]


@pytest.fixture
def configurations(zoo_folder: Callable[[str], Path], tmp_path: Path) -> list[Path]:
    """Return the folders of NAMES without any weights."""
    folders = [tmp_path / "configurations" / name for name in NAMES]
    for name, folder in zip(NAMES, folders, strict=True):
        shutil.copytree(zoo_folder(name), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folders


def test_configurations_alone_make_images_of_their_size(configurations: list[Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert run_inference.main(flags(configurations, ENTRIES[NAMES[0]], output, weights="random")) == 0
    for name in NAMES:
        images_BHWC = images_of(output, name)
        assert images_BHWC.shape == (2, *ENTRIES[name].size, 3)
        assert (images_BHWC[0] != images_BHWC[1]).any()


def test_configurations_alone_are_refused_where_weights_are_wanted(
    configurations: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main(flags(configurations[:1], ENTRIES[NAMES[0]], tmp_path / "out")) != 0
    told = capsys.readouterr().err
    assert "WEIGHTS=random" in told
    assert "Traceback" not in told


def test_random_weights_are_counted_and_never_scored(configurations: list[Path], tmp_path: Path) -> None:
    output, entry = tmp_path / "out", ENTRIES[NAMES[1]]
    run = flags(configurations[1:2], entry, output, weights="random", dataset="robots")
    assert run_inference.main(run) == 0
    [model] = json.loads((output / "results.json").read_text())["models"]
    assert model["parameters"] == sum(weights.numel() for weights in entry.build().transformer.parameters())
    assert (model["scores"], model["unscored"]) == ([], {"psnr": "random weights"})
