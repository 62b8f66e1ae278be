"""The schedulers that a diffusers pipeline can be asked to use, by the short names that people know them by.

A scheduler is made from the configuration of the pipeline's own one: the noise that a network was trained with stays
as it is, and what would change it in silence is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

_DPM, _FLOW = "DPMSolverMultistepScheduler", "FlowMatchEulerDiscreteScheduler"
_EVEN: dict[str, object] = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS = _EVEN | {"use_karras_sigmas": True}
_2M: dict[str, object] = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
_SDE = _2M | {"algorithm_type": "sde-dpmsolver++"}

# For networks that predict noise (or velocity) over betas: class and settings by name.
_DIFFUSION: dict[str, tuple[str, dict[str, object]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {"variance_type": "fixed_small"}),
    "euler": ("EulerDiscreteScheduler", _EVEN),
    "euler-karras": ("EulerDiscreteScheduler", _KARRAS),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", _EVEN),
    "dpm++2m": (_DPM, _2M | _EVEN),
    "dpm++2m-karras": (_DPM, _2M | _KARRAS),
    "dpm++2m-sde": (_DPM, _SDE | _EVEN),
    "dpm++2m-sde-karras": (_DPM, _SDE | _KARRAS),
    "unipc": ("UniPCMultistepScheduler", _EVEN),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
# For networks trained by flow matching. Heun's takes no shift by the image's size, which most of them need.
_FLOW_MATCHING: dict[str, tuple[str, dict[str, object]]] = {
    "euler": (_FLOW, _EVEN | {"stochastic_sampling": False}),
    "lcm": ("FlowMatchLCMScheduler", _EVEN),
    "dpm++2m": (_DPM, _2M | _EVEN | {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    "unipc": ("UniPCMultistepScheduler", _EVEN | {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
}
# The others hand a scheduler their own noise levels, which one of several steps takes otherwise or not at all.
LEAVE_LEVELS = frozenset({
    "AuraFlowPipeline", "Flux2KleinKVPipeline", "Flux2KleinPipeline", "Flux2Pipeline", "FluxPipeline",
    "Kandinsky5T2IPipeline", "LuminaPipeline", "OvisImagePipeline", "SanaPAGPipeline", "SanaPipeline",
    "StableDiffusion3Pipeline",
})  # fmt: skip
_SEVERAL_STEPS = ("dpm++2m", "unipc")
# What a pipeline's own call cannot run with: it hands the scheduler more than these take.
_UNFIT: dict[str, tuple[str, ...]] = {
    "BriaPipeline": ("lcm",),
    "Kandinsky3Pipeline": ("heun", "unipc"),
    "LatentConsistencyModelPipeline": tuple(name for name in _DIFFUSION if name != "lcm"),
}
TRAILING = "-trailing"
# The timesteps of the others are their own, or reach no step: Karras' noise levels lie between the two ends alone.
_SPACED = ("ddim", "ddpm", "euler", "euler-a", "heun", "dpm++2m", "dpm++2m-sde", "unipc")
SCHEDULERS = (*_DIFFUSION, *(f"{name}{TRAILING}" for name in _SPACED))
SCHEDULER_HELP = (
    f"sampler: {', '.join(_DIFFUSION)}; empty: the model's own. Few-step models want trailing timesteps: "
    f"{TRAILING} after {', '.join(_SPACED[:-1])} or {_SPACED[-1]}"
)

# What a network was trained with: carried over even where the pipeline's own scheduler has it by default, since
# another class has other defaults.
_TRAINED = frozenset({
    "num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type",
    "rescale_betas_zero_snr", "thresholding", "dynamic_thresholding_ratio", "sample_max_value", "clip_sample",
    "clip_sample_range", "shift", "flow_shift", "use_dynamic_shifting", "base_shift", "max_shift",
    "base_image_seq_len", "max_image_seq_len", "shift_terminal", "invert_sigmas", "time_shift_type", "use_flow_sigmas",
})  # fmt: skip
# Of these, what asks for something that a class without such a setting would leave out.
_NEEDED = ("rescale_betas_zero_snr", "thresholding", "shift_terminal", "invert_sigmas", "use_dynamic_shifting")
_BY_BETAS = frozenset({
    "DDIMScheduler", "DDPMScheduler", "PNDMScheduler",
    "LMSDiscreteScheduler", "EulerDiscreteScheduler", "HeunDiscreteScheduler", "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler", "DPMSolverSDEScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "DEISMultistepScheduler", "UniPCMultistepScheduler", "LCMScheduler",
    "TCDScheduler", "SASolverScheduler",
})  # fmt: skip
_LEARNED = ("learned", "learned_range")


def check_scheduler(name: str) -> None:
    """Raise ValueError where `name` is none of `SCHEDULERS`; the setting's help, which follows, lists them.

    An empty name stands for the pipeline's own.
    """
    if name and name not in SCHEDULERS:
        near = get_close_matches(name, SCHEDULERS, 1)
        raise ValueError(f"there is no such scheduler{f': is {near[0]} meant?' if near else ''}")


def check_kind(name: str, own: str, pipeline: str) -> None:
    """Check a scheduler before weights are read: by the class of the pipeline's `own` one and of the pipeline alone.

    Raises:
        ValueError: it is not for networks of this kind.
    """
    if name:
        _find(name, own, {}, pipeline)
        _check_fits(name, pipeline)


def set_scheduler(pipeline: Any, name: str) -> str:
    """Give the pipeline the scheduler of this name, and return the footer's words for it.

    An empty name leaves the pipeline's own.

    Raises:
        ValueError: there is no such scheduler, or it is not for networks of this kind.
    """
    check_scheduler(name)
    own = getattr(pipeline, "scheduler", None)
    if own is None or not hasattr(own, "config"):
        raise ValueError(f"{type(pipeline).__name__} has no scheduler that could be another: leave the scheduler out")
    if not name:
        return describe_scheduler(own)
    import diffusers

    pipeline_name = type(pipeline).__name__
    class_name, settings = _find(name, type(own).__name__, own.config, pipeline_name)
    _check_fits(name, pipeline_name)
    kind = getattr(diffusers, class_name)
    taken = inspect.signature(kind.__init__).parameters
    defaults = set(own.config.get("_use_default_values", ()))
    config = {key: value for key, value in own.config.items() if key in _TRAINED or key not in defaults}
    config = {key: value for key, value in config.items() if not key.startswith("_")}
    for key in _NEEDED:
        if config.get(key) and key not in taken:
            raise ValueError(
                f"{name} cannot follow this model's scheduler, a {type(own).__name__} with {key}={config[key]}: choose "
                "another one, or leave the scheduler out"
            )
    if config.get("variance_type") in _LEARNED:
        if "variance_type" not in taken:
            raise ValueError(
                f"{name} is not for networks that predict the noise's variance as well, as this model's does: choose "
                "ddpm or dpm++2m, or leave the scheduler out"
            )
        settings["variance_type"] = config["variance_type"]
    # Some classes clip by default what only models of pixels keep within -1..1.
    config = {"clip_sample": False} | config | settings
    scheduler = kind(**{key: value for key, value in config.items() if key in taken})
    # What this class does not read, some pipelines do: the shift by the image's size.
    scheduler.register_to_config(**{key: value for key, value in config.items() if key not in taken})
    pipeline.register_modules(scheduler=scheduler)
    return describe_scheduler(scheduler)


def describe_scheduler(scheduler: Any) -> str:
    """Return the footer's words for a scheduler: "EulerDiscreteScheduler, trailing timesteps"."""
    config = scheduler.config
    words = [type(scheduler).__name__]
    if str(config.get("algorithm_type", "")).startswith("sde"):
        words.append(str(config["algorithm_type"]))
    if config.get("use_karras_sigmas"):
        words.append("Karras' noise levels")
    elif config.get("timestep_spacing") and not config.get("use_flow_sigmas"):
        words.append(f"{config['timestep_spacing']} timesteps")
    return ", ".join(words)


