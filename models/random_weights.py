"""Networks at full size with random weights, drawn on the device: speed without a download."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

ModuleT = TypeVar("ModuleT", bound=torch.nn.Module)


def build_random(build: Callable[[], ModuleT], device: str, dtype: torch.dtype, seed: int = 0) -> ModuleT:
    """Return `build()` made on `device` in `dtype` with its own initialisation, in eval mode and without gradients.

    The process's random state is left as it was found.
    """
    devices = [torch.device(device)] if device.startswith("cuda") else []
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.manual_seed(seed)
        torch.set_default_dtype(dtype)
        try:
            module = build()
        finally:
            torch.set_default_dtype(before)
    return module.to(device=device, dtype=dtype).eval().requires_grad_(False)
