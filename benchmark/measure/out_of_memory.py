"""How it shows that memory ran out: torch, the CPU's allocator and CUDA's libraries say it in different ways."""

from __future__ import annotations

import torch

_TEXTS = ("out of memory", "not enough memory", "can't allocate memory", "STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory ran out, so that a smaller batch may go through."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
