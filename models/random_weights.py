"""Networks at full size with random weights, drawn on the device: speed without a download."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

_NARROW = 0.02
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
    # By position: a few networks of diffusers call these arguments otherwise.
    return module.to(device, dtype).eval().requires_grad_(False)


def build_any_random(build: Callable[[], ModuleT], device: str, dtype: torch.dtype) -> ModuleT:
    """Return `build_random(...)` of a network of a library, of which not all kinds draw all of their weights.

    What its own initialisation leaves as the memory was is drawn from a narrow normal distribution, always the same.
    Parts that the library keeps in float32 in its loading are so here.
    """
    with _unset_memory_is_nan():
        module = build_random(build, device, dtype)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for weights in module.parameters():
            if weights.is_floating_point() and weights.isnan().any():
                weights.normal_(std=_NARROW, generator=generator)
        for name, weights in module.named_parameters():
            if weights.is_floating_point() and _stays_float32(module, name, dtype):
                weights.data = weights.data.float()
    return module


@contextmanager
def _unset_memory_is_nan() -> Iterator[None]:
    """Let torch fill with NaN what it would leave as the memory was."""
    was, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    filled = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = filled  # type: ignore[attr-defined]
        torch.use_deterministic_algorithms(was, warn_only=warned)


def _stays_float32(module: torch.nn.Module, name: str, dtype: torch.dtype) -> bool:
    """Return whether a parameter stays in float32 where diffusers or transformers loads the network in `dtype`."""
    kept = set(getattr(module, "_keep_in_fp32_modules_strict", None) or ())
    # transformers means float16 alone by this name, and diffusers any other dtype.
    if dtype == torch.float16 or not hasattr(module, "_keep_in_fp32_modules_strict"):
        plain = getattr(module, "_keep_in_fp32_modules", None) or ()
        kept |= {plain} if isinstance(plain, str) else set(plain)
    return any(part in name.split(".") for part in kept)
