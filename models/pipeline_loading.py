"""Opens a pipeline that was found: from folders, the hub's cache or a single file, or with random weights."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from files.downloads import show_bar
from files.model_folders import PIPELINE_INDEX, check_index, check_pipeline, is_moved
from files.opening import from_pretrained
from files.reading import shown
from models.base import Runtime
from models.json_options import read_texts
from models.pipeline_components import Place, build_component, component_class, is_network, load_component
from models.pipeline_files import choose_variant
from models.pipeline_sources import (
    PRIOR,
    FoundPipeline,
    HasSource,
    Source,
    component_files,
    parse_source,
    read_index_of,
    single_component_files,
)

# Without these a pipeline cannot be called, whatever diffusers calls optional.
_NEEDED = re.compile(r"(unet|transformer|vae|movq|vqgan|vqvae|decoder|prior|prior_prior|(.+_)?scheduler)")
_TEXT = re.compile(r"(prior_)?(text_encoder|tokenizer)(_\d)?")
_PLAIN = (bool, int, float, str, tuple, list, dict)
# Text encoders that a pipeline is documented to work without, though diffusers wants to be told so.
_MAY_LACK = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
_MAY_LACK["StableDiffusion3PAGPipeline"] = _MAY_LACK["StableDiffusion3Pipeline"]


@dataclass(frozen=True)
class OpenedPipeline:
    """A pipeline on the CPU (with random weights: on the run's device), and notes for the footer."""

    pipeline: Any
    notes: tuple[str, ...]


@dataclass
class Opening:
    """What the parts of one pipeline are opened with; notes are collected on the way."""

    runtime: Runtime
    dtype: Any
    named: Mapping[str, Source]
    left_out: Collection[str]
    notes: list[str] = field(default_factory=list)

    @property
    def is_random(self) -> bool:
        return self.runtime.weights == "random"


def open_pipeline(
    options: HasSource, runtime: Runtime, found: FoundPipeline, left_out: Collection[str] = ("safety_checker",)
) -> OpenedPipeline:
    """Return the pipeline that was found, with the weights that the run asks for.

    left_out: components that are None where the pipeline can be without them, such as a safety checker.

    Raises:
        OSError: files are missing; one line with the remedy.
        ValueError: it is not what its index says, brings code, or a named component does not fit; one line.
    """
    import diffusers

    from models.diffusers_pipeline import dtype_of, quiet_libraries

    if runtime.weights == "tiny":
        raise ValueError(f"hub:{options.id} has no embedded weights: set WEIGHTS=pretrained or WEIGHTS=random")
    check_index(found.index, found.layout.told)
    kind = getattr(diffusers, found.class_name)
    named = _named_components(options, kind, found)
    opening = Opening(runtime, dtype_of(runtime), named, left_out)
    with quiet_libraries(), _telling(found.source):
        if found.prior is not None:
            pipeline = _open_with_prior(kind, found, opening)
        elif found.file is not None and not opening.is_random:
            from models.single_file_loading import open_file

            pipeline = open_file(kind, found, opening)
        else:
            pipeline = _open_folder(kind, found.layout, found.index, opening)
    return OpenedPipeline(pipeline, tuple(opening.notes))


def _named_components(options: HasSource, kind: Any, found: FoundPipeline) -> dict[str, Source]:
    """Return where the components are that HUB_COMPONENTS names.

    Raises:
        OSError: a folder that it names is not there.
        ValueError: the pipeline has no such component.
    """
    named = read_texts(options.components)
    known = components_of(kind) | ({PRIOR} if found.prior is not None else set())
    if unknown := sorted(set(named) - known):
        raise ValueError(
            f"HUB_COMPONENTS names {shown(unknown[0])}, but {found.source.told} is a {found.class_name}: it "
            f"has {', '.join(sorted(known))}"
        )
    sources = {name: parse_source(text) for name, text in named.items() if name != PRIOR}
    for name, source in sources.items():
        if source.kind == "file":
            raise OSError(f"HUB_COMPONENTS: {name} is the file {source.told}, expected a folder or hub id")
    return sources


def components_of(kind: Any) -> set[str]:
    """Return the names of a pipeline's components: what its constructor takes but plain values."""
    types = kind._get_signature_types()
    return {
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if name not in ("self", "args", "kwargs")
        and not isinstance(parameter.default, _PLAIN)
        and not {get_origin(each) or each for each in types.get(name, ())} & set(_PLAIN)
    }


@contextmanager
def _telling(source: Source) -> Iterator[None]:
    """Add to what is missing what can be done about it."""
    try:
        yield
    except OSError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(error).__name__)[:400]
        raise OSError(
            f"{source.told} does not load: {reason}; add what is missing, name another folder, or run its "
            "configurations alone by WEIGHTS=random"
        ) from error


