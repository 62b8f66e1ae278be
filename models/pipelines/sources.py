"""Where a pipeline comes from: a folder, a repository of the hub or a single file, and what its index says.

Neither torch nor diffusers is imported here, so that a run can refuse a pipeline before anything is prepared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from files.downloads import HubFiles
from files.hub import NotOnHub, find_snapshot, is_offline, list_files
from files.model_folders import PIPELINE_INDEX, read_index
from files.reading import shown
from files.sources import expanded, is_folder
from models.json_options import read_texts
from models.pipelines.single_files import SUFFIXES, SingleFile, check_suffix, recognise_file
from models.pipelines.weight_files import half_size_parts, holds_weights, wanted_files

_HUB_ID = re.compile(r"([A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")
PRIOR = "prior"
# Which class is called where a folder holds the decoder alone, as diffusers' AutoPipelineForText2Image maps them.
COMBINED = {
    "KandinskyPipeline": "KandinskyCombinedPipeline",
    "KandinskyV22Pipeline": "KandinskyV22CombinedPipeline",
    "StableCascadeDecoderPipeline": "StableCascadeCombinedPipeline",
    "WuerstchenDecoderPipeline": "WuerstchenCombinedPipeline",
}
# The published priors of published decoders. A README that names one is not followed.
PRIORS = {
    "kandinsky-community/kandinsky-2-1": "kandinsky-community/kandinsky-2-1-prior",
    "kandinsky-community/kandinsky-2-2-decoder": "kandinsky-community/kandinsky-2-2-prior",
    "stabilityai/stable-cascade": "stabilityai/stable-cascade-prior",
    "warp-ai/wuerstchen": "warp-ai/wuerstchen-prior",
}


# Components without weights, by their name or their class's.
WEIGHTLESS = re.compile(r"tokenizer|scheduler|processor|extractor|guider|guidance", re.IGNORECASE)


class HasSource(Protocol):
    """Options that say which pipeline is meant.

    id: folder, hub id or single file. components: JSON text, a component's name to its folder or hub id. config: folder
    or hub id with the configurations and tokenizers of a single file, or "".
    """

    @property
    def id(self) -> str: ...

    @property
    def components(self) -> str: ...

    @property
    def config(self) -> str: ...


@dataclass(frozen=True)
class Source:
    """One place that files come from, as it was named."""

    kind: Literal["folder", "hub", "file"]
    name: str
    revision: str = ""

    @property
    def path(self) -> Path:
        """The folder or file; of a hub id there is none."""
        assert self.kind != "hub"
        return expanded(self.name)

    @property
    def told(self) -> str:
        """The source for a message."""
        return shown(f"{self.name}@{self.revision}" if self.revision else self.name)


@dataclass(frozen=True)
class FoundPipeline:
    """A pipeline of which the index was read, and nothing else.

    source: where it is. layout: where its index is: the same, or for a single file what holds its configurations.
    index: what model_index.json holds. class_name: the class that will be called; for the folder of a decoder the one
    that puts it together with its prior. prior: where that prior is. file: what a single file holds.
    """

    source: Source
    layout: Source
    index: Mapping[str, Any]
    class_name: str
    prior: Source | None = None
    file: SingleFile | None = None


def parse_source(text: str) -> Source:
    """Return what a text names: a folder, a single file of weights, or a hub id with its revision, "org/name@fp16".

    Raises:
        OSError: it can only be a folder or file, and there is none, or it is a file of another kind.
    """
    path = expanded(text)
    if is_folder(path):
        return Source("folder", text)
    if _is_there(path):
        check_suffix(path)
        return Source("file", text)
    named = _HUB_ID.fullmatch(text)
    if named and not named[1].lower().endswith(SUFFIXES):
        return Source("hub", named[1], named[2] or "")
    what = "file" if text.lower().endswith(SUFFIXES) else "folder"
    raise OSError(
        f"no {what} {shown(text)}: give a folder in the diffusers layout, a .safetensors file, or a hub id such as "
        "org/name or org/name@revision"
    )


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def find_pipeline(options: HasSource) -> FoundPipeline:
    """Return the pipeline that the options name, with its index read; of the hub that one file is fetched.

    Raises:
        OSError: there is no such pipeline, or it cannot be fetched; one line.
        ValueError: its index is damaged, or a part of it is missing and was not named; one line.
    """
    source = parse_source(options.id)
    file = recognise_file(source.path) if source.kind == "file" else None
    layout = source if file is None else _layout_of(file, options.config, source)
    if layout.kind == "file":
        raise OSError(f"{layout.told} is a file: expected a folder or hub id with the configurations of a pipeline")
    index = read_index_of(layout)
    name = index.get("_class_name")
    if name is None:
        raise ValueError(f"the {PIPELINE_INDEX} of {layout.told} names no class: expected that of a pipeline")
    if not isinstance(name, str):
        raise ValueError(
            f"{layout.told} is a pipeline of code of its own ({shown(str(name))}), which is never run here"
        )
    if file is not None and name != file.class_name:
        raise ValueError(f"{source.told} is {file.what}, but {layout.told} is of class {name}: name another one")
    if name not in COMBINED:
        return FoundPipeline(source, layout, index, name, file=file)
    return FoundPipeline(source, layout, index, COMBINED[name], _prior_of(source, name, options), file)


def _layout_of(file: SingleFile, config: str, source: Source) -> Source:
    if not config and not file.repository:
        raise ValueError(
            f"{source.told} is {file.what}, and does not say which version: name a folder or hub id with its "
            "configurations by HUB_CONFIG"
        )
    return parse_source(config or file.repository)


def _prior_of(source: Source, name: str, options: HasSource) -> Source:
    named = read_texts(options.components).get(PRIOR)
    if named is not None:
        return parse_source(named)
    if source.kind == "hub" and source.name in PRIORS:
        return Source("hub", PRIORS[source.name])
    raise ValueError(
        f"{source.told} is a {name}, a decoder that needs its prior: name its folder or hub id, as "
        f'HUB_COMPONENTS=\'{{"{PRIOR}": "FOLDER"}}\''
    )


def read_index_of(source: Source) -> Mapping[str, Any]:
    """Return what a pipeline's model_index.json holds. Raises as `find_pipeline`."""
    folder = source.path if source.kind == "folder" else _fetch_index(source)
    index = read_index(folder)
    if index is None:
        raise OSError(f"{source.told} holds no {PIPELINE_INDEX}: expected a pipeline in the diffusers layout")
    return index


