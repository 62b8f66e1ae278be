"""A loaded pipeline called with other options: what calls share of it, and what each way of calling has of its own."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from typing import TYPE_CHECKING, Any

from models.base import Runtime
from models.pipelines.calls import GUIDERS

if TYPE_CHECKING:
    from models.pipelines.generator import DiffusersGenerator

Ask = Callable[[Any, Any], "DiffusersGenerator"]  # takes a pipeline and options, and changes no network


class LoadedPipeline:
    """A pipeline as it was loaded, before options changed it; `ask` makes generators of it.

    Its networks are shared. Schedulers and guiders, which options replace and calls leave in another state, are not.
    """

    def __init__(self, pipeline: Any, ask: Ask) -> None:
        self._ask = ask
        self._own = {name: deepcopy(part) for name, part in _parts(pipeline).items() if _is_of_a_call(name)}

    def ask(self, pipeline: Any, options: Any) -> DiffusersGenerator:
        """Return what calls the pipeline's networks with these options; `pipeline` itself stays as it is.

        pipeline: the one that was loaded, or a copy of it, with what compilation has changed in it since.
        """
        another = copy(pipeline)
        for name, part in self._own.items():
            setattr(another, name, deepcopy(part))
        return self._ask(another, options)


def place_reusable(pipeline: Any, ask: Ask, options: Any, runtime: Runtime, strategy: str) -> DiffusersGenerator:
    """Return a pipeline, as it was loaded, on the run's device as a generator that can be asked for other options.

    strategy: its fastest exact form (see `models.pipelines.compiled`).
    """
    loaded = LoadedPipeline(pipeline, ask)
    generator = ask(pipeline, options)
    generator.loaded = loaded
    generator.place(runtime, strategy)
    return generator


def _parts(pipeline: Any) -> dict[str, Any]:
    parts: dict[str, Any] = getattr(pipeline, "components", {})
    return parts


def _is_of_a_call(name: str) -> bool:
    return "scheduler" in name or name in GUIDERS
