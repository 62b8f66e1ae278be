"""DEVICE_MAP on two GPUs: tiny pipelines whose components are on both make the images of one, and a run says so."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from zoo_pipelines import ENTRIES, save_pipeline

from benchmark.measure.clock import Clock
from benchmark.report.results import read_results
from models import diffusers_hub
from models.base import DeviceMap, Request, Runtime, Weights
from models.pipelines.device_map import networks_of

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")]
ROOT = Path(__file__).resolve().parents[2]
REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat in a forest", 1)]
# The last one draws its noise on the device on which it works.
NAMES = (
    "StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "FluxPipeline", "PixArtSigmaPipeline", "SanaPipeline",
    "QwenImagePipeline", "AmusedPipeline",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _full_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def load(
    folder: Path, device_map: DeviceMap, options: Any, weights: Weights = "pretrained", image_size: int = 32
) -> Any:
    runtime = Runtime(weights, "cuda", "float32", image_size, folder, folder.parent / "cache", device_map=device_map)
    return diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), **options), runtime)


def devices_of_weights(generator: Any) -> set[str]:
    return {
        str(weights.device) for network in networks_of(generator.pipeline).values() for weights in network.parameters()
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_spread_pipeline_makes_the_images_of_one_gpu(name: str, tmp_path: Path) -> None:
    folder, entry = save_pipeline(name, tmp_path / name), ENTRIES[name]
    whole, spread = (load(folder, each, entry.options, image_size=entry.asked) for each in ("", "balanced"))
    assert devices_of_weights(whole) == {"cuda:0"}
    assert devices_of_weights(spread) == set(spread.devices)
    assert len(spread.devices) >= 2
    (note,) = (note for note in spread.notes if note.startswith("components on "))
    assert all(device in note for device in spread.devices)
    clock = Clock("cuda")
    clock.cover(spread.devices)
    images_BCHW, seconds = clock.time(lambda: spread.generate(REQUESTS))
    difference = (images_BCHW.cpu().int() - whole.generate(REQUESTS).cpu().int()).abs()
    print(f"{name}: {note}; {seconds:.3f} s; differs by {difference.max()} of 255")
    assert difference.max() <= 1
    assert clock.card_peaks_bytes().keys() == set(spread.devices)
    assert min(clock.card_peaks_bytes().values()) > 0


def test_random_weights_are_drawn_on_both_gpus(tmp_path: Path) -> None:
    folder = save_pipeline("FluxPipeline", tmp_path / "flux")
    spread = load(folder, "balanced", ENTRIES["FluxPipeline"].options, "random")
    assert devices_of_weights(spread) == set(spread.devices)
    assert spread.generate(REQUESTS).shape == (2, 3, 32, 32)


def test_other_options_are_asked_of_the_same_networks(tmp_path: Path) -> None:
    folder = save_pipeline("FluxPipeline", tmp_path / "flux")
    spread = load(folder, "balanced", {"steps": 2})
    other = spread.with_options(dataclasses.replace(diffusers_hub.Options(id=str(folder)), steps=3))
    alone = load(folder, "balanced", {"steps": 3})
    assert torch.equal(other.generate(REQUESTS).cpu(), alone.generate(REQUESTS).cpu())


def test_a_run_times_a_spread_pipeline_and_names_both_gpus(tmp_path: Path) -> None:
    folder, output = save_pipeline("FluxPipeline", tmp_path / "flux"), tmp_path / "out"
    settings = {
        "MODELS": f"hub:{folder}", "HUB_STEPS": "2", "DEVICE_MAP": "balanced", "WEIGHTS": "random", "IMAGE_SIZE": "32",
        "DATASET": "robots", "NUM_SAMPLES": "6", "TIMED_SAMPLES": "4", "ROUNDS": "2", "WARMUP": "1", "PASSES": "all",
        "OUTPUT_DIR": str(output), "OFFLINE": "1", "DTYPE": "float32",
    }  # fmt: skip
    command = [sys.executable, str(ROOT / "run_inference.py")]
    told = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, capture_output=True, text=True, timeout=500, check=False
    )
    print(told.stdout, told.stderr[-4000:])
    assert told.returncode == 0
    run = read_results(output / "results.json")
    (model,) = run.models
    assert model.name == "flux (several GPUs)"
    assert [made.complete for made in model.rounds] == [True, True]
    (note,) = (note for note in model.notes if note.startswith("components on "))
    assert all(device in note for device in ("cuda:0", "cuda:1"))
    findings = model.rounds[0].findings
    assert findings.memory is not None
    assert findings.stages is not None
    assert findings.memory.card_peaks_bytes.keys() >= {"cuda:0", "cuda:1"}
    assert findings.unmeasured == dict.fromkeys(("energy", "roofline"), "components on several GPUs")
    assert "n/a (several GPUs)" in told.stdout
    again = subprocess.run(
        command, cwd=ROOT, env=os.environ | settings | {"DEVICE_MAP": ""}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert again.returncode != 0
    assert "DEVICE_MAP" in again.stderr, "times of one GPU never mix with those of several"
