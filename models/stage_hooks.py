"""Tells a watch of the calls of networks, by PyTorch's own hooks: outside of what is compiled or captured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from models.stages import StageName, StageWatch


@contextmanager
def hooked(networks: Iterable[tuple[StageName, nn.Module]], watch: StageWatch) -> Iterator[None]:
    """Tell `watch` of each call of these networks as long as the context is open."""
    handles = []
    for stage, network in networks:
        # Bound as defaults: a closure would see the last stage of the loop.
        handles.append(network.register_forward_pre_hook(lambda *_, stage=stage: watch.enter(stage)))
        handles.append(network.register_forward_hook(lambda *_, stage=stage: watch.leave(stage)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
