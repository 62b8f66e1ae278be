"""Float32 that is float32: keeps TF32 out of a block of code, and puts the process's own choice back after it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Run convolutions and matrix products of the block in full float32: by default cuDNN rounds to TF32."""
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def float64_device(device: str) -> str:
    """Return where float64 statistics are computed for a run on `device`: on CUDA itself, else on the CPU."""
    return device if device.startswith("cuda") else "cpu"
