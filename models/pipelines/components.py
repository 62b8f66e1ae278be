"""The parts of a diffusers pipeline one by one: read from their folders, or drawn at random from a configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.model_folders import ADDED, check_pipeline, find_class, read_index
from files.opening import from_pretrained
from files.reading import read_regular, shown
from models.base import Runtime
from models.hash_tokenizer import HashTokenizer
from models.pipelines.weight_files import choose_variant, variants_of
from models.random_weights import build_any_random

CONFIGURATION = "config.json"
STAND_IN_NOTE = "{name} is a stand-in: its folder holds no tokenizer"
# Tokenizers whose ids a hash can stand for: pipelines ask nothing else of them than ids of a fixed length.
_STAND_INS = {
    "CLIPTokenizer": HashTokenizer(vocabulary=49408, model_max_length=77, start=49406, end=49407, pad=49407),
    "T5Tokenizer": HashTokenizer(vocabulary=32128, model_max_length=512, start=None, end=1, pad=0),
}


@dataclass(frozen=True)
class Place:
    """Where the files of one component are: `folder` of the pipeline or component, and the name of a folder in it."""

    folder: Path
    subfolder: str = ""

    @property
    def path(self) -> Path:
        return self.folder / self.subfolder

    def holds(self) -> bool:
        """Return whether there are any files."""
        return self.path.is_dir() and any(path.is_file() for path in self.path.iterdir())


def component_class(
    name: str, value: object, place: Place, annotated: tuple[Any, ...] = (), is_named: bool = False
) -> Any:
    """Return the class of a component: as its own configuration or the pipeline's index names it, or its annotation.

    value: [library, class] of the index, or [None, None] where it has none. is_named: whether a user named the folder,
    which may hold another class than the index expects: what diffusers wrote into it then comes first.

    Raises:
        ValueError: no class of diffusers or transformers is named anywhere, or one that they do not have.
    """
    import diffusers
    import transformers

    library, of_index = value if isinstance(value, list) and len(value) == 2 else (None, None)
    own = _configuration(place)
    in_folder = getattr(diffusers, str(own.get("_class_name")), None)
    if isinstance(in_folder, type) and (is_named or library is None):
        return in_folder
    if library is not None and of_index is not None:
        in_index = find_class(library, of_index)
        if in_index is None:
            raise ValueError(f"{name} is of class {shown(str(of_index))}, which {shown(str(library))} does not have")
        return in_index
    if "tokenizer" in name:
        return transformers.AutoTokenizer
    models = [kind for kind in annotated if isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)]
    if len(models) == 1:
        return models[0]
    for architecture in own.get("architectures") or ():
        found = getattr(transformers, str(architecture), None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    if "processor" in name or "extractor" in name:
        return transformers.AutoImageProcessor
    raise ValueError(f"{shown(place.path)} does not say what class the component {name} is of")


def _configuration(place: Place) -> Mapping[str, Any]:
    for name in (CONFIGURATION, "scheduler_config.json"):
        if (place.path / name).is_file():
            try:
                content = json.loads(read_regular(place.path / name))
            except ValueError as error:
                raise ValueError(f"{shown(place.path / name)} is no JSON; copy it again") from error
            return content if isinstance(content, dict) else {}
    return {}


def is_network(kind: Any) -> bool:
    """Return whether a component's class has weights."""
    import torch

    return isinstance(kind, type) and issubclass(kind, torch.nn.Module)


def load_component(kind: Any, place: Place, dtype: Any, is_named: bool = False) -> Any:
    """Return a component with the weights of its folder, in `dtype`; half-size ones where there are no others.

    is_named: whether a user named the folder: both libraries would draw at random what is not in its files.

    Raises:
        OSError: files are missing.
        ValueError: they do not fit; one line.
    """
    if getattr(kind, "__name__", "") in ADDED:  # diffusers' own form of it looks for no folder in the folder
        place = Place(place.path)
    options: dict[str, Any] = {"subfolder": place.subfolder} if place.subfolder else {}
    if is_network(kind):
        options["dtype"] = dtype
        if variant := choose_variant(path.name for path in place.path.iterdir()):
            options["variant"] = variant
    if not is_network(kind) or not is_named:
        return from_pretrained(kind, place.folder, **options)
    component, found = from_pretrained(kind, place.folder, output_loading_info=True, **options)
    if lacking := sorted(found["missing_keys"]):
        raise ValueError(f"{shown(place.path)} holds no {kind.__name__}: it lacks {', '.join(lacking[:3])}")
    return component


