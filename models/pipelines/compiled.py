"""Makes a diffusers pipeline faster without changing what it computes: torch.compile and CUDA graphs."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch._dynamo.exc import FailOnRecompileLimitHit, TorchDynamoException
from torch.utils import _pytree as pytree

from models.networks.cuda_graphs import use_device
from models.pipelines.cuda_graphs import GraphedCall
from models.pipelines.networks import backbones_of, steady_decoder_of, text_encoders_of
from models.pipelines.rehearsal import ALL_ALIKE, Findings
from models.pipelines.repeated_blocks import repeated_blocks

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
# Residual blocks come in about a dozen shapes, and torch gives up on a function after eight.
_SHAPES_PER_FUNCTION = 64


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

    def has_graphs(self, device: str) -> bool:
        """Return whether networks become CUDA graphs of our own on this device."""
        return device.startswith("cuda") and self.base != "trees" and "nograph" not in self.modifiers

    @property
    def inductor_options(self) -> dict[str, Any]:
        """What torch.compile is told to try."""
        return {
            key: value
            for name, more in _INDUCTOR_OPTIONS.items()
            if name in self.modifiers
            for key, value in more.items()
        }


@dataclass
class SpedUp:
    """What was done to a pipeline's networks, by the names of their classes.

    modules: how many modules were compiled: its blocks or, by the bases that take it whole, the network itself.
    graphed: what is replayed as CUDA graphs; extracted: of these, what was taken out of the backbone. plain: why a
    network is not, where the strategy has graphs.
    """

    base: str
    modules: dict[str, int] = field(default_factory=dict)
    graphed: dict[str, list[GraphedCall]] = field(default_factory=dict)
    plain: dict[str, str] = field(default_factory=dict)
    extracted: list[GraphedCall] = field(default_factory=list)
    _owner: weakref.ref[object] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def graphs(self) -> dict[str, int]:
        """How many CUDA graphs have been captured so far, by the class of the network."""
        return {name: sum(len(call.graphs) for call in calls) for name, calls in self.graphed.items()}

    def capture_for(self, owner: object) -> None:
        """Let all graphs from now on be those of `owner`; those that were captured for another one are dropped.

        Generators of one pipeline that are called with other options are each the owner of their graphs, which go
        when they do.
        """
        if self._owner is None or self._owner() is not owner:
            if self._owner is not None:
                self._drop_graphs()
            self._owner = weakref.ref(owner, self._drop_graphs_of)

    def _drop_graphs_of(self, owner: weakref.ref[object]) -> None:
        if owner is self._owner:
            self._drop_graphs()

    def _drop_graphs(self) -> None:
        calls = [*self.extracted, *(call for calls in self.graphed.values() for call in calls)]
        if any(call.graphs for call in calls):
            pool = torch.cuda.graph_pool_handle()  # one that has lost its graphs cannot be used again
            for call in calls:
                call.drop_graphs(pool)

    def note(self, strategy: str) -> str:
        """Return the footer's note: by which strategy, and, where it compiles blocks, how many of which network."""
        found = [f"compiled: {strategy}"]
        if self.base == "regional":
            found += [f"{count} block{'s' * (count > 1)} of {name}" for name, count in self.modules.items()]
        parts = [", ".join(found)]
        for reason in dict.fromkeys(self.plain.values()):
            names = ", ".join(name for name, why in self.plain.items() if why == reason)
            parts.append(f"no CUDA graphs of {names}: {reason}")
        return "; ".join(parts)


