"""What changes between the calls of a pipeline's networks: found by two short calls, before anything is compiled.

A CUDA graph repeats what it was captured with: sizes, numbers of the host, and what the host decided by values that it
read. And where sizes change with the prompt, each would be compiled anew if they were not kept open.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import nn

from models.base import Request
from models.pipelines.cuda_graphs import Key, key_of, tensors_of
from models.pipelines.networks import backbones_of, decoder_of, text_encoders_of
from models.pipelines.repeated_blocks import repeated_blocks

VARIES = "its inputs change with the prompt's length"
CHANGES = "it takes other numbers at every step"
HOLDS = "not all of its inputs are on the GPU"
READS = "the host reads its values"
LOOKS = "the pipeline looks inside of it"
OTHER = "it may differ from call to call"

_PROMPTS = ("a", "a red cube and a blue sphere on an old table of dark wood, in the light of the evening")
# With and without the prompt, and a second step.
_CALLS = 4
# Known to do the same for each image: prompts are padded to one length, and nothing is kept between calls.
_STEADY = ("CLIPTextModel", "CLIPTextModelWithProjection", "T5EncoderModel", "Decoder")
# They read the attention of some blocks after each step.
_LOOKING = ("StableDiffusionSAGPipeline",)


Sizes = tuple[torch.Size, ...]


@dataclass
class Calls:
    """What a network was called with.

    sizes: of its tensors. keys: what graphs would be kept by (see `key_of`). inner: the sizes of its blocks' tensors,
    which may change where its own do not: some networks take the padding away by themselves.
    """

    sizes: set[Sizes] = field(default_factory=set)
    keys: list[Key | None] = field(default_factory=list)
    inner: set[Sizes] = field(default_factory=set)


class _Enough(Exception):
    """A call has shown what it is made for."""


@dataclass(frozen=True)
class Findings:
    """What a rehearsal found.

    plain: the networks that must run without CUDA graphs, each with the reason. varying: the backbones in which sizes
    change with the prompt.
    """

    plain: Mapping[nn.Module, str] = field(default_factory=dict)
    varying: Collection[nn.Module] = ()


ALL_ALIKE = Findings()


def rehearse(pipeline: Any, generate: Callable[[Sequence[Request]], object], device_type: str) -> Findings:
    """Return what changes from prompt to prompt and from step to step.

    generate: makes images with the pipeline; its calls are broken off after a few steps. device_type: "cuda" or "cpu",
    where the pipeline is.
    """
    backbones, texts, decoder = backbones_of(pipeline), text_encoders_of(pipeline), decoder_of(pipeline)
    others = [*texts, *([decoder] if decoder is not None else [])]
    plain = {network: OTHER for network in others if type(network).__name__ not in _STEADY}
    if type(pipeline).__name__ in _LOOKING:
        plain |= dict.fromkeys(backbones, LOOKS)
    # A prior of another library may well be a language model.
    own = [network for network in backbones if type(network).__module__.startswith("diffusers.")]
    plain |= {network: OTHER for network in backbones if network not in own}
    watched = [*own, *(network for network in texts if network not in plain)]
    stage = _Stage(generate, watched, backbones[-1], decoder, device_type)
    first, _ = stage.rehearse(_PROMPTS[0])
    reading: set[nn.Module] = set()
    while True:
        # In the second call all that is made once is there, so that what is read now is read each time.
        unsuspected = [network for network in own if device_type == "cuda" and network not in reading]
        second, reads = stage.rehearse(_PROMPTS[1], unsuspected)
        if reads is None:
            break
        reading.add(reads)
    for network in watched:
        if reason := READS if network in reading else _difference(first[network], second[network]):
            plain.setdefault(network, reason)
    return Findings(plain, [network for network in own if first[network].inner != second[network].inner])


def _difference(first: Calls, second: Calls) -> str:
    """Return why calls for two prompts do not fit one graph each with and without the prompt; "" where they do."""
    if first.sizes != second.sizes:
        return VARIES
    keys = set(first.keys), set(second.keys)
    if None in keys[0] | keys[1]:
        return HOLDS
    return CHANGES if keys[0] != keys[1] or len(keys[0]) > 2 else ""


@dataclass(frozen=True)
class _Stage:
    """What is called, what is watched, and where a call is broken off: before the decoder, or in the last network."""

    generate: Callable[[Sequence[Request]], object]
    watched: Sequence[nn.Module]
    last: nn.Module
    decoder: nn.Module | None
    device_type: str

    def rehearse(self, prompt: str, checked: Collection[nn.Module] = ()) -> tuple[dict[nn.Module, Calls], Any]:
        """Return what the networks were called with, and which of `checked` made the host wait for its values."""
        calls = {network: Calls() for network in (*self.watched, self.last)}
        inside: list[nn.Module] = []

        def enter(network: nn.Module, args: Any, kwargs: Any) -> None:
            if network is self.decoder or (network is self.last and len(calls[network].keys) == _CALLS):
                raise _Enough
            calls[network].sizes.add(_sizes(args, kwargs))
            calls[network].keys.append(key_of(args, kwargs, self.device_type))
            if network in checked:
                inside.append(network)
                _set_sync_check("error")

        def leave(network: nn.Module, *_: Any) -> None:
            if network in checked:
                _set_sync_check("default")
                inside.pop()

        with ExitStack() as hooks:
            if checked:
                hooks.callback(_set_sync_check, torch.cuda.get_sync_debug_mode())
            for network, seen in calls.items():
                hooks.callback(network.register_forward_pre_hook(enter, with_kwargs=True).remove)
                hooks.callback(network.register_forward_hook(leave).remove)
                for block in repeated_blocks(network):
                    note = partial(_note_sizes, seen.inner)
                    hooks.callback(block.register_forward_pre_hook(note, with_kwargs=True).remove)
            if self.decoder is not None:
                hooks.callback(self.decoder.register_forward_pre_hook(enter, with_kwargs=True).remove)
            try:
                self.generate([Request(0, prompt, 0)])
            except _Enough:
                pass
            except RuntimeError as error:
                if not inside or "synchroniz" not in str(error):
                    raise
                return calls, inside[-1]
        return calls, None


def _set_sync_check(mode: int | str) -> None:
    """Set whether it is an error that the host waits for the GPU. torch warns that the mode may change its form."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.cuda.set_sync_debug_mode(mode)


def _note_sizes(seen: set[Sizes], _block: nn.Module, args: Any, kwargs: Any) -> None:
    seen.add(_sizes(args, kwargs))


def _sizes(args: Any, kwargs: Any) -> Sizes:
    return tuple(tensor.shape for tensor in tensors_of((args, kwargs)))
