"""DEVICE_MAP: a pipeline whose components are on several GPUs, which here are two names of the CPU."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import accelerate.hooks
import accelerate.utils
import diffusers
import diffusers.pipelines.pipeline_loading_utils as loading_utils
import pytest
import torch
from diffusers_folders import write_sdxl

from models import diffusers_hub, sdxl
from models.base import Request, Runtime
from models.pipelines.device_map import COMBINED, check_map, networks_of
from models.pipelines.table import TEXT_TO_IMAGE

REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat", 1)]
ROOM = 10**9
NETWORKS = ("text_encoder", "text_encoder_2", "unet", "vae")


def runtime(folder: Path, **changes: object) -> Runtime:
    spread = Runtime("pretrained", "cuda", "float32", 32, folder / "assets", folder / "cache", device_map="balanced")
    return dataclasses.replace(spread, **changes)  # type: ignore[arg-type]


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The memory that accelerate sees free on two devices, which are the CPU under two names."""
    memory = {"cpu:0": ROOM, "cpu:1": ROOM}
    for place in (loading_utils, accelerate.utils):
        monkeypatch.setattr(place, "get_max_memory", lambda _=None: {**memory, "cpu": ROOM})
    # The weights are there already: torch would copy them to a CPU of another name, and lose that they are parameters.
    monkeypatch.setattr(accelerate.hooks, "set_module_tensor_to_device", lambda *_, **__: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    return memory


def load(folder: Path, runtime: Runtime, **options: Any) -> Any:
    return diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), steps=2, **options), runtime)


def is_hooked(network: torch.nn.Module, device: str) -> bool:
    return str(network._hf_hook.execution_device) == device


