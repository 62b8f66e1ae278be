"""Which networks of a pipeline a CUDA graph would answer wrongly, or once for each prompt.

A graph repeats what it was captured with: sizes, numbers of the host, and what the host decided by values that it read.
Two short calls with prompts of different lengths show what changes, before anything is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from models.base import Request
from models.cuda_graphs import Key, key_of
from models.diffusers_networks import backbones_of, decoder_of, text_encoders_of

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


Calls = dict[nn.Module, list[Key | None]]


class _Enough(Exception):
    """A rehearsal has seen what it is for."""


def find_plain(
    pipeline: Any, generate: Callable[[Sequence[Request]], object], device_type: str = "cuda"
) -> dict[nn.Module, str]:
    """Return the networks that must run without CUDA graphs, each with the reason.

    generate: makes images with the pipeline; its calls are broken off after a few steps.
    """
    backbones, texts, decoder = backbones_of(pipeline), text_encoders_of(pipeline), decoder_of(pipeline)
    others = [*texts, *([decoder] if decoder is not None else [])]
    plain = {network: OTHER for network in others if type(network).__name__ not in _STEADY}
    if type(pipeline).__name__ in _LOOKING:
        plain |= dict.fromkeys(backbones, LOOKS)
    # A prior of another library may well be a language model.
    plain |= {network: OTHER for network in backbones if not type(network).__module__.startswith("diffusers.")}
    watched = [network for network in (*backbones, *texts) if network not in plain]
    stage = _Stage(generate, watched, backbones[-1], decoder, device_type)
    first, _ = stage.rehearse(_PROMPTS[0])
    reading: set[nn.Module] = set()
    while True:
        # In the second call all that is made once is there, so that what is read now is read each time.
        unsuspected = [network for network in backbones if network in watched and network not in reading]
        second, reads = stage.rehearse(_PROMPTS[1], unsuspected)
        if reads is None:
            break
        reading.add(reads)
    for network in watched:
        if reason := READS if network in reading else _difference(first[network], second[network]):
            plain[network] = reason
    return plain


def _difference(first: list[Key | None], second: list[Key | None]) -> str:
    """Return why calls for two prompts do not fit one graph each with and without the prompt; "" where they do."""
    if None in first or None in second:
        return HOLDS
    if set(first) != set(second):
        return VARIES
    return CHANGES if len(set(first)) > 2 else ""


@dataclass(frozen=True)
class _Stage:
    """What is called, what is watched, and where a call is broken off: before the decoder, or in the last network."""

    generate: Callable[[Sequence[Request]], object]
    watched: Sequence[nn.Module]
    last: nn.Module
    decoder: nn.Module | None
    device_type: str

    def rehearse(self, prompt: str, checked: Collection[nn.Module] = ()) -> tuple[Calls, nn.Module | None]:
        """Return what the networks were called with, and which of `checked` made the host wait for its values."""
        calls: Calls = {network: [] for network in (*self.watched, self.last)}
        inside: list[nn.Module] = []

        def enter(network: nn.Module, args: Any, kwargs: Any) -> None:
            if network is self.decoder or (network is self.last and len(calls[network]) == _CALLS):
                raise _Enough
            calls[network].append(key_of(args, kwargs, self.device_type))
            if network in checked:
                inside.append(network)
                torch.cuda.set_sync_debug_mode("error")

        def leave(network: nn.Module, *_: Any) -> None:
            if network in checked:
                torch.cuda.set_sync_debug_mode("default")
                inside.pop()

        with ExitStack() as hooks:
            if checked:
                hooks.callback(torch.cuda.set_sync_debug_mode, torch.cuda.get_sync_debug_mode())
            for network in {*calls, *([self.decoder] if self.decoder is not None else [])}:
                hooks.callback(network.register_forward_pre_hook(enter, with_kwargs=True).remove)
                hooks.callback(network.register_forward_hook(leave).remove)
            try:
                self.generate([Request(0, prompt, 0)])
            except _Enough:
                pass
            except RuntimeError as error:
                if not inside or "synchroniz" not in str(error):
                    raise
                return calls, inside[-1]
        return calls, None