def load_other_variants(folder: Path, dtype: Any, variant: str | None = None, without: str = "") -> dict[str, Any]:
    """Return the components of a pipeline's folder that have neither the weights of `variant` nor those without one.

    diffusers would look for these two alone, where `load_component` takes what is there. without: a component that
    comes from elsewhere.

    Raises: as `load_component`.
    """
    check_pipeline(folder)
    found: dict[str, Any] = {}
    for name, value in (read_index(folder) or {}).items():
        place = Place(folder, name)
        is_component = not name.startswith("_") and isinstance(value, list) and len(value) == 2 and value[0] is not None
        if not is_component or name == without or not place.holds():
            continue
        there = variants_of(path.name for path in place.path.iterdir())
        if there and "" not in there and variant not in there:
            found[name] = load_component(component_class(name, value, place), place, dtype)
    return found


def build_component(name: str, kind: Any, place: Place, runtime: Runtime, dtype: Any) -> tuple[Any, str]:
    """Return a component with random weights on the run's device, and a note; what has no weights is read as it is.

    A network is made on the device and in `dtype` at once: it may be larger than the memory beside the CPU.

    Raises:
        OSError: the configuration, or files of a tokenizer that cannot be stood in for, are missing.
        ValueError: it does not fit; one line.
    """
    if not is_network(kind):
        stand_in = _stand_in(name, kind, place)
        if stand_in is not None:
            return stand_in, STAND_IN_NOTE.format(name=name)
        return load_component(kind, place, dtype), ""
    network = build_any_random(builder_of(kind, place), runtime.device, dtype)
    generation = getattr(network, "generation_config", None)
    if generation is not None:
        generation.eos_token_id = None  # which random weights would draw at once, where trained ones write a whole plan
    return network, ""


def builder_of(kind: Any, place: Place) -> Callable[[], Any]:
    """Return what builds a network from its configuration alone. Raises OSError where that is missing."""
    import transformers

    if not (place.path / CONFIGURATION).is_file():
        raise OSError(f"{shown(place.path)} holds no {CONFIGURATION}: WEIGHTS=random needs the configurations")
    if issubclass(kind, transformers.PreTrainedModel):
        options = {"subfolder": place.subfolder} if place.subfolder else {}
        configuration = from_pretrained(kind.config_class, place.folder, **options)
        if kind.__name__ in ADDED:
            configuration = configuration.encoder
        return lambda: kind(configuration)
    from diffusers.models.model_loading_utils import _fetch_remapped_cls_from_config
    from diffusers.models.modeling_utils import LegacyModelMixin

    values = {key: value for key, value in _configuration(place).items() if key != "quantization_config"}
    # Some published configurations name the class that they were first saved with.
    real = _fetch_remapped_cls_from_config(values, kind) if issubclass(kind, LegacyModelMixin) else kind
    return lambda: real.from_config(values)


def _stand_in(name: str, kind: Any, place: Place) -> HashTokenizer | None:
    """Return a stand-in for a tokenizer without its files, or None where they are there or none can stand in."""
    class_name = getattr(kind, "__name__", "").removesuffix("Fast")
    published = _STAND_INS.get(class_name)
    if "tokenizer" not in name or (place.holds() if published is None else _has_vocabulary(place.path)):
        return None
    if published is None:
        raise OSError(
            f"{shown(place.path)} holds no tokenizer, and nothing stands in for a {class_name or 'tokenizer'}: copy "
            "its files there"
        )
    encoder = place.folder / name.replace("tokenizer", "text_encoder") / CONFIGURATION
    values = json.loads(read_regular(encoder)) if encoder.is_file() else {}
    vocabulary = int(values.get("vocab_size", published.vocabulary))

    def within(token: int) -> int:
        return min(token, vocabulary - 1)

    return HashTokenizer(
        vocabulary=vocabulary,
        model_max_length=int(values.get("max_position_embeddings", published.model_max_length)),
        start=None if published.start is None else within(published.start),
        end=within(published.end),
        pad=within(published.pad),
    )


def _has_vocabulary(folder: Path) -> bool:
    names = ("tokenizer.json", "vocab.json", "spiece.model", "tokenizer.model", "vocab.txt", "sentencepiece.bpe.model")
    return any((folder / name).is_file() for name in names)
