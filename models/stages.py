"""The parts of a call of `generate`, and who is told when the call enters and leaves them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, Protocol

StageName = Literal["text encoder", "backbone", "decoder"]


@dataclass(frozen=True)
class Stage:
    """A part of a call of `generate`.

    text encoder: from prompts to features. backbone: the loop that denoises, or that predicts scale by scale, with its
    scheduler. decoder: from latents to pixels.
    calls: how often one `generate` enters the stage's networks; None where only the call itself tells.
    """

    name: StageName
    calls: int | None = None


class StageWatch(Protocol):
    """Is told on the host when a call enters and leaves a network of a stage, in the order of its work.

    The device may still be busy with what came before. Whoever measures can wait for it, or record an event in its
    stream, also while the work is captured as a CUDA graph.
    """

    def enter(self, stage: StageName) -> None:
        """A network of this stage is about to run."""
        ...

    def leave(self, stage: StageName) -> None:
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
