"""A function of tensors as CUDA graphs, where that gives its own answers."""

from __future__ import annotations

import enum
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

_WARMUPS = 3
# Each has its own copy of the inputs and answers. A model that needs more is asked for another one at every step.
_MOST_GRAPHS = 16
_ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
# What is the same for ever once it has been captured. Other objects may hold tensors, or change.
_CONSTANTS = (type(None), bool, int, float, str, torch.dtype, torch.device, torch.Size, enum.Enum)

Key = tuple[object, ...]


def key_of(args: Any, kwargs: Any, device_type: str = "cuda") -> Key | None:
    """Return what a graph for this call would be kept by, or None where its arguments do not allow one.

    That is the layout of the arguments, the shape and dtype of each tensor, and the value of each constant. A tensor on
    another device would be read once, when the graph is captured; and what another object holds is not seen.
    """
    leaves, layout = pytree.tree_flatten((args, kwargs))
    key: list[object] = [repr(layout)]
    for leaf in leaves:
        if isinstance(leaf, torch.Tensor):
            if leaf.device.type != device_type:
                return None
            key.append((leaf.shape, leaf.dtype))
        elif isinstance(leaf, _CONSTANTS):
            key.append((type(leaf), leaf))
        else:
            return None
    return tuple(key)


class GraphedCall:
    """A function of tensors on a GPU, replayed as a CUDA graph: one graph for each set of shapes.

    All that is not a tensor is part of the graph's key. Answers are copies, so that they outlive the next call.
    Calls that a graph would answer wrongly run as they are: with tensors of the host, with objects that may change, and
    of a function that writes into its arguments. So do those that come after as many graphs as are kept.
    """

    device_type = "cuda"

    def __init__(self, function: Callable[..., Any], pool: Any, modifiers: frozenset[str]) -> None:
        self.function = function
        self.pool = pool
        self.modifiers = modifiers
        self.graphs: dict[Key, tuple[Any, list[torch.Tensor], Any]] = {}
        self.plain_calls = 0
        self._writes = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the function's answer; the first call with new shapes compiles and captures."""
        key = None if self._writes else key_of(args, kwargs, self.device_type)
        if key is not None and key not in self.graphs and len(self.graphs) < _MOST_GRAPHS:
            captured = self._capture(args, kwargs)
            if captured is None:
                self._writes = True
            else:
                self.graphs[key] = captured
        if key is None or key not in self.graphs:
            self.plain_calls += 1
            return self.function(*args, **kwargs)
        graph, inputs, answer = self.graphs[key]
        for held, given in zip(inputs, tensors_of((args, kwargs)), strict=True):
            held.copy_(given)
        graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, answer)

    def drop_graphs(self, pool: Any) -> None:
        """Forget all graphs, as if there had been no call; later ones take their memory from `pool`."""
        self.graphs.clear()
        self.pool, self.plain_calls, self._writes = pool, 0, False

    def _capture(self, args: Any, kwargs: Any) -> tuple[Any, list[torch.Tensor], Any] | None:
        """Return a graph with its inputs and answer, or None where the function writes into its arguments."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, torch.clone, (args, kwargs))
        held, layout = pytree.tree_flatten((args, kwargs))
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with ExitStack() as settings:
            if "bench" in self.modifiers:
                tf32 = torch.backends.cudnn.allow_tf32
                settings.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32))
            if "cudnn" in self.modifiers:
                settings.enter_context(sdpa_kernel(_ATTENTION, set_priority=True))
            # Compilation, autotuning and the libraries' workspaces must be done with before the capture.
            with torch.cuda.stream(stream):
                for _ in range(_WARMUPS):
                    self.function(*args, **kwargs)
                    if not is_unchanged(held, layout, (args, kwargs)):
                        torch.cuda.current_stream().synchronize()
                        return None
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Another thread may be copying images meanwhile, which a global capture would take for an error.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                answer = self.function(*args, **kwargs)
        return graph, [leaf for leaf in held if isinstance(leaf, torch.Tensor)], answer


def is_unchanged(leaves: list[Any], layout: Any, arguments: Any) -> bool:
    """Return whether arguments still consist of the very leaves that they were flattened into."""
    now, layout_now = pytree.tree_flatten(arguments)
    return layout_now == layout and all(one is other for one, other in zip(now, leaves, strict=True))


def tensors_of(arguments: Any) -> list[torch.Tensor]:
    """Return the tensors among the leaves of arguments, in their order."""
    return [leaf for leaf in pytree.tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
