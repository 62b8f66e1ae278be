"""Makes a diffusers pipeline faster without changing what it computes: torch.compile and CUDA graphs."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree

from models.diffusers_networks import backbone_of, decoder_of
from models.pixart_conditions import keep_conditions, split_conditions

# How the networks run: as they are; their repeated blocks compiled; compiled whole; or by inductor's own CUDA graphs.
BASES = ("eager", "regional", "full", "trees")
# What may be added to a base, joined by "+"; each keeps the scheduler, the steps and the guidance.
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
    "empty": "the empty prompt is encoded once, not with every image",
    "once": "PixArt's cross-attention keys and values are worked out once an image; for whole compilation",
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
class Strategy:
    """A base of `BASES` and a set of `MODIFIERS`, written as "full+fuse+nhwc"."""

    base: str
    modifiers: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def parse(cls, text: str) -> Strategy:
        """Read a strategy.

        Raises:
            ValueError: a part of it is unknown.
        """
        base, *modifiers = text.split("+")
        if base not in BASES:
            raise ValueError(f"strategy {text}: {base} is none of {', '.join(BASES)}")
        for modifier in modifiers:
            if modifier not in MODIFIERS:
                raise ValueError(f"strategy {text}: {modifier} is none of {', '.join(MODIFIERS)}")
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


def speed_up(pipeline: Any, strategy: Strategy, device: str, backend: str = "inductor") -> None:
    """Change the pipeline in place so that its networks run by `strategy`; its first call then compiles.

    On a device that is not CUDA there are no graphs, and the rest holds.
    """
    backbone: Any = backbone_of(pipeline)
    decoder = decoder_of(pipeline)
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
    if "empty" in strategy.modifiers:
        _encode_empty_prompt_once(pipeline)
    conditions: Callable[..., torch.Tensor] | None = (
        split_conditions(backbone) if "once" in strategy.modifiers else None
    )
    for network in images + (texts if "text" in strategy.modifiers else []):
        _compile(network, strategy, backend)
    if device.startswith("cuda") and strategy.base != "trees" and "nograph" not in strategy.modifiers:
        pool = torch.cuda.graph_pool_handle()
        for network in images + texts:
            network.forward = GraphedCall(network.forward, pool, strategy.modifiers)
        conditions = GraphedCall(conditions, pool, strategy.modifiers) if conditions else None
    if conditions:
        backbone.forward = keep_conditions(backbone.forward, conditions)


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


def _encode_empty_prompt_once(pipeline: Any) -> None:
    """Keep the negative prompt's encoding where it is the empty one of PixArt: it is the same for every image."""
    encode = pipeline.encode_prompt
    if "prompt_attention_mask" not in inspect.signature(encode).parameters:
        raise ValueError(f"{type(pipeline).__name__} does not encode its empty prompt as PixArt does")
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []

    def encode_prompt(
        prompt: Any, do_classifier_free_guidance: bool = True, negative_prompt: str = "", **settings: Any
    ) -> tuple[Any, Any, Any, Any]:
        if not do_classifier_free_guidance or negative_prompt != "":
            answer: tuple[Any, Any, Any, Any] = encode(
                prompt, do_classifier_free_guidance, negative_prompt=negative_prompt, **settings
            )
            return answer
        if not kept:
            kept.append(encode([""], False, **settings)[:2])
        embeds, mask = encode(prompt, False, **settings)[:2]
        # Expanded, not copied: the pipeline joins them with the prompt's own.
        return embeds, mask, kept[0][0].expand_as(embeds), kept[0][1].expand_as(mask)

    pipeline.encode_prompt = encode_prompt
