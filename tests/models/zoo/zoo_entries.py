"""What the zoo says of a class of pipelines: how a tiny one is made, and how its documentation has it called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from models.base import Request

# In tokens of the zoo's small vocabularies, longer than what most text encoders read.
LONG = "a pink robot with round head in a forest " * 12
REQUESTS = [Request(0, "a pink robot", 0), Request(1, "a blue cat in a forest", 1)]
# A batch and its images alone are other matrix products, which round differently. In levels of 255; the images of two
# seeds are some 50 apart.
LEVELS = {"float32": 1, "bfloat16": 8}


@dataclass(frozen=True)
class Entry:
    """A tiny pipeline of a class, with random weights, and how it is asked for images.

    call: the arguments of the pipeline's own call beside prompt, generator and output_type, as its class documents
        them: what the benchmark has to come to where it is asked with `options`. Written by hand for each class.
    options: what the benchmark is asked: fields of `models.diffusers_hub.Options`.
    asked: IMAGE_SIZE. size: height and width of the images that the class makes of it.
    guidance: the name of the argument that guides, "" where nothing does: then HUB_GUIDANCE is refused, or told.
    one_at_a_time: whether it takes no lists of prompts or generators, or one seed for all of a batch.
    load: what from_pretrained is told beside the folder.
    levels: how far an image may be from the same image made in a batch of one, in levels of 255, by dtype.
    refused: dtypes that the pipeline's own call cannot run in.
    refuses_long: what the pipeline says of LONG, where it refuses it; others cut it, or read it all.
    batch_is_told: whether images depend on the batch more than that, which the notes then have to say.
    """

    build: Callable[[], Any]
    call: Mapping[str, object]
    options: Mapping[str, object] = field(default_factory=lambda: {"steps": 2, "guidance": 5.0})
    asked: int = 32
    size: tuple[int, int] = (32, 32)
    guidance: str = "guidance_scale"
    one_at_a_time: bool = False
    load: Mapping[str, object] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=lambda: dict(LEVELS))
    refused: tuple[str, ...] = ()
    refuses_long: str = ""
    batch_is_told: bool = False


def usual(side: int = 32, steps: int = 2, guidance: float = 5.0, **more: object) -> dict[str, object]:
    """Return the arguments that most classes document, with `more` of this one."""
    return {"height": side, "width": side, "num_inference_steps": steps, "guidance_scale": guidance, **more}


# Some cut long prompts after they are made one tensor, so that a list of unequal lengths fails.
UNCUT: Any = {"one_at_a_time": True}
