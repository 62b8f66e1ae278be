"""A pipeline whose networks are on several GPUs, each whole on one: diffusers' device map, and accelerate's hooks."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from files.reading import shown
from models.base import Runtime

if TYPE_CHECKING:
    import torch

DeviceMap = Mapping[str, int | str]  # a component to the number of its GPU, or to another device

COMBINED = "CombinedPipeline"
_NOT_GPUS = ("cpu", "disk")


def check_device_map(runtime: Runtime) -> None:
    """Raise ValueError where a device map was asked for and cannot be. Called before any weights are read."""
    if not runtime.device_map:
        return
    if not runtime.device.startswith("cuda"):
        raise ValueError(
            f"DEVICE_MAP={runtime.device_map} spreads a pipeline over GPUs, but DEVICE is {runtime.device}: leave "
            "DEVICE_MAP out"
        )
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        raise ValueError(
            f"DEVICE_MAP={runtime.device_map} needs at least two GPUs, and torch sees {count}: leave it out, or let "
            "CUDA_VISIBLE_DEVICES name several"
        )


def check_class(class_name: str, told: str) -> None:
    """Raise ValueError for a pipeline that is made of several: diffusers has no device map for those."""
    if class_name.endswith(COMBINED):
        raise ValueError(
            f"{told} is a {class_name}, a prior and its decoder together, for which diffusers has no device map: leave "
            "DEVICE_MAP out"
        )


def assign(sizes_bytes: Mapping[str, int]) -> dict[str, int | str]:
    """Return the map that diffusers makes of components of these sizes, for the memory that is free on each GPU now."""
    from accelerate.utils import get_max_memory
    from diffusers.pipelines.pipeline_loading_utils import _assign_components_to_devices

    free_bytes = {device: free for device, free in get_max_memory().items() if device != "cpu"}
    if not free_bytes:
        return {}
    by_size = dict(sorted(sizes_bytes.items(), key=lambda item: item[1], reverse=True))
    memory = dict(sorted(free_bytes.items(), key=lambda item: item[1], reverse=True))
    placed = _assign_components_to_devices(by_size, memory)
    return {name: device for device, names in placed.items() for name in names}


def check_map(device_map: DeviceMap, sizes_bytes: Mapping[str, int], told: str) -> None:
    """Check that each network of a pipeline is on a GPU, and not all on one.

    Raises:
        ValueError: diffusers would keep some of them on the CPU or on disk; one line with their names and sizes.
    """
    # Of several that fit no GPU, diffusers' map names the last one alone; the others would be on the CPU as well.
    outside = [name for name in sizes_bytes if device_map.get(name, "cpu") in _NOT_GPUS]
    if outside:
        sizes = ", ".join(f"{name} ({sizes_bytes[name] / 1e9:.1f} GB)" for name in outside)
        raise ValueError(
            f"{told} does not fit these GPUs: DEVICE_MAP=balanced would keep {sizes} on the CPU, and what runs there "
            "is not timed as a GPU; use more or larger GPUs, or a smaller DTYPE"
        )
    if len(set(device_map.values())) < 2:
        raise ValueError(
            f"{told} is on one GPU with DEVICE_MAP=balanced, too: it has no more than one network; leave DEVICE_MAP out"
        )


def place_components(pipeline: Any, told: str) -> None:
    """Put each network of an opened pipeline on its GPU, with the hooks that move what it is called with.

    Those that diffusers loaded by its map have theirs already; without a map of the pipeline it is made here.

    Raises: as `check_map`.
    """
    from accelerate import dispatch_model

    networks = networks_of(pipeline)
    sizes_bytes = {name: count_bytes(network) for name, network in networks.items()}
    device_map = pipeline.hf_device_map or assign(sizes_bytes)
    check_map(device_map, sizes_bytes, told)
    for name, network in networks.items():
        if not hasattr(network, "_hf_hook"):
            skipped = getattr(network, "_skip_keys", None)
            dispatch_model(network, {"": device_map[name]}, force_hooks=True, skip_keys=skipped)
    pipeline.hf_device_map = device_map
    # Some pipelines give a text encoder tokens on its own GPU, and then join what two encoders gave, as SDXL's.
    bring_home = partial(_bring_home, pipeline._execution_device)
    for network in networks.values():
        network.register_forward_hook(bring_home)


def _bring_home(device: torch.device, _network: object, _inputs: object, outputs: Any) -> Any:
    """Return what a network gave on the GPU on which the pipeline works."""
    from accelerate.utils import send_to_device

    return send_to_device(outputs, device)


def networks_of(pipeline: Any) -> dict[str, torch.nn.Module]:
    """Return the components of a pipeline that are networks, by name."""
    import torch

    return {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}


def count_bytes(network: torch.nn.Module) -> int:
    """Return the bytes of a network's weights and buffers."""
    tensors = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    return sum(tensor.nbytes for tensor in tensors.values())


def devices_of(pipeline: Any) -> tuple[str, ...]:
    """Return the devices that a spread pipeline's networks are on, in the order of their numbers."""
    return tuple(sorted({device_name(pipeline.hf_device_map[name]) for name in networks_of(pipeline)}))


def device_name(device: int | str | torch.device) -> str:
    """Return a device of a map as torch names it: 0 is "cuda:0"."""
    return f"cuda:{device}" if isinstance(device, int) else str(device)


def placement_note(pipeline: Any) -> str:
    """Return the footer's note on where the networks of a spread pipeline are."""
    placed = [f"{shown(name)} on {device_name(pipeline.hf_device_map[name])}" for name in networks_of(pipeline)]
    return (
        f"components on {len(devices_of(pipeline))} GPUs (DEVICE_MAP=balanced), which wait for each other: "
        f"{', '.join(placed)}"
    )
