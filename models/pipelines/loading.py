"""Opens a pipeline that was found: from folders, the hub's cache or a single file, or with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from files.model_folders import check_index, check_pipeline, is_moved
from files.opening import from_pretrained
from files.reading import shown
from models.base import Runtime
from models.json_options import read_texts
from models.pipelines.components import Place, builder_of, component_class, is_network
from models.pipelines.device_map import assign, check_class, check_map, count_bytes, device_name, place_components
from models.pipelines.opening import (
    Opening,
    components_of,
    folder_of,
    given_components,
    is_component,
    make_component,
)
from models.pipelines.single_file_loading import open_file
from models.pipelines.sources import PRIOR, FoundPipeline, HasSource, Source, parse_source, read_index_of
from models.pipelines.weight_files import half_size_note


@dataclass(frozen=True)
class OpenedPipeline:
    """A pipeline on the CPU (with random weights: on the run's device), and notes for the footer.

    With a device map each of its networks is on its GPU.
    """

    pipeline: Any
    notes: tuple[str, ...]


def open_pipeline(
    options: HasSource,
    runtime: Runtime,
    found: FoundPipeline,
    left_out: Collection[str] = ("safety_checker",),
    settings: Mapping[str, str] | None = None,
) -> OpenedPipeline:
    """Return the pipeline that was found, with the weights that the run asks for.

    left_out: components that are None where the pipeline can be without them, such as a safety checker.
    settings: of a family with settings of its own for components, the setting by component.

    Raises:
        OSError: files are missing; one line with the remedy.
        ValueError: it is not what its index says, brings code, or a named component does not fit; one line.
    """
    import diffusers

    from models.pipelines.generator import dtype_of, quiet_libraries

    if runtime.weights == "tiny":
        raise ValueError(f"hub:{options.id} has no embedded weights: set WEIGHTS=pretrained or WEIGHTS=random")
    check_index(found.index, found.layout.told)
    if runtime.device_map:
        check_class(found.class_name, found.source.told)
    kind = getattr(diffusers, found.class_name)
    named = _named_components(options, kind, found)
    opening = Opening(runtime, dtype_of(runtime), named, left_out, settings=settings or {})
    with quiet_libraries(), _telling(found.source, opening):
        if found.prior is not None:
            pipeline = _open_with_prior(kind, found, opening)
        elif found.file is not None and not opening.is_random:
            pipeline = open_file(kind, found, opening)
        else:
            pipeline = _open_folder(kind, found.layout, found.index, opening)
        if runtime.device_map:
            place_components(pipeline, found.source.told)
    return OpenedPipeline(pipeline, (*opening.notes, *half_size_note(opening.halves, runtime.dtype)))


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


@contextmanager
def _telling(source: Source, opening: Opening) -> Iterator[None]:
    """Add to what is missing what can be done about it."""
    try:
        yield
    except OSError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines[0] if lines else type(error).__name__)[:400]
        remedies = ["add what is missing", "name another folder"]
        # A family with settings of its own draws random weights without these files.
        remedies += [] if opening.is_random or opening.settings else ["run its configurations alone by WEIGHTS=random"]
        raise OSError(f"{source.told} does not load: {reason}; {', or '.join(remedies)}") from error


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
    mapped = {}
    if opening.runtime.device_map:
        _map_unmade(kind, folder, index, given, opening)  # what does not fit is refused before its weights are read
        mapped = {"device_map": opening.runtime.device_map}
    return from_pretrained(kind, folder, dtype=opening.dtype, **mapped, **given, **_without_watermark(kind))


def _without_watermark(kind: Any) -> dict[str, Any]:
    """Return what keeps a pipeline from a watermark, which depends on a package that happens to be installed."""
    return {"add_watermarker": False} if "add_watermarker" in inspect.signature(kind.__init__).parameters else {}


def _assemble(kind: Any, folder: Path, index: Mapping[str, Any], given: Mapping[str, Any], opening: Opening) -> Any:
    """Return a pipeline of parts that are made one by one: with random weights, or of classes that diffusers moved."""
    parts = dict(given)
    taken = inspect.signature(kind.__init__).parameters
    is_drawn_apart = opening.is_random and bool(opening.runtime.device_map)
    device_map = _map_unmade(kind, folder, index, given, opening) if is_drawn_apart else {}
    for name, value in index.items():
        if name in parts or name not in taken:
            continue
        if is_component(name, value):
            place, here = Place(folder, name), _on(device_map.get(name), opening)
            parts[name] = make_component(name, component_class(name, value, place), place, here)
        elif not name.startswith("_") and value is not None and value != [None, None]:
            parts[name] = value
    pipeline = kind(**parts, **_without_watermark(kind))
    pipeline.hf_device_map = device_map or None
    return pipeline


def _map_unmade(
    kind: Any, folder: Path, index: Mapping[str, Any], given: Mapping[str, Any], opening: Opening
) -> dict[str, int | str]:
    """Return on which GPU each network of a folder belongs, by its configuration alone, before it is made there.

    Raises:
        OSError: a configuration is missing.
        ValueError: as `check_map`.
    """
    from accelerate import init_empty_weights

    sizes_bytes = {name: count_bytes(part) for name, part in given.items() if is_network(type(part))}
    taken = inspect.signature(kind.__init__).parameters
    for name, value in index.items():
        if name in given or name not in taken or not is_component(name, value):
            continue
        place = Place(folder, name)
        network = component_class(name, value, place)
        if is_network(network):
            with init_empty_weights():
                sizes_bytes[name] = count_bytes(builder_of(network, place)().to(opening.dtype))
    device_map = assign(sizes_bytes)
    check_map(device_map, sizes_bytes, shown(folder))
    return device_map


def _on(device: int | str | None, opening: Opening) -> Opening:
    """Return what a part is opened with that is made on a device of a map; None: as all others are."""
    if device is None:
        return opening
    return replace(opening, runtime=replace(opening.runtime, device=device_name(device)))


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
    return Opening(
        opening.runtime, opening.dtype, named, opening.left_out, opening.notes, opening.halves, opening.settings
    )
