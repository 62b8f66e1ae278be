"""What is known of diffusers' pipelines before any is loaded: by the name of the class, else by how it is called.

Neither torch nor diffusers is imported, so that --check can decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from inspect import Parameter

from models.pipelines.refusals import REFUSED
from models.pipelines.table import PLAIN, TEXT_TO_IMAGE
from models.pipelines.table import PipelineFacts as PipelineFacts

FACTS: Mapping[str, PipelineFacts] = {
    **TEXT_TO_IMAGE,
    **{name: PipelineFacts(refusal=reason) for name, reason in REFUSED.items()},
}

# What the name of a class, or of an argument, says of what it does.
_NAMES = {
    "makes video or sound": ("Video", "Audio", "Music", "World", "I2V", "T2V"),
    "changes an image": ("EditP", "Img2Img", "Image2Image", "I2I", "Inpaint", "Pix2Pix", "Kontext", "Layered"),
    "makes variations of an image": ("Variation", "Redux"),
    "enlarges or refines an image": ("Upscal", "Upsampl", "SuperRes", "Refine"),
    "follows a control image": ("Control", "Adapter"),
    "is one stage alone": ("PriorPipeline", "DecoderPipeline"),
}
_ARGUMENTS = {
    "makes video or sound": ("num_frames", "audio", "video", "frame_size", "fps"),
    "changes an image": ("strength", "mask_image", "source_embeds"),
    "follows a control image": ("control", "adapter_conditioning"),
    "places objects in boxes": ("gligen",),
}
_OFF = PLAIN | {
    "use_pe": False,
    "enable_prompt_rewrite": False,
    "prompt_upsampling": False,
    "skip_text_cleaning": True,
}


def facts_of(class_name: str) -> PipelineFacts | None:
    """Return what is known of a pipeline's class, or None for one that the table does not have."""
    return FACTS.get(class_name)


def judge(class_name: str, taken: Mapping[str, Parameter]) -> str:
    """Return why a pipeline cannot be compared, as far as its name and the arguments of its call tell, or nothing."""
    arguments = {name: parameter for name, parameter in taken.items() if name not in ("self", "args", "kwargs")}
    if "prompt" not in arguments:
        return "takes no prompt"
    output = arguments.get("output_type")
    if output is None or output.default != "pil":
        return "makes no images"
    for table, names in ((_ARGUMENTS, arguments), (_NAMES, (class_name,))):
        for reason, words in table.items():
            if any(word in name for name in names for word in words):
                return reason
    needed = [
        name
        for name, parameter in arguments.items()
        if parameter.default is Parameter.empty
        and parameter.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
        and name != "prompt"
    ]
    if needed:
        return f"needs {', '.join(needed)} beside the prompt"
    return ""


def facts_by_signature(class_name: str, taken: Mapping[str, Parameter]) -> PipelineFacts:
    """Return how a class that the table does not have is called, as its arguments tell.

    Its images are its PIL images, and each request has a call of its own: nothing more is known to be right.
    """
    if refusal := judge(class_name, taken):
        return PipelineFacts(refusal=refusal)
    negative = "negative_prompt" in taken
    scales = ("guidance_scale", "true_cfg_scale", "distilled_guidance_scale", "decoder_guidance_scale")
    guidance = tuple(name for name in scales if name in taken and isinstance(taken[name].default, (int, float)))[:1]
    if guidance and "prior_guidance_scale" in taken:
        guidance += ("prior_guidance_scale",)
    steps = tuple(name for name in ("num_inference_steps", "prior_num_inference_steps") if name in taken)
    return PipelineFacts(
        guidance=guidance,
        default=float(taken[guidance[0]].default) if guidance else None,
        negative=negative,
        plain_negative=" " if guidance == ("true_cfg_scale",) and negative else None,
        steps=steps,
        fixed={name: value for name, value in _OFF.items() if name in taken},
        alone=True,
        tensors=False,
        safety=True,
        notes=("this program does not know this class of pipeline: it is called as its arguments are named",),
    )
