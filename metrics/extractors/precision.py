"""Arithmetic of the extractors: float32 that is float32, and TF32 or bfloat16 where they were chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from metrics.base import FeatureDType
from metrics.images import stack_by_size

NAMES: dict[FeatureDType, str] = {"float32": "fp32", "tf32": "tf32", "bfloat16": "bf16"}


def place(network: nn.Module, device: str, dtype: FeatureDType) -> nn.Module:
    """Return a frozen network on the device, its weights in what they compute in."""
    kept = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    placed = network.eval().requires_grad_(False).to(device, kept).to(memory_format=memory_format(device, dtype))
    if dtype == "bfloat16" and device.startswith("cuda"):
        return CompiledBatches(placed)
    return placed


def memory_format(device: str, dtype: FeatureDType) -> torch.memory_format:
    """Return how images lie: channels last, but where cuDNN computes in full float32, which is then a sixth slower."""
    if dtype == "float32" and device.startswith("cuda"):
        return torch.contiguous_format
    return torch.channels_last


class CompiledBatches(nn.Module):
    """A network compiled for batches of one size, the first one's; a smaller one is filled up."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.network.compile(dynamic=False)
        self.size = 0

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return `features_BD`."""
        count = len(images_BCHW)
        self.size = max(self.size, count)
        if count < self.size:
            filled_BCHW = images_BCHW.new_zeros(self.size, *images_BCHW.shape[1:])
            filled_BCHW[:count] = images_BCHW
            images_BCHW = filled_BCHW.contiguous(memory_format=torch.channels_last)
        features_BD: Tensor = self.network(images_BCHW)
        return features_BD[:count]


@contextmanager
def full_float32(allow_tf32: bool = False) -> Iterator[None]:
    """Run convolutions and matrix products of the block in full float32: by default cuDNN rounds to TF32.

    allow_tf32: in TF32 instead, both of them. The process's own choice is put back after the block.
    """
    convolutions = torch.backends.cudnn.allow_tf32
    products = torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = allow_tf32
    torch.set_float32_matmul_precision("high" if allow_tf32 else "highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = convolutions
        torch.set_float32_matmul_precision(products)


def run_by_size(
    network: nn.Module,
    images: Sequence[Tensor],
    device: str,
    dtype: FeatureDType,
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return `features_ND`, float32 on the CPU, of uint8 `image_CHW` of any sizes; `network` came from `place`.

    prepare: from uint8 images of one size, on the device, to what the network takes, float32. Images of all sizes then
    go through the network together.
    """
    with torch.inference_mode(), full_float32(allow_tf32=dtype == "tf32"):
        order: list[int] = []
        prepared = []
        for places, images_BCHW in stack_by_size(images):
            order += places
            prepared.append(prepare(images_BCHW.to(device)))
        weights = next(network.parameters())
        batch_BCHW = torch.cat(prepared).to(weights.dtype).contiguous(memory_format=memory_format(device, dtype))
        features_ND: Tensor = network(batch_BCHW)
        return features_ND.float().cpu()[torch.tensor(order).argsort()]


def float64_device(device: str) -> str:
    """Return where float64 statistics are computed for a run on `device`: on CUDA itself, else on the CPU."""
    return device if device.startswith("cuda") else "cpu"
