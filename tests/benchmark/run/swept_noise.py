"""A model for runs with sweeps: its level is an argument of the call, its kind is not. It stands where workers find it.

TROUBLE says what goes wrong at which level, "2:kill": the process is killed, "2:user" or "2:bug": an error is raised.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from models.base import ImageGenerator, ModelFamily, Request, Runtime, option

LOADED: list[str] = []  # what was loaded in this process, "1" or "compiled 1"
CALLED: list[int] = []  # the level of each call
ALIVE: list[int] = []  # the levels of the generators that are there


@dataclass(frozen=True)
class Options:
    level: int = option(1, "what the images show")
    kind: int = option(0, "which model")


class Swept(ImageGenerator):
    """Makes images of its level; `trouble` comes in the second call, which is timed."""

    def __init__(self, options: Options, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = "Swept", 8, 1_000_000
        self.options, self.runtime = options, runtime
        self.notes = (f"level {options.level}",)
        self._calls = 0
        troubles = dict(text.split(":") for text in os.environ.get("TROUBLE", "").split())
        self._trouble = troubles.get(str(options.level), "")
        ALIVE.append(options.level)

    def __del__(self) -> None:
        ALIVE.remove(self.options.level)

    def with_options(self, options: Options) -> Swept:
        if options.level > 9:
            raise ValueError("there is no such level")
        return Swept(options, self.runtime)

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        CALLED.append(self.options.level)
        self._calls += 1
        if self._calls == 2:
            if self._trouble == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._trouble == "user":
                raise ValueError("it cannot draw that")
            if self._trouble == "bug":
                raise RuntimeError("CUDA error: an illegal memory access")
        return torch.full((len(requests), 3, 8, 8), 10 * self.options.level, dtype=torch.uint8)


def load(options: Options, runtime: Runtime) -> Swept:
    mode = "" if runtime.mode == "eager" else f"{runtime.mode} "
    LOADED.append(f"{mode}{options.level}")
    return Swept(options, runtime)


FAMILY = ModelFamily(
    "swept", Options, lambda _: "Swept", lambda *_: "made up", load, call_options=frozenset({"level"})
)  # fmt: skip
