"""A loaded pipeline called with other options: what calls share of it, and what each way of calling has of its own."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy, deepcopy
from typing import Any, Generic, TypeVar

from models.pipelines.calls import GUIDERS

GeneratorT = TypeVar("GeneratorT")


class LoadedPipeline(Generic[GeneratorT]):
    """A pipeline as it was loaded, before options changed it. Its networks are shared by all that is asked of it.

    Schedulers and guiders, which options replace and calls leave in another state, are not.

    ask: takes a pipeline and options, and returns what calls the one with the other; it changes no network.
    """

    def __init__(self, pipeline: Any, ask: Callable[[Any, Any], GeneratorT]) -> None:
        self._ask = ask
        parts = getattr(pipeline, "components", {}).items()
        self._own = {name: deepcopy(part) for name, part in parts if "scheduler" in name or name in GUIDERS}

    def ask(self, pipeline: Any, options: Any) -> GeneratorT:
        """Return what calls the pipeline's networks with these options; `pipeline` itself stays as it is.

        pipeline: the one that was loaded, or a copy of it, with what compilation has changed in it since.
        """
        another = copy(pipeline)
        for name, part in self._own.items():
            setattr(another, name, deepcopy(part))
        return self._ask(another, options)
