"""Tells a watch of the calls of networks, by PyTorch's own hooks: outside of what is compiled or captured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from models.stages import StageName, StageWatch


@contextmanager
def hooked(networks: Iterable[tuple[StageName, nn.Module]], watch: StageWatch) -> Iterator[None]:
    """Tell `watch` of each call of these networks as long as the context is open.

    A network that runs inside another one while that is compiled or captured has no edges: what is compiled or
    replayed later would not have them.
    """
    handles = []
    for stage, network in networks:
        handles.append(network.register_forward_pre_hook(_telling(watch.enter, stage)))
        handles.append(network.register_forward_hook(_telling(watch.leave, stage)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _telling(tell: Callable[[StageName], None], stage: StageName) -> Callable[..., None]:
    def hook(*_: object) -> None:
        if not _is_recorded():
            tell(stage)

    return hook


def _is_recorded() -> bool:
    """Return whether operations are traced by the compiler, or captured as a CUDA graph, rather than run."""
    if torch.compiler.is_compiling():
        return True
    # Only an initialized CUDA can be asked, and a build without it never is.
    is_initialized: bool = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    return is_initialized and torch.cuda.is_current_stream_capturing()
