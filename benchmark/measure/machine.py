"""What this run runs on: device, dtype, and the versions that a figure must be read with."""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from models.base import DType

VERSIONED_PACKAGES = ("torch", "diffusers", "transformers")


@dataclass(frozen=True)
class Machine:
    """The device and dtype that `auto` became, the device's name as the report shows it, and package versions.

    dtype: where a run has columns in several, which are told by their settings, the first of them.
    """

    device: str
    dtype: DType
    name: str
    versions: Mapping[str, str]


def choose_machine(device: str, dtype: str | Sequence[str]) -> Machine:
    """Return the machine for the settings DEVICE and DTYPE. Raises ValueError where there is no such device."""
    first = dtype if isinstance(dtype, str) else dtype[0]
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    best: DType = "float32"
    name = f"CPU ({platform.machine()}, {torch.get_num_threads()} threads)"
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        number = int(device.partition(":")[2] or 0)
        if number >= count:
            raise ValueError(f"DEVICE={device}: torch sees {count} CUDA device(s); use DEVICE=cpu, or fix the driver")
        name = torch.cuda.get_device_name(number)
        best = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    return Machine(device, best if first == "auto" else cast(DType, first), name, installed_versions())


def are_cpus(*names: object) -> bool:
    """Return whether all of these are names of CPUs as a `Machine` has them; OMP_NUM_THREADS sets their threads."""
    return all(re.fullmatch(r"CPU \(.*, \d+ threads\)", str(name)) for name in names)


def installed_versions() -> dict[str, str]:
    """Return the versions of the packages that decide speed and images."""
    packages = {name: importlib.metadata.version(name) for name in VERSIONED_PACKAGES}
    return {"python": platform.python_version()} | packages
