"""Which files of a pipeline's folders are read: configurations, tokenizers, and one set of weights each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from models.base import DType

_SMALL = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab", ".merges")
# "model.fp16-00001-of-00003.safetensors", and as older versions wrote it "model-00001-of-00003.fp16.safetensors".
_WEIGHTS = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>[A-Za-z0-9_]+))?"
    r"(?:-(?P<part>\d+)-of-(?P<parts>\d+))?(?:\.(?P<late>[A-Za-z0-9_]+))?\.(?P<suffix>safetensors|bin)"
)
_PREFERRED = ("", "fp16", "bf16", "fp32")
HALF_SIZE = ("fp16", "bf16")


def is_small(name: str) -> bool:
    """Return whether a file, by its name, is a configuration or belongs to a tokenizer."""
    return name.endswith(_SMALL)


def variants_of(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return the complete sets of weights among the files of one folder: variant ("" for none) to the files' names.

    Of a variant in both formats the one in safetensors is returned.
    """
    sets: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for name in names:
        if found := _WEIGHTS.fullmatch(name):
            variant = found["variant"] or found["late"] or ""
            place = (int(found["part"] or 1), int(found["parts"] or 1))
            sets.setdefault((variant, found["suffix"]), {})[name] = place
    complete: dict[str, tuple[str, ...]] = {}
    for (variant, _), files in sorted(sets.items(), key=lambda item: item[0][1] != "safetensors"):
        whole = [name for name, (_, parts) in files.items() if parts == 1]
        if whole:
            complete.setdefault(variant, tuple(whole[:1]))
        elif any(len(files) == parts for _, parts in files.values()):
            complete.setdefault(variant, tuple(sorted(files)))
    return complete


def choose_variant(names: Iterable[str]) -> str | None:
    """Return which weights of a folder are read: those without a variant, else a half-size one; None: it has none."""
    there = variants_of(names)
    return next((variant for variant in (*_PREFERRED, *sorted(there)) if variant in there), None)


def half_size_parts(names: Iterable[str]) -> list[str]:
    """Return the folders among a pipeline's files of which half-size weights are read, since there are no others.

    names: paths in the pipeline's folder or repository; "" stands for that folder itself.
    """
    inside: dict[str, list[str]] = {}
    for name in names:
        folder, _, file = name.rpartition("/")
        inside.setdefault(folder, []).append(file)
    return [folder for folder, files in inside.items() if choose_variant(files) in HALF_SIZE]


def half_size_note(parts: Iterable[str], dtype: DType) -> tuple[str, ...]:
    """Return the footer's note on the components of which a run in float32 reads half-size weights."""
    told = ", ".join(sorted(set(parts)))
    return (
        (f"half-size weights in a float32 run, no full ones are here: {told}",) if told and dtype == "float32" else ()
    )


def wanted_files(names: Sequence[str], folders: Mapping[str, bool]) -> tuple[list[str], list[str]]:
    """Return the files to read of components' folders, and what is missing, in words.

    names: the files of the whole repository. folders: each with whether its weights are read; "" is the repository.
    """
    wanted: list[str] = []
    missing: list[str] = []
    for folder, has_weights in folders.items():
        prefix = f"{folder}/" if folder else ""
        inside = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        here = [name for name in inside if "/" not in name]
        small = [name for name in here if is_small(name)]
        variant = choose_variant(here) if has_weights else None
        if not small:
            missing.append(f"the folder {folder}" if folder else "configurations")
        elif has_weights and variant is None:
            missing.append(f"weights in {folder}" if folder else "weights")
        weights = variants_of(here)[variant] if variant is not None else ()
        wanted += [prefix + name for name in (*small, *weights)]
    return wanted, missing


def holds_weights(folder: Path) -> bool:
    """Return whether a component's folder holds weights, as far as names of files tell."""
    return folder.is_dir() and any(path.suffix in (".safetensors", ".bin") for path in folder.iterdir())
