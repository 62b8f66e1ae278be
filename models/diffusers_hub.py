"""Any diffusers text-to-image pipeline, by hub id or folder: `hub:org/name`, `hub:./folder` in MODELS."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.model_folders import PIPELINE_INDEX, check_index, read_index
from files.opening import from_pretrained
from files.sources import check_holds, expanded, is_folder, is_local
from models.base import ImageGenerator, ModelFamily, Runtime, check_modes, option, size_note

PREFIX = "hub:"
FASTEST = "regional"


def _refuse_id(id: str) -> None:
    """Raise ValueError where the pipeline is not named in MODELS: this run would not have it."""
    if id:
        raise ValueError(f"name the pipeline in MODELS instead, as {PREFIX}{id}")


@dataclass(frozen=True)
class Options:
    """Which pipeline, and what is asked of it."""

    id: str = option(
        "",
        "set by MODELS=hub:ID only: hub id or local folder in the diffusers layout",
        check=_refuse_id,
    )
    steps: int = option(0, "denoising steps; 0: the pipeline's own default", least=0, most=10000)
    guidance: float = option(-1.0, "guidance scale; below 0: the pipeline's own default", least=-1000, most=1000)


def _check(options: Options, runtime: Runtime) -> None:
    _refuse_other_weights(options, runtime)
    check_modes(runtime)
    try:
        local = is_local(options.id)
    except OSError as error:
        raise ValueError(f"MODELS={PREFIX}{options.id}: {error}") from None
    if local:
        check_holds(f"MODELS={PREFIX}ID with ID", options.id, PIPELINE_INDEX)


def _refuse_other_weights(options: Options, runtime: Runtime) -> None:
    """Raise ValueError where weights are asked for that only the models of this repository have."""
    if runtime.weights != "pretrained":
        raise ValueError(
            f"{PREFIX}{options.id} has pretrained weights only, but WEIGHTS={runtime.weights}: set WEIGHTS=pretrained"
        )


def _title(options: Options) -> str:
    folder = expanded(options.id)
    # A folder is named as it is, however it was written: "./", "../".
    return (folder.resolve() if is_folder(folder) else folder).name or "hub"


def _select(name: str) -> Mapping[str, object] | None:
    return {"id": name.removeprefix(PREFIX)} if name.startswith(PREFIX) and name != PREFIX else None


def _source(options: Options, _runtime: Runtime) -> str:
    return f"{'folder' if Path(options.id).expanduser().is_dir() else 'hub'} {options.id}"


def pipeline_class(model: str) -> Any:
    """Return the class that a pipeline's model_index.json names, before any weights are read or downloaded.

    Raises:
        OSError: there is no such pipeline.
        ValueError: it or a component is not diffusers' or transformers' own, or it is asked without a prompt.
    """
    import diffusers

    from models.diffusers_pipeline import find_folder, missing_weights

    folder = find_folder(model, "HUB_ID", [PIPELINE_INDEX])
    with missing_weights(model, "HUB_ID"):
        index = read_index(folder)
        if index is None:
            raise OSError(f"it holds no {PIPELINE_INDEX}")
    check_index(index, model)
    name = index["_class_name"]
    found = getattr(diffusers, name)
    taken = inspect.signature(found.__call__).parameters
    needed = [
        parameter.name
        for parameter in taken.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if "prompt" not in taken:
        raise ValueError(f"{model} is a {name}, which takes no prompt: only text-to-image pipelines can be compared")
    if {"image", "strength"} <= set(taken):
        raise ValueError(f"{model} is a {name}, which changes an image: only text-to-image pipelines can be compared")
    if extra := sorted(set(needed) - {"self", "prompt"}):
        raise ValueError(
            f"{model} is a {name}, which needs {', '.join(extra)} beside the prompt: only text-to-image pipelines can "
            "be compared"
        )
    return found


def download(model: str, found: Any) -> Path:
    """Return the folder in the hub's cache with a pipeline of class `found`; nothing in it is loaded yet.

    Raises:
        OSError: it cannot be downloaded.
        ValueError: diffusers would load other repositories with it, or run code that it brings.
    """
    import diffusers

    if found._load_connected_pipes:
        raise ValueError(
            f"{model} is a {found.__name__}, which is made of several repositories: save it as one folder "
            "(save_pretrained of diffusers), and name that"
        )
    try:
        return Path(diffusers.DiffusionPipeline.download(model))
    except ValueError as error:
        raise ValueError(f"{model} cannot be downloaded: {' '.join(str(error).split())[:300]}") from error


def call_arguments(pipeline: Any, options: Options, image_size: int) -> dict[str, object]:
    """Return what this pipeline's signature takes of steps, guidance and size."""
    wanted: dict[str, object] = {"height": image_size, "width": image_size}
    if options.steps > 0:
        wanted["num_inference_steps"] = options.steps
    if options.guidance >= 0:
        wanted["guidance_scale"] = options.guidance
    taken = inspect.signature(type(pipeline).__call__).parameters
    # As for PixArt: these rewrite the prompt or resize the image behind the benchmark's back.
    wanted |= {"clean_caption": False, "use_resolution_binning": False}
    return {name: value for name, value in wanted.items() if name in taken}


def _load(options: Options, runtime: Runtime) -> ImageGenerator:
    import diffusers

    from models.diffusers_networks import native_size
    from models.diffusers_pipeline import (
        DiffusersGenerator,
        check_offload,
        dtype_of,
        missing_weights,
        quiet_libraries,
    )

    if not options.id:
        raise ValueError("no pipeline named: write MODELS=hub:org/name or MODELS=hub:./folder")
    _refuse_other_weights(options, runtime)
    check_offload(runtime)
    found = pipeline_class(options.id)
    with quiet_libraries(), missing_weights(options.id, "HUB_ID"):
        folder = Path(options.id).expanduser() if is_local(options.id) else download(options.id, found)
        pipeline = from_pretrained(diffusers.DiffusionPipeline, folder, dtype=dtype_of(runtime))
    native = native_size(pipeline)
    arguments = call_arguments(pipeline, options, runtime.image_size)
    image_size = runtime.image_size if "height" in arguments else native or runtime.image_size
    notes = size_note(image_size, native or image_size)
    if image_size != runtime.image_size:
        notes += (f"makes {image_size} px images: its size cannot be chosen",)
    generator = DiffusersGenerator(_title(options), pipeline, image_size, arguments, notes)
    generator.place(runtime, FASTEST)
    return generator


FAMILY = ModelFamily(
    key="hub",
    options=Options,
    title=_title,
    source=_source,
    load=_load,
    select=_select,
    switchable=False,
    check=_check,
)
