"""What the parts of one pipeline are opened with, and the parts that its folder lacks: named elsewhere, or none."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

from files.downloads import show_bar
from files.model_folders import PIPELINE_INDEX
from files.reading import shown
from models.base import Runtime
from models.pipelines.components import Place, build_component, component_class, is_network, load_component
from models.pipelines.sources import Source, component_files, single_component_files
from models.pipelines.weight_files import choose_variant, half_size_parts

# Without these a pipeline cannot be called, whatever diffusers calls optional.
_NEEDED = re.compile(r"(unet|transformer|vae|movq|vqgan|vqvae|decoder|prior|prior_prior|(.+_)?scheduler)")
_TEXT = re.compile(r"(prior_)?(text_encoder|tokenizer)(_\d)?")
_PLAIN = (bool, int, float, str, tuple, list, dict)
# Text encoders that a pipeline is documented to work without, though diffusers wants to be told so.
_MAY_LACK = {"StableDiffusion3Pipeline": ("text_encoder_3", "tokenizer_3")}
_MAY_LACK["StableDiffusion3PAGPipeline"] = _MAY_LACK["StableDiffusion3Pipeline"]


@dataclass
class Opening:
    """What the parts of one pipeline are opened with; notes are collected on the way.

    settings: of a family with settings of its own for components, the setting by component; else HUB_COMPONENTS.
    """

    runtime: Runtime
    dtype: Any
    named: Mapping[str, Source]
    left_out: Collection[str]
    notes: list[str] = field(default_factory=list)
    halves: list[str] = field(default_factory=list)
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_random(self) -> bool:
        return self.runtime.weights == "random"

    def load(self, name: str, kind: Any, place: Place, is_named: bool = False) -> Any:
        """Return a component as `load_component`, and note whether its weights are half-size ones."""
        if is_network(kind) and half_size_parts(path.name for path in place.path.iterdir()):
            self.halves.append(name)
        return load_component(kind, place, self.dtype, is_named)

    def remedy(self, name: str) -> str:
        """Return what a user can do about a component that is missing."""
        if name in self.settings:
            return f"name one by {self.settings[name]}=FOLDER"
        return f'name one by HUB_COMPONENTS=\'{{"{name}": "FOLDER"}}\'' + (
            ", with MODELS=hub: in front of the model's name" if self.settings else ""
        )


def folder_of(source: Source, index: Mapping[str, Any], opening: Opening, bare: bool = False) -> Path:
    """Return the folder with a pipeline's files, fetched where they are on the hub. `bare`: without weights."""
    if source.kind == "folder":
        return source.path
    left_out = (*opening.named, *opening.left_out)
    return component_files(source, index, bare or opening.is_random, left_out).fetch(show_bar)


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


def is_component(name: str, value: object) -> bool:
    """Return whether an entry of a checked index names the class of a component."""
    return not name.startswith("_") and isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


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
                raise OSError(f"there is no folder {name}, which {PIPELINE_INDEX} names ({opening.remedy(name)})")
            if not (bare or opening.is_random):
                found = component_class(name, value, place)
                if is_network(found) and _weights(place, name, opening) != "":
                    given[name] = opening.load(name, found, place)
    return given


def _weights(place: Place, name: str, opening: Opening) -> str:
    """Return which weights of a component are read: "" for those without a variant, or "fp16".

    Raises:
        OSError: there are none.
    """
    variant = choose_variant(path.name for path in place.path.iterdir())
    if variant is None:
        raise OSError(
            f"its folder {name} holds no weights, no .safetensors file of the usual name ({opening.remedy(name)})"
        )
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
        # A text encoder may be missing together with its tokenizer, and where there is another one.
        other = "tokenizer" if found[2] == "text_encoder" else "text_encoder"
        partner = f"{found[1] or ''}{other}{found[3] or ''}"
        others = [each for each in components_of(kind) if _TEXT.fullmatch(each) and each not in (name, partner)]
        optional = optional and is_none(partner) and any(not is_none(each) for each in others)
    if not optional:
        raise ValueError(
            f"{told}: {PIPELINE_INDEX} names no {name}, and a {kind.__name__} needs one ({opening.remedy(name)})"
        )


def _open_named(kind: Any, name: str, value: object, opening: Opening) -> Any:
    """Return a component that HUB_COMPONENTS names: a folder of its own, or of another pipeline."""
    source = opening.named[name]
    folder = source.path if source.kind == "folder" else _fetched(source, name, opening)
    place = Place(folder, name) if (folder / PIPELINE_INDEX).exists() else Place(folder)
    if not place.holds():
        setting = opening.settings.get(name, "HUB_COMPONENTS")
        raise OSError(f"{setting}: {shown(place.path)} holds no files for {name}")
    annotated = kind._get_signature_types().get(name, ())
    found = component_class(name, value, place, annotated, is_named=True)
    opening.notes.append(f"{name}: {source.told}")
    return make_component(name, found, place, opening, is_named=True)


def _fetched(source: Source, name: str, opening: Opening) -> Path:
    return single_component_files(source, name, opening.is_random).fetch(show_bar)


def make_component(name: str, kind: Any, place: Place, opening: Opening, is_named: bool = False) -> Any:
    """Return one component, with the weights that the run asks for. is_named: by HUB_COMPONENTS."""
    if not opening.is_random:
        return opening.load(name, kind, place, is_named)
    component, note = build_component(name, kind, place, opening.runtime, opening.dtype)
    opening.notes += [note] if note else []
    return component
