"""What an image costs, and what the device can do now: a large matrix product, and a copy in its memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import psutil
import torch

from benchmark.measure.clock import Clock
from benchmark.measure.findings import Roofline
from benchmark.measure.flops import count_call
from models.base import DType, ImageGenerator, Request

# Sides of the square matrices, least and most: the least one that keeps the device busy for ENOUGH_S, or the most.
GPU_SIDES, CPU_SIDES = (2048, 8192), (1024, 2048)
ENOUGH_S = 1e-3
GPU_COPY_BYTES, CPU_COPY_BYTES = 2**30, 2**28
# Of the memory that is free, all tensors of one measurement take at most this share.
MOST_OF_FREE = 1 / 8
BLOCKS = 5
BLOCK_S = 0.05


def measure_roofline(
    generator: ImageGenerator, requests: Sequence[Request], clock: Clock, device: str, dtype: DType
) -> Roofline:
    """Return what an image of a call costs, and what the device reaches.

    generator: runs its plain networks (MODE=eager). requests: as `prepare` returned them.

    Raises:
        NotMeasured: the model does not name its networks.
    """
    counted = count_call(generator, requests)
    clock.release_unused()
    try:
        return Roofline(
            flops_per_image=counted.flops / len(requests),
            weight_bytes_per_image=counted.weight_bytes / len(requests),
            matrix_flops_per_s=measure_matrix_flops_per_s(clock, device, dtype),
            copy_bytes_per_s=measure_copy_bytes_per_s(clock, device),
            dtype=dtype,
        )
    finally:
        clock.release_unused()


def measure_matrix_flops_per_s(
    clock: Clock, device: str, dtype: DType, sides: tuple[int, int] | None = None, free_bytes: int | None = None
) -> float:
    """Return the FLOPs each second of a product of two square matrices of random numbers: of the fastest block.

    float32 is as precise as torch is set: on a GPU without TF32, unless a program allows it. sides: least and most.
    free_bytes: of the device's memory; None: as many as there are.
    """
    least, most = sides or (GPU_SIDES if device.startswith("cuda") else CPU_SIDES)
    number_type: torch.dtype = getattr(torch, dtype)
    room_bytes = MOST_OF_FREE * (_free_bytes(device) if free_bytes is None else free_bytes)
    # A generator of its own: what draws from torch's goes on as if nothing had been measured.
    generator = torch.Generator(device).manual_seed(0)
    side = least
    while True:
        first, second = (
            torch.randn(side, side, device=device, dtype=number_type, generator=generator) for _ in range(2)
        )
        product = torch.empty_like(first)
        multiply = _multiplication(first, second, product)
        multiply()
        grown_bytes = 3 * first.nbytes * 4
        if clock.time(multiply)[1] >= ENOUGH_S or 2 * side > most or grown_bytes > room_bytes:
            return 2 * side**3 / best_seconds(multiply, clock)
        side *= 2


def _multiplication(first: torch.Tensor, second: torch.Tensor, product: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.mm(first, second, out=product)


def measure_copy_bytes_per_s(
    clock: Clock, device: str, copied_bytes: int | None = None, free_bytes: int | None = None
) -> float:
    """Return the bytes that a copy in the device's memory reads and writes each second, in the fastest block.

    copied_bytes: None: enough to keep the device busy. free_bytes: of the device's memory; None: as many as there are.
    """
    wanted = copied_bytes or (GPU_COPY_BYTES if device.startswith("cuda") else CPU_COPY_BYTES)
    room_bytes = MOST_OF_FREE * (_free_bytes(device) if free_bytes is None else free_bytes)
    count = int(min(wanted, room_bytes / 2)) // 4
    # Filled: pages that were never written have no memory of their own on a CPU.
    source = torch.full((count,), 1.0, device=device)
    target = torch.zeros_like(source)
    return 2 * source.nbytes / best_seconds(lambda: target.copy_(source), clock)


def best_seconds(call: Callable[[], object], clock: Clock) -> float:
    """Return the seconds of one call, in the fastest of several blocks of calls; a call and a block go before these."""
    call()
    seconds = clock.time(call)[1]
    calls = max(1, math.ceil(BLOCK_S / max(seconds, 1e-6)))

    def block() -> None:
        for _ in range(calls):
            call()

    return min(clock.time(block)[1] for _ in range(BLOCKS)) / calls


def _free_bytes(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(device)[0]
    return int(psutil.virtual_memory().available)
