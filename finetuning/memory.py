"""How much memory a training needs, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from finetuning.settings import TrainingSettings

# Bytes kept for the backward pass, for each token, channel and block: measured, see docs/finetuning.md.
_EAGER, _COMPILED, _CHECKPOINTED = 48.0, 40.0, 2.0
# What a block needs while it is worked out again.
_ONE_BLOCK = 65.0
_ROOM = 0.5e9


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes on the device: frozen weights, the LoRA with gradients and AdamW's moments, activations of one image."""

    weights: float
    lora: float
    activations_of_one: float

    def total(self, batch_size: int) -> float:
        return self.weights + self.lora + batch_size * self.activations_of_one + _ROOM

    def largest_batch(self, free: float) -> int:
        """Return how many images fit, 0 where not even one does."""
        return max(0, int((free - self.total(0)) / self.activations_of_one))


def estimate_memory(transformer: Any, settings: TrainingSettings, tokens: int, dtype: torch.dtype) -> MemoryEstimate:
    """Return the estimate for a transformer (on the meta device serves) that sees `tokens` patches of an image."""
    config = transformer.config
    channels = config.num_attention_heads * config.attention_head_dim
    weights = sum(parameter.numel() for parameter in transformer.parameters()) * dtype.itemsize
    adapted = [
        module
        for name, module in transformer.named_modules()
        if isinstance(module, torch.nn.Linear) and any(name.endswith(target) for target in settings.target_modules)
    ]
    factors = sum(settings.rank * (module.in_features + module.out_features) for module in adapted)
    scale = dtype.itemsize / 2
    if settings.gradient_checkpointing:
        kept = config.num_layers * _CHECKPOINTED + _ONE_BLOCK
    else:
        kept = config.num_layers * (_COMPILED if settings.compile else _EAGER)
    return MemoryEstimate(weights, 16.0 * factors, scale * kept * tokens * channels)


def check_memory(estimate: MemoryEstimate, batch_size: int, free: float, device: str) -> None:
    """Raise ValueError where the batch does not fit into `free` bytes, with the estimate and what would fit."""
    needed = estimate.total(batch_size)
    if needed <= free:
        return
    fits = estimate.largest_batch(free)
    remedy = f"BS={fits} fits" if fits else "not even BS=1 fits: --gradient_checkpointing, or a smaller --resolution"
    raise ValueError(
        f"BS={batch_size} needs about {needed / 1e9:.1f} GB on {device} (weights {estimate.weights / 1e9:.1f}, LoRA "
        f"and optimizer {estimate.lora / 1e9:.1f}, activations "
        f"{batch_size * estimate.activations_of_one / 1e9:.1f}), {free / 1e9:.1f} GB are free; {remedy}"
    )


def free_memory(device: str) -> float:
    """Return the bytes that are free on the device."""
    if device.startswith("cuda"):
        return float(torch.cuda.mem_get_info(device)[0])
    import psutil

    return float(psutil.virtual_memory().available)