def folder_of(source: Source, index: Mapping[str, Any], opening: Opening, bare: bool = False) -> Path:
    """Return the folder with a pipeline's files, fetched where they are on the hub. `bare`: without weights."""
    if source.kind == "folder":
        return source.path
    left_out = (*opening.named, *opening.left_out)
    return component_files(source, index, bare or opening.is_random, left_out).fetch(show_bar)


def _open_folder(kind: Any, source: Source, index: Mapping[str, Any], opening: Opening) -> Any:
    if source.kind == "hub" and kind._load_connected_pipes and not components_of(kind) <= set(index):
        raise ValueError(
            f"{source.told} is a {kind.__name__}, which is made of several repositories: save it as one folder "
            "(save_pretrained of diffusers), and name that"
        )
    folder = folder_of(source, index, opening)
    check_pipeline(folder)
    given = given_components(kind, folder, index, opening, source.told)
    if opening.is_random or any(is_moved(*value) for name, value in index.items() if is_component(name, value)):
        return _assemble(kind, folder, index, given, opening)
    return from_pretrained(kind, folder, dtype=opening.dtype, **given, **_without_watermark(kind))


def is_component(name: str, value: object) -> bool:
    """Return whether an entry of a checked index names the class of a component."""
    return not name.startswith("_") and isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _without_watermark(kind: Any) -> dict[str, Any]:
    """Return what keeps a pipeline from a watermark, which depends on a package that happens to be installed."""
    return {"add_watermarker": False} if "add_watermarker" in inspect.signature(kind.__init__).parameters else {}


def given_components(
    kind: Any, folder: Path, index: Mapping[str, Any], opening: Opening, told: str, bare: bool = False
) -> dict[str, Any]:
    """Return the components that do not come from the pipeline's folder as they are: named, half-size or none.

    bare: the weights are not in this folder.

    Raises:
        OSError: a component's folder is missing.
        ValueError: a component that is needed is none.
    """
    given: dict[str, Any] = {}
    required, _ = kind._get_signature_keys(kind)
    for name in sorted(components_of(kind)):
        value = index.get(name)
        is_none = not is_component(name, value)
        if name in opening.named:
            given[name] = _open_named(kind, name, value, opening)
        elif name in opening.left_out and name in kind._optional_components:
            given[name] = None
        elif is_none:
            if name in required or name in kind._optional_components:
                _check_may_lack(kind, name, index, opening, told)
                given[name] = None
        else:
            place = Place(folder, name)
            if not place.holds() and not (opening.is_random and "tokenizer" in name):
                raise OSError(f"there is no folder {name}, which {PIPELINE_INDEX} names ({remedy(name)})")
            if not (bare or opening.is_random):
                found = component_class(name, value, place)
                if is_network(found) and _weights(place, name) != "":
                    given[name] = load_component(found, place, opening.dtype)
    return given


def remedy(name: str) -> str:
    return f'HUB_COMPONENTS=\'{{"{name}": "FOLDER"}}\' names another one'


def _weights(place: Place, name: str) -> str:
    """Return which weights of a component are read: "" for those without a variant, or "fp16".

    Raises:
        OSError: there are none.
    """
    variant = choose_variant(path.name for path in place.path.iterdir())
    if variant is None:
        raise OSError(f"its folder {name} holds no weights, no .safetensors file of the usual name ({remedy(name)})")
    return variant


