"""How many GPUs there are, asked of the driver: without torch, and without the CUDA state that a fork would break."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

# Where a driver of NVIDIA, of its small boards, of AMD and of Windows' Linux shows.
DRIVER_SIGNS = ("nvidia*", "nvhost*", "nvmap", "kfd", "dxg")
NVML = "libnvidia-ml.so.1"


def count_gpus(
    environment: Mapping[str, str] = os.environ, devices: Path = Path("/dev"), processes: Path = Path("/proc")
) -> int | None:
    """Return how many CUDA devices this process can have, or None where only torch can tell.

    Without a driver there is none. NVIDIA's management library (NVML) counts the others; CUDA is not started.
    CUDA_VISIBLE_DEVICES counts where it lists plain numbers.
    """
    if sys.platform != "linux":
        return None
    if not has_driver(devices, processes):
        return 0
    there = _count_by_nvml()
    return None if there is None else visible_gpus(there, environment.get("CUDA_VISIBLE_DEVICES"))


def has_driver(devices: Path, processes: Path) -> bool:
    """Return whether a GPU's driver has left a sign of itself."""
    return (processes / "driver" / "nvidia").exists() or any(
        next(devices.glob(sign), None) is not None for sign in DRIVER_SIGNS
    )


def visible_gpus(there: int, chosen: str | None) -> int | None:
    """Return how many of the GPUs `chosen`, the value of CUDA_VISIBLE_DEVICES, leaves; None where it names others.

    As CUDA reads it: the list ends at the first number that is no device.
    """
    if chosen is None:
        return there
    words = [word.strip() for word in chosen.split(",")]
    if words == [""]:
        return 0
    if not all(re.fullmatch(r"-1|[0-9]{1,3}", word) for word in words) or len(set(words)) < len(words):
        return None
    numbers = [int(word) for word in words]
    return next((place for place, number in enumerate(numbers) if not 0 <= number < there), len(numbers))


def _count_by_nvml() -> int | None:
    try:
        nvml = ctypes.CDLL(NVML)
        if nvml.nvmlInit_v2() != 0:
            return None
        try:
            count = ctypes.c_uint(0)
            return count.value if nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) == 0 else None
        finally:
            nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no such library, or one without these functions
        return None
