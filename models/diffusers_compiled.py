"""Makes a diffusers pipeline faster without changing what it computes: torch.compile and CUDA graphs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from models.diffusers_networks import backbone_of, steady_decoder_of

# How the networks run: as they are; their repeated blocks compiled; compiled whole; or by inductor's own CUDA graphs.
BASES = ("eager", "regional", "full", "trees")
# What may be added to a base, joined by "+"; each keeps the scheduler, the steps and the guidance. A family may bring
# others that fit its networks alone.
MODIFIERS = {
    "fuse": "one matrix product for query, key and value",
    "nhwc": "convolutions in channels_last",
    "gemm": "inductor tries several kernels for each matrix product",
    "autotune": "the same for convolutions too",
    "descent": "inductor tunes its own kernels further",
    "freeze": "inductor may fold and lay out weights anew",
    "bench": "cuDNN tries its kernels for the convolutions that are left to it",
    "cudnn": "attention by cuDNN where it can",
    "text": "text encoders are compiled too",
    "nograph": "no CUDA graphs of our own",
}
_INDUCTOR_OPTIONS = {
    "gemm": {"max_autotune_gemm": True},
    "autotune": {"max_autotune": True},
    "descent": {"coordinate_descent_tuning": True},
    "freeze": {"freezing": True},
}
# By class name, as diffusers' own list of repeated blocks; the residual blocks are most of a UNet's other time.
_REPEATED_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D")
# Residual blocks come in about a dozen shapes, and torch gives up on a function after eight.
_SHAPES_PER_FUNCTION = 64
_WARMUPS = 3
_ATTENTION = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]


@dataclass(frozen=True)
class Extracted:
    """Work that was taken out of the backbone's forward, to be done less often.

    function: does it, of tensors alone; on a GPU it gets CUDA graphs of its own. join: takes the backbone's forward,
    compiled, and the function, and returns the forward that the pipeline calls.
    """

    function: Callable[..., torch.Tensor]
    join: Callable[[Callable[..., Any], Callable[..., torch.Tensor]], Callable[..., Any]]


@dataclass(frozen=True)
class FamilyModifier:
    """A modifier that a family of models hands over, since it knows its pipeline.

    apply: changes the pipeline in place before its networks are compiled. Raises ValueError where it is another one.
    """

    help: str
    apply: Callable[[Any], Extracted | None]


@dataclass(frozen=True)
class Strategy:
    """A base of `BASES` and a set of modifiers, the general or a family's, written as "full+fuse+nhwc"."""

    base: str
    modifiers: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, text: str, of_family: Iterable[str] = ()) -> Strategy:
        """Read a strategy. of_family: names of the family's own modifiers.

        Raises:
            ValueError: a part of it is unknown.
        """
        base, *modifiers = text.split("+")
        known = (*MODIFIERS, *of_family)
        if base not in BASES:
            raise ValueError(f"strategy {text}: {base} is none of {', '.join(BASES)}")
        for modifier in modifiers:
            if modifier not in known:
                raise ValueError(f"strategy {text}: {modifier} is none of {', '.join(known)}")
        return cls(base, frozenset(modifiers))

    @property
    def inductor_options(self) -> dict[str, Any]:
        """What torch.compile is told to try."""
        return {
            key: value
            for name, more in _INDUCTOR_OPTIONS.items()
            if name in self.modifiers
            for key, value in more.items()
        }