def _check_fits(name: str, pipeline: str) -> None:
    if name.removesuffix(TRAILING) in _UNFIT.get(pipeline, ()):
        raise ValueError(f"{pipeline} cannot run with {name}: choose another one, or leave the scheduler out")


def _find(name: str, own: str, config: Mapping[str, Any], pipeline: str) -> tuple[str, dict[str, object]]:
    """Return class and settings of a scheduler for the network that the pipeline's own one, `own`, is for."""
    is_flow = (
        own.startswith("FlowMatch")
        or config.get("use_flow_sigmas")
        or config.get("prediction_type") == "flow_prediction"
    )
    if is_flow:
        fitting = [one for one in _FLOW_MATCHING if one not in _SEVERAL_STEPS or pipeline in LEAVE_LEVELS]
        if name not in fitting:
            raise ValueError(
                f"{name} is not for networks trained by flow matching, as that of this {pipeline} is ({own}): choose "
                f"one of {', '.join(fitting)}, or leave the scheduler out"
            )
        class_name, settings = _FLOW_MATCHING[name]
        shift = config.get("flow_shift" if config.get("use_flow_sigmas") else "shift", 1.0)
        return class_name, settings | {"flow_shift" if "use_flow_sigmas" in settings else "shift": shift}
    if own not in _BY_BETAS:
        raise ValueError(f"this model's scheduler, {own}, is the only one for it: leave the scheduler out")
    plain = name.removesuffix(TRAILING)
    class_name, settings = _DIFFUSION[plain]
    return class_name, dict(settings) | ({"timestep_spacing": "trailing"} if plain != name else {})