def _fetch_index(source: Source) -> Path:
    try:
        return HubFiles(source.told, source.name, (PIPELINE_INDEX,), revision=source.revision).fetch()
    except NotOnHub as error:
        hint = f"; weights such as *.fp16.safetensors are found without @{source.revision}" if source.revision else ""
        raise NotOnHub(f"{error}{hint}") from error


def hub_files(found: FoundPipeline, options: HasSource, weights: str) -> list[HubFiles]:
    """Return what of the hub a pipeline needs: its own files, those of its prior and of the components that were named.

    Sizes and names come from the hub, or from its cache where all is there. `weights`: as WEIGHTS; "random" needs
    configurations and tokenizers alone.

    Raises:
        OSError: the hub cannot be asked, or it lacks files.
        ValueError: HUB_COMPONENTS cannot be read.
    """
    named = read_texts(options.components)
    needs = []
    if found.layout.kind == "hub":
        # The weights of a single file are in it; only the text around them comes from its layout.
        bare = weights == "random" or found.file is not None
        needs.append(component_files(found.layout, found.index, bare, left_out=_left_out(options, named)))
    if found.prior is not None and found.prior.kind == "hub":
        needs.append(component_files(found.prior, read_index_of(found.prior), weights == "random"))
    for name, text in named.items():
        source = parse_source(text)
        if name != PRIOR and source.kind == "hub":
            needs.append(single_component_files(source, name, weights == "random"))
    return needs