@pytest.mark.usefixtures("free_bytes")
def test_a_spread_pipeline_makes_the_images_of_a_whole_one_and_says_where_its_components_are(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    spread = load(folder, runtime(tmp_path))
    whole = load(folder, runtime(tmp_path, device="cpu", device_map=""))
    assert torch.equal(spread.generate(REQUESTS), whole.generate(REQUESTS))
    assert (spread.devices, whole.devices) == (("cpu:0", "cpu:1"), ())
    placed = spread.pipeline.hf_device_map
    assert set(placed) == set(NETWORKS)
    assert all(is_hooked(network, placed[name]) for name, network in networks_of(spread.pipeline).items())
    (note,) = (note for note in spread.notes if note.startswith("components on 2 GPUs"))
    assert all(f"{name} on {placed[name]}" in note for name in NETWORKS)
    assert not any("components" in note for note in whole.notes)


@pytest.mark.usefixtures("free_bytes")
def test_what_each_text_encoder_gives_is_sent_to_where_the_pipeline_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = load(write_sdxl(tmp_path / "my-sdxl"), runtime(tmp_path)).pipeline
    encoders = {name: network for name, network in networks_of(pipeline).items() if name.startswith("text_encoder")}
    assert len({pipeline.hf_device_map[name] for name in encoders}) == 2, "one on each GPU"
    sent: list[tuple[str, torch.device]] = []
    # A tensor on a CPU does not keep which of its two names it was sent to.
    send = lambda outputs, device: sent.append((type(outputs).__name__, device)) or outputs  # noqa: E731
    monkeypatch.setattr(accelerate.utils, "send_to_device", send)
    for encoder in encoders.values():
        encoder(torch.zeros(1, 4, dtype=torch.long), output_hidden_states=True)
    home = pipeline._execution_device
    assert sent == [("BaseModelOutputWithPooling", home), ("CLIPTextModelOutput", home)]


@pytest.mark.usefixtures("free_bytes")
def test_a_spread_pipeline_is_asked_for_other_options_where_it_is(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    spread = load(folder, runtime(tmp_path))
    other = spread.with_options(diffusers_hub.Options(id=str(folder), steps=3))
    alone = diffusers_hub.FAMILY.load(diffusers_hub.Options(id=str(folder), steps=3), runtime(tmp_path))
    assert torch.equal(other.generate(REQUESTS), alone.generate(REQUESTS))
    assert (other.devices, other.notes) == (alone.devices, alone.notes)


@pytest.mark.usefixtures("free_bytes")
def test_a_component_from_elsewhere_is_put_on_the_gpu_of_the_map(tmp_path: Path) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    named = load(folder, runtime(tmp_path), components=json.dumps({"unet": str(folder)}))
    assert is_hooked(named.pipeline.unet, named.pipeline.hf_device_map["unet"])
    assert torch.equal(named.generate(REQUESTS), load(folder, runtime(tmp_path)).generate(REQUESTS))


@pytest.mark.usefixtures("free_bytes")
def test_random_weights_are_drawn_on_the_gpu_of_the_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from models.pipelines import components

    drawn: list[str] = []
    build = components.build_any_random
    monkeypatch.setattr(
        components, "build_any_random", lambda *asked: (drawn.append(asked[1]), build(asked[0], "cpu", asked[2]))[1]
    )
    spread = load(write_sdxl(tmp_path / "my-sdxl"), runtime(tmp_path, weights="random"))
    placed = spread.pipeline.hf_device_map
    assert sorted(drawn) == sorted(placed[name] for name in NETWORKS)
    assert set(drawn) == {"cpu:0", "cpu:1"}
    assert spread.generate(REQUESTS).shape == (2, 3, 32, 32)


def test_what_does_not_fit_the_gpus_is_refused_by_name_and_size(tmp_path: Path, free_bytes: dict[str, int]) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    free_bytes["cpu:1"] = 100
    with pytest.raises(ValueError, match=r"would keep .*text_encoder \(0\.0 GB\).* on the CPU") as caught:
        load(folder, runtime(tmp_path))
    assert "unet" not in str(caught.value)
    assert "\n" not in str(caught.value)
    (folder / "vae" / "diffusion_pytorch_model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="would keep"):  # before weights are read
        load(folder, runtime(tmp_path))


def test_all_components_that_fit_no_gpu_are_named_though_diffusers_maps_one(
    tmp_path: Path, free_bytes: dict[str, int]
) -> None:
    folder = write_sdxl(tmp_path / "my-sdxl")
    free_bytes |= {"cpu:0": 100, "cpu:1": 100}
    for weights in ("pretrained", "random"):
        with pytest.raises(ValueError, match="does not fit these GPUs") as caught:
            load(folder, runtime(tmp_path, weights=weights))
        assert all(f"{name} (" in str(caught.value) for name in NETWORKS)


@pytest.mark.skipif(torch.cuda.is_available(), reason="on a GPU the pipeline fits")
def test_without_a_gpu_diffusers_map_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"DEVICE_MAP=balanced would keep .* on the CPU"):
        load(write_sdxl(tmp_path / "my-sdxl"), runtime(tmp_path))


def test_a_map_with_the_cpu_the_disk_or_one_gpu_is_refused() -> None:
    sizes = {"transformer": 24 * ROOM, "vae": ROOM}
    check_map({"transformer": 0, "vae": 1}, sizes, "x")
    for device in ("cpu", "disk"):
        with pytest.raises(ValueError, match=r"keep transformer \(24\.0 GB\) on the CPU"):
            check_map({"transformer": device, "vae": 1}, sizes, "x")
    with pytest.raises(ValueError, match="x is on one GPU"):
        check_map({"vae": 0}, {"vae": ROOM}, "x")


@pytest.mark.parametrize(
    ("changes", "gpus", "says"),
    [
        ({"device": "cpu"}, 2, "DEVICE is cpu"),
        ({}, 1, "torch sees 1"),
        ({"offload": True}, 2, "OFFLOAD=1 moves them to the CPU"),
        ({"mode": "compiled"}, 2, "does not run with MODE=compiled"),
    ],
)
def test_a_map_that_cannot_be_is_refused_before_weights_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], gpus: int, says: str
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ValueError, match=says) as caught:
        load(tmp_path / "nothing", runtime(tmp_path, **changes))
    assert str(caught.value).startswith("DEVICE_MAP=balanced")


def test_combined_pipelines_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "KandinskyCombinedPipeline"}')
    check = diffusers_hub.FAMILY.check
    assert check is not None
    with pytest.raises(ValueError, match=r"^MODELS=hub:.*a prior and its decoder together"):
        check(diffusers_hub.Options(id=str(tmp_path)), runtime(tmp_path))


def test_the_combined_pipelines_are_those_that_diffusers_has_no_map_for() -> None:
    connected = {name for name in TEXT_TO_IMAGE if getattr(diffusers, name)._load_connected_pipes}
    assert connected == {name for name in TEXT_TO_IMAGE if name.endswith(COMBINED)}


def test_hub_pipelines_alone_take_a_map() -> None:
    assert diffusers_hub.FAMILY.takes_device_map
    assert not sdxl.FAMILY.takes_device_map


def test_noise_of_a_device_is_drawn_where_the_spread_pipeline_works(tmp_path: Path, free_bytes: dict[str, int]) -> None:
    free_bytes["cpu:1"] *= 2  # the largest network, which denoises, is there
    spread = load(write_sdxl(tmp_path / "my-sdxl"), runtime(tmp_path))
    first = next(iter(networks_of(spread.pipeline)))
    assert spread._noise_device() == torch.device(spread.pipeline.hf_device_map[first])