def _check_may_lack(kind: Any, name: str, index: Mapping[str, Any], opening: Opening, told: str) -> None:
    """Raise ValueError where a pipeline cannot be called without a component that its index leaves empty."""

    def is_none(other: str) -> bool:
        return other not in opening.named and not is_component(other, index.get(other))

    optional = name in kind._optional_components
    if name in _MAY_LACK.get(kind.__name__, ()):
        optional = True
    elif _NEEDED.fullmatch(name):
        optional = False
    elif found := _TEXT.fullmatch(name):
        # A text encoder may lack together with its tokenizer, and where there is another one.
        other = "tokenizer" if found[2] == "text_encoder" else "text_encoder"
        partner = f"{found[1] or ''}{other}{found[3] or ''}"
        others = [each for each in components_of(kind) if _TEXT.fullmatch(each) and each not in (name, partner)]
        optional = optional and is_none(partner) and any(not is_none(each) for each in others)
    if not optional:
        raise ValueError(f"{told}: {PIPELINE_INDEX} names no {name}, and a {kind.__name__} needs one ({remedy(name)})")


def _open_named(kind: Any, name: str, value: object, opening: Opening) -> Any:
    """Return a component that HUB_COMPONENTS names: a folder of its own, or of another pipeline."""
    source = opening.named[name]
    folder = source.path if source.kind == "folder" else _fetched(source, name, opening)
    place = Place(folder, name) if (folder / PIPELINE_INDEX).exists() else Place(folder)
    if not place.holds():
        raise OSError(f"HUB_COMPONENTS: {shown(place.path)} holds no files for {name}")
    annotated = kind._get_signature_types().get(name, ())
    found = component_class(name, value, place, annotated)
    opening.notes.append(f"{name}: {source.told}")
    return _made(name, found, place, opening)


def _fetched(source: Source, name: str, opening: Opening) -> Path:
    return single_component_files(source, name, opening.is_random).fetch(show_bar)


def _assemble(kind: Any, folder: Path, index: Mapping[str, Any], given: Mapping[str, Any], opening: Opening) -> Any:
    """Return a pipeline of parts that are made one by one: with random weights, or of classes that diffusers moved."""
    parts = dict(given)
    taken = inspect.signature(kind.__init__).parameters
    for name, value in index.items():
        if name in parts or name not in taken:
            continue
        if is_component(name, value):
            place = Place(folder, name)
            parts[name] = _made(name, component_class(name, value, place), place, opening)
        elif not name.startswith("_") and value is not None and value != [None, None]:
            parts[name] = value
    return kind(**parts, **_without_watermark(kind))


def _made(name: str, kind: Any, place: Place, opening: Opening) -> Any:
    """Return one component, with the weights that the run asks for."""
    if not opening.is_random:
        return load_component(kind, place, opening.dtype)
    component, note = build_component(name, kind, place, opening.runtime, opening.dtype)
    opening.notes += [note] if note else []
    return component


def _open_with_prior(kind: Any, found: FoundPipeline, opening: Opening) -> Any:
    """Return the combined pipeline of a folder that holds the decoder alone, and of its prior."""
    import diffusers

    assert found.prior is not None
    index = read_index_of(found.prior)
    check_index(index, found.prior.told)
    of_decoder, of_prior = getattr(diffusers, found.index["_class_name"]), getattr(diffusers, index["_class_name"])
    prefix = f"{PRIOR}_"
    own = {name: source for name, source in opening.named.items() if not name.startswith(prefix)}
    priors = {name.removeprefix(prefix): source for name, source in opening.named.items() if name.startswith(prefix)}
    decoder = _open_folder(of_decoder, found.source, found.index, _with(opening, own))
    prior = _open_folder(of_prior, found.prior, index, _with(opening, priors))
    parts = decoder.components | {prefix + name: part for name, part in prior.components.items()}
    expected = components_of(kind)
    if unfit := sorted((expected - set(parts)) | (set(parts) - expected)):
        raise ValueError(
            f"{found.prior.told} is a {index['_class_name']}, which does not fit {found.source.told} "
            f"({', '.join(unfit[:3])}): a {kind.__name__} needs another prior"
        )
    opening.notes.append(f"prior: {found.prior.told}")
    return kind(**parts)


def _with(opening: Opening, named: Mapping[str, Source]) -> Opening:
    return Opening(opening.runtime, opening.dtype, named, opening.left_out, opening.notes)