def speed_up(
    pipeline: Any,
    strategy: Strategy,
    device: str,
    of_family: Mapping[str, FamilyModifier] = {},
    backend: str = "inductor",
    findings: Findings = ALL_ALIKE,
) -> SpedUp:
    """Change the pipeline in place so that its networks run by `strategy`; its first call then compiles.

    On a device that is not CUDA there are no graphs, and the rest holds. of_family: the family's own modifiers by name.
    findings: of a rehearsal; without one, each network is taken to get the same sizes for each prompt.

    Raises:
        ValueError: the networks cannot be changed as the strategy says, or it compiles nothing in them.
    """
    backbones: list[Any] = backbones_of(pipeline)
    decoder = steady_decoder_of(pipeline)
    texts = text_encoders_of(pipeline)
    images = [*backbones, decoder] if decoder is not None else backbones
    if "fuse" in strategy.modifiers:
        for backbone in backbones:
            # The decoder's one attention is not worth it; not every backbone has the method.
            if not hasattr(backbone, "fuse_qkv_projections"):
                raise ValueError(f"{type(backbone).__name__} cannot fuse its projections")
            backbone.fuse_qkv_projections()
    if "nhwc" in strategy.modifiers:
        for network in images:
            network.to(memory_format=torch.channels_last)
    applied = [modifier.apply(pipeline) for name, modifier in of_family.items() if name in strategy.modifiers]
    extracted = [work for work in applied if work is not None]
    done = SpedUp(strategy.base)
    for network in images + (texts if "text" in strategy.modifiers else []):
        if count := _compile(network, strategy, backend, network in findings.varying):
            name = type(network).__name__
            done.modules[name] = done.modules.get(name, 0) + count
    if strategy.base != "eager" and not any(type(backbone).__name__ in done.modules for backbone in backbones):
        names = ", ".join(dict.fromkeys(type(backbone).__name__ for backbone in backbones))
        raise ValueError(f"nothing in {names} can be compiled by {strategy.base}: set MODE=eager")
    if strategy.has_graphs(device):
        use_device(device)
        pool = torch.cuda.graph_pool_handle()
        for network in images + texts:
            name = type(network).__name__
            if network in findings.plain:
                done.plain[name] = findings.plain[network]
                continue
            network.forward = GraphedCall(network.forward, pool, strategy.modifiers)
            done.graphed.setdefault(name, []).append(network.forward)
        done.extracted = [GraphedCall(work.function, pool, strategy.modifiers) for work in extracted]
        extracted = [
            replace(work, function=call) for work, call in zip(extracted, done.extracted, strict=True)
        ]  # fmt: skip
    for work in extracted:
        (backbone,) = backbones
        backbone.forward = work.join(backbone.forward, work.function)
    return done


def _compile(network: torch.nn.Module, strategy: Strategy, backend: str, varies: bool) -> int:
    """Compile what the strategy's base says, and return how many modules that are."""
    # Fixed sizes are the fastest, but each prompt's length would then be compiled in a timed call.
    settings: dict[str, Any] = {"backend": backend, "dynamic": varies}
    if backend == "inductor":
        settings["options"] = strategy.inductor_options
    if strategy.base == "eager":
        return 0
    if strategy.base == "regional":
        blocks = repeated_blocks(network)
        torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _SHAPES_PER_FUNCTION)
        for block in blocks:
            block.compile(fullgraph=True, **settings)
        if blocks:
            network.forward = _told(network.forward, network)
        return len(blocks)
    if strategy.base == "trees" and backend == "inductor":
        settings["options"] = strategy.inductor_options | {"triton.cudagraphs": True}
    compiled = torch.compile(network.forward, fullgraph=True, **settings)
    network.forward = _told(_fresh_step(compiled) if strategy.base == "trees" else compiled, network)
    return 1


def _told(forward: Callable[..., Any], network: torch.nn.Module) -> Callable[..., Any]:
    """Turn the compiler's errors, which are found in the first call and fill a page, into one line."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return forward(*args, **kwargs)
        except (TorchDynamoException, FailOnRecompileLimitHit) as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{type(network).__name__} cannot be compiled ({reason}): set MODE=eager") from error

    return call


def _fresh_step(compiled: Callable[..., Any]) -> Callable[..., Any]:
    """Tell inductor's graphs that earlier answers may be overwritten, and copy this one out of their memory."""

    def call(*args: Any, **kwargs: Any) -> Any:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        return pytree.tree_map_only(torch.Tensor, torch.clone, compiled(*args, **kwargs))

    return call