def check_components(found: FoundPipeline, text: str, parts: Sequence[str] = ()) -> None:
    """Check the names in HUB_COMPONENTS against the index and `parts`, the arguments that the class is made of.

    Raises:
        ValueError: one is no component of the pipeline. Of one put together with its prior, loading tells.
    """
    if found.prior is not None:
        return
    known = [name for name in found.index if not name.startswith("_")]
    for name in read_texts(text):
        if name not in known and name not in parts:
            raise ValueError(
                f"HUB_COMPONENTS names {shown(name)}, which {found.source.told} does not have: its components are "
                f"{', '.join(known)}"
            )


def check_local(found: FoundPipeline, options: HasSource, weights: str) -> None:
    """Raise OSError where the folder of a pipeline lacks weights of a component, as far as names of files tell."""
    if found.layout.kind != "folder" or found.file is not None or weights == "random":
        return
    left_out = _left_out(options, read_texts(options.components))
    folder = found.layout.path
    for name, value in found.index.items():
        if name.startswith("_") or name in left_out or not isinstance(value, list) or not value or not value[0]:
            continue
        has_weights = isinstance(value[-1], str) and not WEIGHTLESS.search(value[-1])
        if not has_weights or not (folder / name / "config.json").is_file():
            continue
        if not holds_weights(folder / name):
            raise OSError(
                f"{found.source.told} holds no weights in {name}: expected a .safetensors file there; WEIGHTS=random "
                "needs none"
            )


def _left_out(options: HasSource, named: Mapping[str, str]) -> tuple[str, ...]:
    """Return the components that are not loaded: another one was named, or a safety checker is off."""
    return (*named, *(() if getattr(options, "safety", True) else ("safety_checker",)))


def component_files(source: Source, index: Mapping[str, Any], bare: bool, left_out: Sequence[str] = ()) -> HubFiles:
    """Return the files of a pipeline in a repository. `bare`: without weights."""
    folders = {
        name: not bare and not WEIGHTLESS.search(str(value[-1]))
        for name, value in index.items()
        if not name.startswith("_") and isinstance(value, list) and value and value[0] and name not in left_out
    }
    return _files(source, folders, (PIPELINE_INDEX,))


def single_component_files(source: Source, name: str, bare: bool) -> HubFiles:
    """Return the files of one component: of its folder in a pipeline's repository, or of a repository of its own."""
    folder = name if PIPELINE_INDEX in _names(source) else ""
    return _files(source, {folder: not bare and not WEIGHTLESS.search(name)})


def _files(source: Source, folders: Mapping[str, bool], others: Sequence[str] = ()) -> HubFiles:
    """Return the files of components' folders, each with whether it must hold weights.

    Where the cache has half-size weights alone, the hub is asked for full ones: the same setting then reads the same
    weights on each machine. What is here is used where it cannot be asked.
    """
    names = _cached_names(source.name, source.revision)
    files, lacking = wanted_files(names, folders)
    if (lacking or not files) and not is_offline():
        files, lacking = wanted_files(_listed_names(source), folders)
    elif half_size_parts(files) and not is_offline():
        with suppress(OSError):
            published, unpublished = wanted_files(_listed_names(source), folders)
            files = files if unpublished else published
    if lacking:
        raise OSError(f"{source.told} lacks {' and '.join(lacking)}")
    return HubFiles(f"hub:{source.told}", source.name, (*others, *files), revision=source.revision)


def _names(source: Source) -> Sequence[str]:
    """Return the files of a repository as far as is known without the hub, else as the hub lists them."""
    names = _cached_names(source.name, source.revision)
    return names if names or is_offline() else _listed_names(source)


def _listed_names(source: Source) -> tuple[str, ...]:
    return tuple(list_files(source.name, source.revision))


def _cached_names(repository: str, revision: str) -> tuple[str, ...]:
    folder = _snapshot(repository, revision)
    if folder is None:
        return ()
    return tuple(path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file())


def _snapshot(repository: str, revision: str) -> Path | None:
    return find_snapshot(repository, ("*.json",), (), revision)
