"""Whether a compiled pass learns what the plain one does: a compiler can be wrong without a word.

Inductor of torch 2.11, in reductions that loop over a row twice, reads back what another warp has just written, without
a barrier (2.14 has one: PyTorch pull request 190519). On an H100 some processes, and only some, then train on gradients
that are noise, while every loss of the first steps is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

REPEATS = 3  # of the compiled pass: what depends on chance is seldom right three times
# The plain pass needs more memory than the compiled one, so it comes in parts.
PARTS = 8
# Largest error of a parameter's gradient that is taken for rounding: one that is not written at all has an error of 1.
GRADIENT_TOLERANCE = {torch.float32: 1e-2, torch.float16: 0.3, torch.bfloat16: 0.3}
# A new LoRA's B is 0, and so is every gradient of its A: for the check, noise is added to all that is trained.
NOISE = 1e-2
FLOAT16_SCALE = 1024.0  # of the loss, so that small gradients do not vanish


def gradient_error(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest error among the parameters' gradients, nan where one is no number.

    It is the norm of the difference over the norm of the wanted gradient, or over the median of all such norms where
    that is larger, so that a gradient of almost nothing may differ by as little.
    """
    norms = torch.stack([gradient.double().norm() for gradient in wanted])
    errors = torch.stack([(a.double() - b.double()).norm() for a, b in zip(found, wanted, strict=True)])
    usual = norms.quantile(0.5).clamp(min=1e-30)
    return float((errors / norms.maximum(usual)).max())


@contextmanager
def noise_added(parameters: Sequence[Tensor], seed: int) -> Iterator[None]:
    """Change the parameters a little within the block; afterwards they are what they were, bit for bit."""
    kept = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator(parameters[0].device).manual_seed(seed)
    with torch.no_grad():
        for parameter in parameters:
            noise = torch.randn(parameter.shape, generator=generator, device=parameter.device)
            parameter.add_(noise.to(parameter.dtype), alpha=NOISE)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def in_parts(inputs: Mapping[str, Tensor], parts: int) -> Iterator[tuple[dict[str, Tensor], float]]:
    """Split the tensors of one batch along their first dimension; with each part comes its share of the batch."""
    count = len(next(iter(inputs.values())))
    size = -(-count // parts)
    for start in range(0, count, size):
        part = {name: tensor[start : start + size] for name, tensor in inputs.items()}
        yield part, min(size, count - start) / count