class GraphedCall:
    """A function of tensors on a GPU, replayed as a CUDA graph: one graph for each set of shapes.

    All that is not a tensor is part of the graph's key. Answers are copies, so that they outlive the next call.
    """

    def __init__(self, function: Callable[..., Any], pool: Any, modifiers: frozenset[str]) -> None:
        self.function = function
        self.pool = pool
        self.modifiers = modifiers
        self.graphs: dict[tuple[object, ...], tuple[Any, list[torch.Tensor], Any]] = {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the function's answer; the first call with new shapes compiles and captures."""
        leaves, layout = pytree.tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        key = tuple((leaf.shape, leaf.dtype) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves)
        if key not in self.graphs:
            self.graphs[key] = self._capture(leaves, layout)
        graph, inputs, answer = self.graphs[key]
        for held, given in zip(inputs, tensors, strict=True):
            held.copy_(given)
        graph.replay()
        return pytree.tree_map_only(torch.Tensor, torch.clone, answer)

    def _capture(self, leaves: list[Any], layout: Any) -> tuple[Any, list[torch.Tensor], Any]:
        held = [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
        args, kwargs = pytree.tree_unflatten(held, layout)
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
            torch.cuda.current_stream().wait_stream(stream)
            graph = torch.cuda.CUDAGraph()
            # Another thread may be copying images meanwhile, which a global capture would take for an error.
            with torch.cuda.graph(graph, pool=self.pool, capture_error_mode="thread_local"):
                answer = self.function(*args, **kwargs)
        return graph, [leaf for leaf in held if isinstance(leaf, torch.Tensor)], answer


def speed_up(
    pipeline: Any,
    strategy: Strategy,
    device: str,
    of_family: Mapping[str, FamilyModifier] = {},
    backend: str = "inductor",
) -> None:
    """Change the pipeline in place so that its networks run by `strategy`; its first call then compiles.

    On a device that is not CUDA there are no graphs, and the rest holds. of_family: the family's own modifiers by name.

    Raises:
        ValueError: the pipeline's networks cannot be changed as the strategy says.
    """
    backbone: Any = backbone_of(pipeline)
    decoder = steady_decoder_of(pipeline)
    texts = [part for name, part in pipeline.components.items() if name.startswith("text_encoder") and part is not None]
    images = [network for network in (backbone, decoder) if network is not None]
    if "fuse" in strategy.modifiers:
        # The decoder's one attention is not worth it; not every backbone has the method.
        if not hasattr(backbone, "fuse_qkv_projections"):
            raise ValueError(f"{type(backbone).__name__} cannot fuse its projections")
        backbone.fuse_qkv_projections()
    if "nhwc" in strategy.modifiers:
        for network in images:
            network.to(memory_format=torch.channels_last)
    applied = [modifier.apply(pipeline) for name, modifier in of_family.items() if name in strategy.modifiers]
    extracted = [work for work in applied if work is not None]
    for network in images + (texts if "text" in strategy.modifiers else []):
        _compile(network, strategy, backend)
    if device.startswith("cuda") and strategy.base != "trees" and "nograph" not in strategy.modifiers:
        pool = torch.cuda.graph_pool_handle()
        for network in images + texts:
            network.forward = GraphedCall(network.forward, pool, strategy.modifiers)
        extracted = [replace(work, function=GraphedCall(work.function, pool, strategy.modifiers)) for work in extracted]
    for work in extracted:
        backbone.forward = work.join(backbone.forward, work.function)


def _compile(network: torch.nn.Module, strategy: Strategy, backend: str) -> None:
    settings: dict[str, Any] = {"backend": backend, "dynamic": False}
    if backend == "inductor":
        settings["options"] = strategy.inductor_options
    if strategy.base == "regional":
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES_PER_FUNCTION)
        for module in network.modules():
            if type(module).__name__ in _REPEATED_BLOCKS:
                module.compile(fullgraph=True, **settings)
    elif strategy.base == "full":
        network.forward = torch.compile(network.forward, fullgraph=True, **settings)
    elif strategy.base == "trees":
        if backend == "inductor":
            settings["options"] = strategy.inductor_options | {"triton.cudagraphs": True}
        network.forward = _fresh_step(torch.compile(network.forward, fullgraph=True, **settings))


def _fresh_step(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Tell inductor's graphs that earlier answers may be overwritten, and copy this one out of their memory."""

    def call(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return pytree.tree_map_only(torch.Tensor, torch.clone, compiled(*args, **kwargs))

    return call
