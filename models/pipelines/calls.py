"""What a pipeline's call is given of what a user asked, and what of it reaches nothing."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import Any, Protocol

from models.json_options import read_object
from models.pipelines.facts import facts_of
from models.pipelines.table import PipelineFacts

# What this program gives to each call itself, each with where a user sets it.
_OWN = {
    "prompt": "DATASET",
    "generator": "SEED",
    "height": "IMAGE_SIZE",
    "width": "IMAGE_SIZE",
    "negative_prompt": "HUB_NEGATIVE_PROMPT",
    "num_images_per_prompt": "BATCH_SIZE",
    "output_type": "",
    "return_dict": "",
}
# Numbers that say how much was computed for an image, and how strongly it was guided.
_TOLD = re.compile(
    r"(\w+_)?num_inference_steps|(prior_|decoder_|distilled_)?guidance_scale|true_cfg_scale|[ps]ag_scale"
)
GUIDERS = ("guider", "ocr_guider")
_IDEOGRAM_END = 3.0  # its guidance in the last sixteenth of the steps


class Asked(Protocol):
    """What a user asks of a pipeline: `models.diffusers_hub.Options`."""

    @property
    def steps(self) -> int: ...

    @property
    def guidance(self) -> float: ...

    @property
    def negative_prompt(self) -> str: ...

    @property
    def scheduler(self) -> str: ...

    @property
    def safety(self) -> bool: ...

    @property
    def args(self) -> str: ...


def check_args(facts: PipelineFacts, text: str, taken: Iterable[str] | None = None, class_name: str = "") -> None:
    """Check the names in HUB_ARGS. taken: the arguments of the pipeline's call, where they are known.

    Raises:
        ValueError: one of them is set by this program, or the pipeline does not have it.
    """
    own = dict(_OWN)
    own |= dict.fromkeys(facts.fixed, "") | dict.fromkeys(facts.steps[:1], "HUB_STEPS")
    own |= dict.fromkeys(facts.guidance[:1], "HUB_GUIDANCE")
    for name in read_object(text):
        if name in own:
            remedy = f"use {own[name]}" if own[name] else "leave it out"
            raise ValueError(f"HUB_ARGS names {name}, which this program sets itself: {remedy}")
        if taken is not None and name not in taken:
            raise ValueError(f"HUB_ARGS names {name}, which the call of {class_name} does not have: leave it out")


def unreached(facts: PipelineFacts, asked: Asked) -> dict[str, str]:
    """Return what was asked and reaches nothing in pipelines of this class: option to reason."""
    found = {}
    if asked.steps > 0 and not facts.steps:
        found["steps"] = "it takes no number of steps"
    if asked.guidance >= 0 and not facts.guidance:
        found["guidance"] = "it has no guidance"
    if asked.negative_prompt and not facts.negative:
        found["negative_prompt"] = "it takes no negative prompt"
    elif asked.negative_prompt and not is_guided(facts, asked):
        scale = facts.scale_of_negative
        how = "HUB_GUIDANCE" if scale in facts.guidance else f"HUB_ARGS='{{\"{scale}\": 4}}'"
        found["negative_prompt"] = f"guidance is off ({scale}, which {how} sets)"
    if asked.scheduler and not facts.scheduler:
        found["scheduler"] = "its scheduler is the only one for it"
    if asked.safety and not facts.safety:
        found["safety"] = "it has no safety checker"
    return found


def is_guided(facts: PipelineFacts, asked: Asked) -> bool:
    """Return whether images are guided away from a negative prompt, as far as the options tell."""
    name = facts.scale_of_negative
    scale = read_object(asked.args).get(name)
    if scale is None and name in facts.guidance:
        scale = asked.guidance if asked.guidance >= 0 else facts.default
    elif scale is None:
        scale = facts.off  # arguments beside the guidance are off unasked
    return bool(name) and (not isinstance(scale, (int, float)) or scale > facts.off)


def call_arguments(
    class_name: str, facts: PipelineFacts, taken: Mapping[str, Parameter], asked: Asked, image_size: int
) -> dict[str, object]:
    """Return the arguments of each call beside prompts and generators, of those that the pipeline takes.

    Raises:
        ValueError: HUB_ARGS names an argument that this program sets, or that the pipeline does not have.
    """
    check_args(facts, asked.args, taken, class_name)
    arguments: dict[str, object] = {"height": image_size, "width": image_size, **facts.fixed}
    if asked.steps > 0:
        arguments |= dict.fromkeys(facts.steps, asked.steps)
    if asked.guidance >= 0:
        arguments |= dict.fromkeys(facts.guidance, asked.guidance)
    if facts.negative and is_guided(facts, asked):
        negative = asked.negative_prompt or facts.plain_negative
        arguments |= {} if negative is None else {"negative_prompt": negative}
    arguments = {name: value for name, value in arguments.items() if name in taken}
    given = {name: _as_taken(value, taken[name]) for name, value in read_object(asked.args).items()}
    if class_name == "Ideogram4Pipeline" and "guidance_schedule" not in given:
        arguments |= _ideogram_guidance(asked, taken)
    if class_name == "SanaSprintPipeline" and arguments.get("num_inference_steps", 2) != 2:
        arguments["intermediate_timesteps"] = None  # a time between two steps
    return arguments | given


def _as_taken(value: object, parameter: Parameter) -> object:
    """Return a value of JSON, which has no tuples, as one where the pipeline takes nothing else."""
    kind = str(parameter.annotation).lower()
    wants_tuple = isinstance(parameter.default, tuple) or ("tuple" in kind and "list" not in kind)
    return tuple(value) if isinstance(value, list) and wants_tuple else value


def _ideogram_guidance(asked: Asked, taken: Mapping[str, Parameter]) -> dict[str, object]:
    """Return one scale for all steps, or the published schedule stretched to another number of steps."""
    if asked.guidance >= 0:
        return {"guidance_schedule": None}
    if asked.steps <= 0:
        return {}
    published = taken["guidance_schedule"].default
    last = max(1, round(asked.steps * published.count(_IDEOGRAM_END) / len(published)))
    return {"guidance_schedule": [published[0]] * (asked.steps - last) + [_IDEOGRAM_END] * min(last, asked.steps)}


def call_note(arguments: Mapping[str, object], pipeline: Any, image_size: int) -> str:
    """Return the footer's line on what a column's images were made with, under the pipeline's own names."""
    facts = facts_of(type(pipeline).__name__) or PipelineFacts()
    taken = inspect.signature(type(pipeline).__call__).parameters
    used = {name: parameter.default for name, parameter in taken.items()} | dict(arguments)
    unused = ("guidance_scale",) if not facts.guidance else facts.guidance if without_guidance(pipeline, facts) else ()
    named = [name for name in used if _TOLD.fullmatch(name) and _is_number(used[name]) and name not in unused]
    told = [f"{name} {_number(used[name])}" for name in named]
    if unused and not has_guider(pipeline):
        told.append("no guidance")
    schedule = used.get("guidance_schedule")
    if isinstance(schedule, (list, tuple)) and schedule:
        told.append(f"guidance_schedule {_number(schedule[0])} to {_number(schedule[-1])}")
    told.append(f"{image_size} px")
    if hasattr(getattr(pipeline, "scheduler", None), "config"):
        from models.pipelines.schedulers import describe_scheduler

        told.append(describe_scheduler(pipeline.scheduler))
    if "negative_prompt" in taken:
        negative = str(arguments.get("negative_prompt", "")).strip()
        told.append(f'negative prompt "{negative}"' if negative else "no negative prompt")
    others = [name for name in arguments if name not in (*_OWN, "guidance_schedule") and not _TOLD.fullmatch(name)]
    told += [f"{name} {_value(arguments[name])}" for name in others if name not in facts.fixed]
    return "asked for " + ", ".join(told)


def without_guidance(pipeline: Any, facts: PipelineFacts) -> bool:
    """Return whether this checkpoint does not read the scale that others of its class are guided by."""
    return bool(
        config_of(pipeline).get("is_distilled")
        or (facts.distilled and config_of(getattr(pipeline, "transformer", None)).get("guidance_embeds") is False)
    )


def has_guider(pipeline: Any) -> bool:
    """Return whether objects guide in the place of a scale."""
    return any(getattr(pipeline, name, None) is not None for name in GUIDERS)


def config_of(part: Any) -> Mapping[str, Any]:
    """Return the configuration of a pipeline or of one of its parts, or nothing."""
    config = getattr(part, "config", None)
    return config if isinstance(config, Mapping) else {}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _value(value: object) -> str:
    text = _number(value) if _is_number(value) else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
