"""Any diffusers text-to-image pipeline, by hub id, folder or file: `hub:org/name`, `hub:./folder` in MODELS."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from files.downloads import Need
from files.hub import find_snapshot
from files.model_folders import PIPELINE_INDEX
from files.reading import shown
from files.sources import expanded, is_folder
from models.base import ImageGenerator, ModelFamily, Runtime, check_modes, check_size, option, size_note
from models.json_options import canonical, read_object, read_texts
from models.pipelines.calls import call_arguments, check_args, unreached
from models.pipelines.device_map import check_class
from models.pipelines.facts import PipelineFacts, facts_by_signature, facts_of
from models.pipelines.schedulers import SCHEDULER_HELP, check_scheduler
from models.pipelines.single_files import recognise_file
from models.pipelines.sources import check_components, check_local, find_pipeline, hub_files, parse_source
from models.pipelines.table import NATIVE

if TYPE_CHECKING:
    from models.pipelines.generator import DiffusersGenerator

PREFIX = "hub:"
FASTEST = "regional"


def _refuse_id(id: str) -> None:
    """Raise ValueError where the pipeline is not named in MODELS: this run would not have it."""
    if id:
        raise ValueError(f"name the pipeline in MODELS instead, as {PREFIX}{id}")


def _check_object(text: str) -> None:
    read_object(text)


def _check_texts(text: str) -> None:
    read_texts(text)


@dataclass(frozen=True)
class Options:
    """Which pipeline, and what is asked of it."""

    id: str = option(
        "",
        "set by MODELS=hub:ID only: hub id (org/name or org/name@revision), folder in the diffusers layout, or "
        ".safetensors file",
        check=_refuse_id,
    )
    steps: int = option(0, "denoising steps; 0: the pipeline's own default", least=0, most=10000)
    guidance: float = option(-1.0, "guidance scale; below 0: the pipeline's own default", least=-1000, most=1000)
    negative_prompt: str = option("", "guide away from this text, for every image; needs guidance")
    scheduler: str = option("", SCHEDULER_HELP, check=check_scheduler)
    args: str = option(
        "", "JSON object of further arguments for the pipeline's call: '{\"max_sequence_length\": 512}'",
        check=_check_object,
    )  # fmt: skip
    safety: bool = option(False, "1: keep the pipeline's safety checker, and count the images that it makes black")
    components: str = option(
        "", "JSON object of components to take from elsewhere, name to folder or hub id: '{\"vae\": \"./my_vae\"}'",
        check=_check_texts,
    )  # fmt: skip
    config: str = option("", "folder or hub id with configurations and tokenizers for a single .safetensors file")

    def __post_init__(self) -> None:
        # Equal objects in different words are one column.
        object.__setattr__(self, "args", canonical(self.args))
        object.__setattr__(self, "components", canonical(self.components))


def _check(options: Options, runtime: Runtime) -> None:
    _refuse_tiny(options, runtime)
    check_modes(runtime)
    try:
        class_name = _class_here(options)
        if class_name:
            _check_facts(options, runtime, facts_of(class_name), class_name)
    except OSError as error:
        raise OSError(f"MODELS={PREFIX}{options.id}: {error}") from None
    except ValueError as error:
        raise ValueError(f"MODELS={PREFIX}{options.id}: {error}") from None


def _refuse_tiny(options: Options, runtime: Runtime) -> None:
    """Raise ValueError where weights are asked for that only the models of this repository have."""
    if runtime.weights == "tiny":
        raise ValueError(
            f"{PREFIX}{options.id} has no embedded weights, but WEIGHTS=tiny: set WEIGHTS=pretrained or WEIGHTS=random"
        )


def _class_here(options: Options) -> str:
    """Return the class of a pipeline as far as files on this machine tell, or "" where the hub has to be asked.

    Raises:
        OSError: there is no such pipeline.
        ValueError: its index is damaged, or a part of it is missing and was not named.
    """
    source = parse_source(options.id)
    if source.kind == "file":
        return recognise_file(source.path).class_name
    if source.kind == "hub" and find_snapshot(source.name, (PIPELINE_INDEX,), (), source.revision) is None:
        return ""
    return find_pipeline(options).class_name


def _check_facts(options: Options, runtime: Runtime, facts: PipelineFacts | None, class_name: str) -> None:
    """Check that a pipeline can be compared and asked for this, as far as is known of its class.

    Raises:
        ValueError: it makes something else than images of text, needs a package, or HUB_ARGS does not fit.
    """
    told = f"{shown(options.id)} is a {class_name}"
    if runtime.device_map:
        check_class(class_name, shown(options.id))
    if facts is None:
        return
    if facts.refusal:
        raise ValueError(f"{told}, which {facts.refusal}: only pipelines that make images of text can be compared")
    for package in facts.packages:
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"{told}, which needs the package {package}: install it (pip install {package})")
    if facts.multiple:
        check_size(runtime.image_size, facts.multiple, class_name)
    check_args(facts, options.args)


def _facts(options: Options, class_name: str) -> PipelineFacts:
    """Return what is known of a class: from the table, else as its own call tells, for which diffusers is imported."""
    known = facts_of(class_name)
    return facts_by_signature(class_name, _taken(options, class_name)) if known is None else known


def _taken(options: Options, class_name: str) -> Mapping[str, inspect.Parameter]:
    """Return the arguments of a pipeline's call.

    Raises:
        ValueError: diffusers has no such pipeline.
    """
    import diffusers

    kind = getattr(diffusers, class_name, None)
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ValueError(
            f"{shown(options.id)} is a pipeline of class {shown(class_name)}, "
            f"which diffusers {diffusers.__version__} does not have"
        )
    return inspect.signature(kind.__call__).parameters


def _parts(class_name: str) -> tuple[str, ...]:
    """Return the components that a pipeline of diffusers is made of."""
    import diffusers

    return tuple(inspect.signature(getattr(diffusers, class_name).__init__).parameters)


def _title(options: Options) -> str:
    place = expanded(options.id)
    if place.suffix.lower() == ".safetensors":
        return place.stem
    # A folder is named as it is, however it was written: "./", "../".
    return (place.resolve() if is_folder(place) else place).name or "hub"


def _select(name: str) -> Mapping[str, object] | None:
    return {"id": name.removeprefix(PREFIX)} if name.startswith(PREFIX) and name != PREFIX else None


def _source(options: Options, runtime: Runtime) -> str:
    place = expanded(options.id)
    kind = "folder" if is_folder(place) else "file" if place.suffix.lower() == ".safetensors" else "hub"
    return f"{kind} {options.id}" + (", random weights" if runtime.weights == "random" else "")


def _needs(options: Options, runtime: Runtime) -> Sequence[Need]:
    """Return what a pipeline needs of the hub. Raises as `_check`, now that its index can be read."""
    found = find_pipeline(options)
    facts = _facts(options, found.class_name)
    _check_facts(options, runtime, facts, found.class_name)
    has_torch = "torch" in sys.modules  # a run has it, and --check does not: diffusers takes seconds to import
    taken = _taken(options, found.class_name) if has_torch else None
    check_args(facts, options.args, taken, found.class_name)
    check_components(found, options.components, _parts(found.class_name) if has_torch else ())
    check_local(found, options, runtime.weights)
    return hub_files(found, options, runtime.weights)


def _unreached(options: Options, _runtime: Runtime) -> Mapping[str, str]:
    class_name = _class_here(options)
    facts = facts_of(class_name) if class_name else None
    return {} if facts is None or facts.refusal else unreached(facts, options) | _unreached_config(options)


def _unreached_config(options: Options) -> dict[str, str]:
    is_file = parse_source(options.id).kind == "file"
    return {} if is_file or not options.config else {"config": "it is no single .safetensors file"}


def _load(options: Options, runtime: Runtime) -> ImageGenerator:
    from models.pipelines.generator import check_offload, place_reusable
    from models.pipelines.loading import open_pipeline
    from models.pipelines.schedulers import check_kind
    from models.pipelines.side_parts import turn_off_side_parts

    if not options.id:
        raise ValueError("no pipeline named: write MODELS=hub:org/name or MODELS=hub:./folder")
    _refuse_tiny(options, runtime)
    check_offload(runtime)
    found = find_pipeline(options)
    name = found.class_name
    facts = _facts(options, name)
    _check_facts(options, runtime, facts, name)
    if facts.dtypes and runtime.dtype not in facts.dtypes:
        others = " or ".join(facts.dtypes)
        raise ValueError(f"{shown(options.id)} is a {name}, which does not run in {runtime.dtype}: set DTYPE={others}")
    check_args(facts, options.args, _taken(options, name), name)
    if options.scheduler and facts.scheduler and (own := found.index.get("scheduler")):
        check_kind(options.scheduler, str(own[-1]), name)
    opened = open_pipeline(options, runtime, found, ("watermarker", *([] if options.safety else ["safety_checker"])))
    notes = (*opened.notes, *turn_off_side_parts(opened.pipeline, found.index, options.safety))
    ask = partial(_ask, name=name, facts=facts, asked_size=runtime.image_size, notes=notes)
    return place_reusable(opened.pipeline, ask, options, runtime, FASTEST)


def _ask(
    pipeline: Any, options: Options, name: str, facts: PipelineFacts, asked_size: int, notes: tuple[str, ...]
) -> DiffusersGenerator:
    """Return a loaded pipeline as a generator that is called with these options."""
    from models.pipelines.generator import DiffusersGenerator
    from models.pipelines.networks import native_size
    from models.pipelines.schedulers import set_scheduler
    from models.pipelines.side_parts import set_guiders, unreached_here

    arguments = call_arguments(name, facts, _taken(options, name), options, asked_size)
    notes += set_guiders(pipeline, arguments, options)
    if options.scheduler and facts.scheduler:
        set_scheduler(pipeline, options.scheduler)
    missed = unreached(facts, options) | _unreached_config(options) | unreached_here(pipeline, facts, options)
    notes += tuple(f"HUB_{option.upper()} does not reach it: {reason}" for option, reason in missed.items())
    image_size, size_notes = _size(facts, arguments, native_size(pipeline), asked_size)
    if facts.side and "height" in arguments:
        arguments |= {"height": image_size, "width": image_size}
    generator = DiffusersGenerator(_title(options), pipeline, image_size, arguments, (*notes, *size_notes), facts=facts)
    generator.hub_args = options.args
    return generator


def _size(facts: PipelineFacts, arguments: Mapping[str, Any], native: int, asked: int) -> tuple[int, tuple[str, ...]]:
    """Return the side of the images that a pipeline makes, as far as is known before it made one, and its notes."""
    if facts.side or "height" not in arguments:
        side = facts.side if facts.side > 0 else native or asked
        assert facts.side in (0, NATIVE) or facts.side > 0
        return side, () if side == asked else (f"makes {side} px images: its size cannot be chosen",)
    return asked, size_note(asked, native or asked)


FAMILY = ModelFamily(
    key="hub",
    options=Options,
    title=_title,
    source=_source,
    load=_load,
    select=_select,
    switchable=False,
    check=_check,
    needs=_needs,
    unreached=_unreached,
    call_options=frozenset({"steps", "guidance", "negative_prompt", "scheduler"}),
    takes_device_map=True,
    shares_compiled=False,  # what is compiled and captured follows from a rehearsal with the options of the load
    imports=("diffusers.pipelines.pipeline_utils", "models.pipelines.generator", "models.pipelines.loading"),
)
