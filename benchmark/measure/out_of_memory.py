"""How it shows that memory ran out: torch, the CPU's allocator and CUDA's libraries say it in different ways."""

from __future__ import annotations

import torch

_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")
_INDEX_TEXTS = ("INT_MAX", "canUse32BitIndexMath")  # of kernels that count elements in 32 bits


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether a call did not fit, in memory or in a kernel's index, so that a smaller batch may go through."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in (*_TEXTS, *_INDEX_TEXTS))
