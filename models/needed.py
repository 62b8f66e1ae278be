"""Files of the hub that models need, by the patterns that loading reads: for --check, and for the download beforehand.

Nothing here imports torch or a library that reads weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from files.downloads import HubFiles
from files.hub import list_files
from files.sources import expanded, is_file, is_folder
from models.pipelines.weight_files import half_size_parts, holds_weights, variants_of

# What loading never opens, though a repository may hold it in the same folders.
NEVER_READ = ("*.bin", "*.msgpack", "*.h5", "*.onnx", "*.onnx_data", "*.ckpt", "*.pt")


def is_on_hub(source: str) -> bool:
    """Return whether a model is named by a hub id, and not by a folder or file here."""
    place = expanded(source)
    return bool(source) and not is_folder(place) and not is_file(place)


def no_weights(source: str, variable: str, reason: str) -> str:
    """Return what is said where a model's weights cannot be found, with what to do."""
    return (
        f"no weights for {source} ({reason}): put them in a folder and set {variable}=FOLDER, "
        "or use WEIGHTS=tiny or WEIGHTS=random, which need none"
    )


def hub_weights(
    title: str,
    source: str,
    variable: str,
    patterns: tuple[str, ...],
    ignored: tuple[str, ...] = (),
    size_bytes: int | None = None,
) -> HubFiles:
    """Return what a model in the layout of diffusers or transformers needs of its repository on the hub.

    title: of the column. variable: names the model, or a folder in its place. size_bytes: about how much it is.
    """
    return HubFiles(
        f"{title}: {source}", source, patterns, ignored,
        size_bytes=size_bytes, failure=no_weights(source, variable, "{reason}"),
    )  # fmt: skip


def prefer_full(need: HubFiles, parts: Iterable[str]) -> HubFiles:
    """Return a need that asks for the full weights too, where the cache has half-size ones alone and the hub has both.

    The same setting then reads the same weights on each machine whose hub can be reached.
    parts: folders of the repository.
    """
    folder = need.find()
    halves = [] if folder is None else half_size_parts(names_in(folder, parts))
    if not halves:
        return need
    try:
        published = list_files(need.repository, need.revision)
    except OSError:  # OFFLINE=1, or it cannot be reached: what is here is used, and the footer tells
        return need
    full: list[str] = []
    for part in halves:
        prefix = f"{part}/" if part else ""
        inside = [name.removeprefix(prefix) for name in published if name.startswith(prefix)]
        full += [prefix + name for name in variants_of(inside).get("", ()) if name.endswith(".safetensors")]
    return replace(need, patterns=(*need.patterns, *full))


def names_in(folder: Path, parts: Iterable[str]) -> list[str]:
    """Return the files of a pipeline's components, as paths in its folder; "" is that folder itself."""
    return [
        f"{part}/{path.name}" if part else path.name
        for part in parts
        if is_folder(folder / part)
        for path in sorted((folder / part).iterdir())
    ]


def no_file(source: str, file: str, variable: str, reason: str) -> str:
    """Return what is said where a checkpoint is neither here nor on the hub, with what to do."""
    return (
        f"{variable}={source}: {file} is not in a local folder and could not be downloaded ({reason}); "
        f"{file_remedy(file, variable)}"
    )


def file_remedy(file: str, variable: str) -> str:
    """Return what a user can do who lacks a checkpoint."""
    return f"put {file} into a folder and set {variable} to it, or run without it: WEIGHTS=tiny or WEIGHTS=random"


def hub_file(title: str, source: str, file: str, variable: str, size_bytes: int | None = None) -> HubFiles:
    """Return what a model needs that is read from one published checkpoint; the arguments as of `hub_weights`."""
    return HubFiles(
        f"{title}: {source}/{file}", source, (file,),
        size_bytes=size_bytes, failure=no_file(source, file, variable, "{reason}"),
    )  # fmt: skip


def check_weights(variable: str, source: str, parts: Sequence[str]) -> None:
    """Raise OSError where a local folder lacks weights in one of its subfolders, as far as names of files tell."""
    for part in parts:
        if not holds_weights(expanded(source) / part):
            raise OSError(f"{variable}={source}: no weights in its folder {part}; give one with .safetensors there")
