"""How much device memory a call needs, measured in a pass of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from benchmark.measure.clock import Clock
from benchmark.measure.findings import Memory, NotMeasured


def measure_memory(call: Callable[[], object], clock: Clock, first_call_bytes: int | None = None) -> Memory:
    """Return the peaks of one call, the weights included, after all that nothing refers to was released.

    first_call_bytes: of a compiled model, the most that tensors held in its first call, in which it is compiled and
    captured: what a replayed graph uses does not count as held by tensors. The reservation of the allocator holds it.

    Raises:
        NotMeasured: there is no GPU.
    """
    if clock.peak_memory_bytes() is None:
        raise NotMeasured("no GPU")
    clock.release_unused()
    clock.begin_span()
    call()
    clock.synchronize()
    peaks = clock.span_peaks_bytes()
    assert peaks is not None, "there is a GPU"
    tensors, reserved = peaks
    of_cards = clock.card_peaks_bytes()
    segments = torch.cuda.memory_snapshot()  # type: ignore[no-untyped-call]
    grows = any(segment.get("is_expandable", False) for segment in segments)
    if first_call_bytes is None:
        return Memory(tensors, reserved, "call", grows, of_cards)
    return Memory(max(tensors, first_call_bytes), reserved, "first call", grows, of_cards)
