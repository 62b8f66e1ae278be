"""Which errors say that memory ran out."""

from __future__ import annotations

import pytest
import torch

from benchmark.measure.out_of_memory import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("upsample_nearest_nhwc only supports output tensors with less than INT_MAX elements"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=str,
)
def test_these_say_so(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_the_allocator_of_the_cpu_says_so() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


@pytest.mark.parametrize("error", [RuntimeError("an illegal memory access"), ValueError("out of memory")], ids=str)
def test_others_do_not(error: Exception) -> None:
    assert not is_out_of_memory(error)
