"""What of a loaded pipeline changes its images behind the benchmark's back, and what its checkpoint leaves out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.pipelines.calls import GUIDERS, Asked, config_of, has_guider, without_guidance
from models.pipelines.table import PipelineFacts

BLACKED_OUT = ("nsfw_content_detected", "nsfw_detected")
_EMBEDDED = "this checkpoint takes guidance as a number"


def turn_off_side_parts(pipeline: Any, index: Mapping[str, Any], keeps_safety: bool) -> tuple[str, ...]:
    """Turn the watermark off, and the safety checker unless it is to stay; return the footer's notes.

    index: the pipeline's components as model_index.json has them: what was left out at loading is told as well.
    """
    notes = []
    checker = getattr(pipeline, "safety_checker", None)
    if not keeps_safety and (checker is not None or _names(index, "safety_checker")):
        notes.append("its safety checker is off, which would make images black; HUB_SAFETY=1 keeps it")
        pipeline.register_modules(safety_checker=None)
        if "requires_safety_checker" in pipeline.config:
            pipeline.register_to_config(requires_safety_checker=False)
    if getattr(pipeline, "watermarker", None) is not None:
        pipeline.register_modules(watermarker=None)
    has_watermark = getattr(pipeline, "watermark", None) is not None
    if has_watermark:
        pipeline.watermark = None
    if has_watermark or _names(index, "watermarker"):
        notes.append("its watermark is off")
    return tuple(notes)


def _names(index: Mapping[str, Any], component: str) -> bool:
    """Return whether a pipeline's index has a component that is not empty."""
    value = index.get(component)
    return isinstance(value, list) and bool(value) and value[0] is not None


def set_guiders(pipeline: Any, arguments: dict[str, object], asked: Asked) -> tuple[str, ...]:
    """Give the scale to the objects that guide where a checkpoint has such, as HunyuanImage; return the footer's notes.

    `arguments` then lack the scale of the distilled form.
    """
    named = [name for name in GUIDERS if hasattr(getattr(pipeline, name, None), "guidance_scale")]
    if not named:
        return ()
    if not config_of(getattr(pipeline, "transformer", None)).get("guidance_embeds"):
        arguments.pop("distilled_guidance_scale", None)
    if asked.guidance >= 0:
        for name in named:
            getattr(pipeline, name).guidance_scale = asked.guidance
    return tuple(f"{name}.guidance_scale {getattr(pipeline, name).guidance_scale:g}" for name in named)


def unreached_here(pipeline: Any, facts: PipelineFacts, asked: Asked) -> dict[str, str]:
    """Return what was asked and reaches nothing in this checkpoint, though it would in others of its class."""
    found = {}
    network = config_of(getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None))
    if asked.guidance >= 0 and without_guidance(pipeline, facts) and not has_guider(pipeline):
        found["guidance"] = "this checkpoint is one without guidance"
    if asked.negative_prompt and network.get("time_cond_proj_dim") is not None:
        found["negative_prompt"] = _EMBEDDED
    if asked.safety and facts.safety and getattr(pipeline, "safety_checker", None) is None:
        found["safety"] = "this checkpoint has no safety checker"
    return found
