"""The parts of a call of `generate`, and who is told when the call enters and leaves them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from torch.cuda import Event

StageName = Literal["text encoder", "backbone", "decoder"]


@dataclass(frozen=True)
class Stage:
    """A part of a call of `generate`.

    text encoder: from prompts to features. backbone: the loop that denoises, or that predicts scale by scale, with its
    scheduler. decoder: from latents to pixels.
    calls: how often one `generate` enters the stage's networks, next-scale models their backbone once a scale; None
    where only the call itself tells.
    """

    name: StageName
    calls: int | None = None


class StageWatch(Protocol):
    """Is told on the host when a call enters and leaves a network of a stage, in the order of its work.

    The device may still be busy with what came before. Of work that is a CUDA graph the watch is told once the graph
    has been launched, edge by edge.
    event: is recorded by the graph where the edge is, and again by its next launch; None: the edge is now, behind all
    that was launched so far.
    """

    def enter(self, stage: StageName, event: Event | None = None) -> None:
        """A network of this stage is about to run."""
        ...

    def leave(self, stage: StageName, event: Event | None = None) -> None:
        """It has been launched."""
        ...


@contextmanager
def inside(watch: StageWatch | None, stage: StageName) -> Iterator[None]:
    """Tell the watch, if there is one, that the work of this context is the stage's."""
    if watch is None:
        yield
        return
    watch.enter(stage)
    try:
        yield
    finally:
        watch.leave(stage)
