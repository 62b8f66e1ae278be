"""Folders of models in the layouts of transformers and diffusers: what may stand in one before a library reads it.

Both libraries can run Python files that a folder brings, and follow paths and names that its configurations hold. A
folder that brings such is refused here, by its files alone, before any of its weights are read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.paths import is_inside
from files.reading import is_regular, read_regular, shown

PIPELINE_INDEX = "model_index.json"
# How configurations name Python files: of transformers and diffusers' single models, and of transformers' pipelines.
CODE_KEYS = ("auto_map", "custom_pipelines")
# Attention that transformers would download as a compiled kernel is named so: "owner/name".
KERNEL_KEYS = ("attn_implementation", "_attn_implementation")
# transformers would load the model that this file names in the place of the folder's own.
REDIRECTION = "adapter_config.json"
_MOST_JSON_BYTES = 256_000_000
# Classes that a module of diffusers' pipelines adds to transformers, which may have replaced itself since.
ADDED = {"T5GemmaEncoder": "prx"}
# What transformers 5 calls the classes that older folders name: CLIPFeatureExtractor is CLIPImageProcessor.
_FORMER, _PRESENT = "FeatureExtractor", "ImageProcessor"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NEVER = "which is never run here: use a model of the library's own classes"


def check_folder(folder: Path, root: Path | None = None) -> None:
    """Check the files of one model, tokenizer or configuration. `root`: the folder that links must stay in.

    Raises:
        OSError: something in it is a pipe or device, or cannot be read.
        ValueError: it names code, or a path in it leads outside; one line with what was found.
    """
    root = folder if root is None else root
    if not folder.is_dir():
        return  # the library says what is missing
    if not is_inside(folder, root):
        raise ValueError(f"{shown(folder)} leads outside of {shown(root)}; copy it there")
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            continue
        if path.is_symlink() and not is_inside(path, root):
            raise ValueError(f"{shown(path)} leads outside of {shown(root)}; copy its target there")
        if path.exists() and not is_regular(path):
            raise OSError(f"{shown(path)} is no regular file (a pipe or device); remove it")
        if path.suffix == ".json":
            _check_configuration(path, root)
    if (folder / REDIRECTION).exists() and not (folder / "adapter_model.safetensors").exists():
        raise ValueError(f"{shown(folder / REDIRECTION)} names another model to load instead; remove it")


def _check_configuration(path: Path, root: Path) -> None:
    content = read_regular(path, most_bytes=_MOST_JSON_BYTES)

    def check(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, value in pairs:  # of objects at any depth, and of keys that stand there twice
            if key in CODE_KEYS and value and not isinstance(value, (int, float)):
                raise _Refused(f"{shown(path)} names code of its own ({key}), {_NEVER}")
            if key in KERNEL_KEYS and "/" in str(value):
                raise _Refused(f"{shown(path)} names a kernel to download ({shown(str(value))}), {_NEVER}")
            for name in _named_files(path, key, value):
                if not is_inside(path.parent / name, root):
                    raise _Refused(f"{shown(path)} names {shown(name)}, which leads outside of {shown(root)}")
        return dict(pairs)

    try:
        json.loads(content, object_pairs_hook=check)
    except _Refused as refused:
        raise ValueError(str(refused)) from None
    except RecursionError:
        raise ValueError(f"{shown(path)} is nested too deeply to be checked; copy it again") from None
    except ValueError:
        return  # no JSON: the library that reads it says so


def _named_files(path: Path, key: str, value: object) -> set[str]:
    """Return the files that one entry of a configuration names and a library would open."""
    if key == "weight_map" and isinstance(value, Mapping):
        return set(map(str, value.values()))
    if key in ("configuration_files", "fast_tokenizer_files") and isinstance(value, list):
        return set(map(str, value))
    # In tokenizer_config.json such entries tell where a file once was, and are not followed.
    if key.endswith("_file") and isinstance(value, str) and path.name == "special_tokens_map.json":
        return {value}
    return set()


class _Refused(Exception):
    """Carries a refusal through the JSON reader."""


def check_pipeline(folder: Path) -> None:
    """Check a pipeline of diffusers: its model_index.json (see `check_index`), and the folders of its components.

    Raises:
        OSError: something in it is a pipe or device, or cannot be read.
        ValueError: it names code, or a path in it leads outside; one line with what was found.
    """
    check_folder(folder)
    index = read_index(folder)
    if index is None:
        return  # the library says what is missing
    check_index(index, str(folder))
    for name, value in index.items():
        if name.startswith("_") or not isinstance(value, list):
            continue
        check_folder(folder / name, folder)
        code = folder / name / f"{value[0]}.py"
        if value[0] is not None and code.exists():
            raise ValueError(f"{shown(code)} is code of the component {name}, {_NEVER}, or remove that file")
    if _loads_others(index) and (folder / "README.md").exists():
        raise ValueError(
            f"{shown(folder / 'README.md')} can name other pipelines, which diffusers would load with a "
            f"{index['_class_name']}: remove that file"
        )


def read_index(folder: Path) -> dict[str, Any] | None:
    """Return what a pipeline's model_index.json holds, or None where there is none.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged.
    """
    path = folder / PIPELINE_INDEX
    if not path.exists():
        return None
    try:
        content = json.loads(read_regular(path))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{shown(path)} is no JSON ({' '.join(str(error).split())}); copy it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{shown(path)} holds a {type(content).__name__}; expected the components of a pipeline")
    return content


def check_index(index: Mapping[str, Any], source: str) -> None:
    """Check that a pipeline and its components are classes of diffusers and transformers.

    index: what model_index.json holds. source: the folder or hub id, for the message.

    Raises:
        ValueError: it names anything else; one line with what was found.
    """
    import diffusers

    name = index.get("_class_name")
    if not isinstance(name, str):
        raise ValueError(f"{shown(source)} is a pipeline of code of its own ({shown(str(name))}), {_NEVER}")
    found = getattr(diffusers, name, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise ValueError(
            f"{shown(source)} is a pipeline of class {shown(name)}, "
            f"which diffusers {diffusers.__version__} does not have"
        )
    for component, value in index.items():
        if component.startswith("_"):
            continue
        if value is None or isinstance(value, (bool, int, float)) or _is_numbers(value):
            continue
        if not _PLAIN_NAME.fullmatch(component):
            raise ValueError(f"{shown(source)} has a component {shown(component)}, which is no plain folder name")
        _check_component(component, value, source)


def _is_numbers(value: object) -> bool:
    """Return whether an entry of an index is an option, such as the layers that are read, and no component."""
    return isinstance(value, list) and all(isinstance(item, (int, float)) for item in value)


def _check_component(component: str, value: object, source: str) -> None:
    told = f"{shown(source)} takes its component {component} from {shown(str(value))}"
    expected = "expected [library, class] with a class of diffusers or transformers"
    if not isinstance(value, list) or len(value) != 2:
        raise ValueError(f"{told}; {expected}")
    library, name = value
    if library is None:
        return
    if not isinstance(library, str) or not isinstance(name, str):
        raise ValueError(f"{told}; {expected}")
    place = _library(library)
    if getattr(place, "__name__", "").partition(".")[0] not in ("diffusers", "transformers"):
        raise ValueError(f"{told}, {_NEVER}; {expected}")
    found = find_class(library, name)
    if found is not None and not isinstance(found, type):
        raise ValueError(f"{told}, which is no class; {expected}")


def _library(name: str) -> Any:
    """Return what a component's library is: diffusers, transformers, or a module of diffusers' pipelines; else None."""
    import diffusers
    import transformers

    own = {"diffusers": diffusers, "transformers": transformers}
    return (
        own.get(name) or getattr(diffusers.pipelines, name, None) or getattr(diffusers.pipelines.deprecated, name, None)
    )


def find_class(library: str, name: str) -> Any:
    """Return what a component's library has under the name of its class, or under its present name; else None.

    diffusers moves old pipelines into a package of their own, and then finds the classes neither by the name that
    published folders have for their module, nor by the one that it writes itself.
    """
    import diffusers

    found = getattr(_library(library), name, None)
    if found is None and library == "transformers" and name in ADDED:
        return getattr(getattr(diffusers.pipelines, ADDED[name]), name, None)
    if found is None and library == "transformers" and name.endswith(_FORMER):
        return getattr(_library(library), name.removesuffix(_FORMER) + _PRESENT, None)
    if found is not None or library != "diffusers":
        return found
    moved = diffusers.pipelines.deprecated
    classes = [getattr(getattr(moved, module, None), name, None) for module in sorted(moved._import_structure)]
    return next((each for each in classes if each is not None), None)


def is_moved(library: str, name: str) -> bool:
    """Return whether diffusers, though it has a component's class, would not find it by what an index names."""
    import diffusers

    if library == "transformers" and name in ADDED:
        return True
    place = (
        _library(library) if library in ("diffusers", "transformers") else getattr(diffusers.pipelines, library, None)
    )
    return getattr(place, name, None) is None and find_class(library, name) is not None


def _loads_others(index: Mapping[str, Any]) -> bool:
    """Return whether diffusers would load further pipelines that the README beside this one names."""
    import diffusers

    return bool(getattr(getattr(diffusers, index["_class_name"]), "_load_connected_pipes", False))
