"""One whole PixArt-Sigma folder of the published transformer and the VAE, T5 and tokenizer that go with it.

Weights are hard links where the file system allows them, so that the folder costs no second download and no space. It
is verified by loading; T5's 10 to 19 GB by the names and shapes of its tensors, which takes no memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.downloads import show_bar
from files.locks import locked
from files.paths import resolve_inside
from files.reading import is_regular, read_regular, shown
from files.records import CHECKSUM, Damaged, read_record, write_record
from files.sources import expanded, is_local
from files.writing import partial_path, remove_leftover_folders, sync_folder, write_text
from finetuning.base import PARTS, check_base
from finetuning.notes import tell
from finetuning.verification import INDEX_SUFFIX, WEIGHT_SUFFIXES, WEIGHTS, read_json, verify, weight_files
from models.pixart import hub_base, hub_transformer, is_whole_pipeline

MARKER_NAME = "combined.json"
SCHEMA_VERSION = 2
INDEX_NAME = "model_index.json"


@dataclass(frozen=True)
class CombinedBase:
    """The folder, whether it was built now, and what is worth saying of it, a line each."""

    folder: Path
    built: bool
    notes: tuple[str, ...]


def build_combined_base(model: str, base: str, target: Path, vae: Path | None = None) -> CombinedBase:
    """Build the folder `target` of the transformer of `model` and the other parts of `base`, or find it built.

    model, base: hub id or local folder; a model that is a whole pipeline is used whole. vae: a folder instead of
    base's. A whole folder that is there without our marker is the user's own: it is verified and left as it is.

    Raises:
        OSError: a source or a file of it is missing or damaged.
        ValueError: the parts do not fit each other, or the target holds something else.
    """
    sources = {"model": _identity(model), "base": _identity(base), "vae": str(vae.resolve()) if vae else ""}
    if target.is_dir() and sources["model"] == str(target.resolve()):
        sources = {}  # the target itself was named as the model
    target.parent.mkdir(parents=True, exist_ok=True)
    lock = f".{target.name}.lock"
    with locked(target.parent, f"builds {target.name}", announce=tell, name=lock):
        remove_leftover_folders(target, MARKER_NAME)
        if target.is_dir() and any(target.iterdir()):
            return CombinedBase(target, False, _check_present(target, sources))
        partial = partial_path(target)
        try:
            notes = _build(model, base, vae, sources, partial)
            # Onto an empty folder too; all that was there is gone or there at once.
            partial.replace(target)
            sync_folder(target.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return CombinedBase(target, True, notes)


def _identity(source: str) -> str:
    folder = Path(source).expanduser()
    return str(folder.resolve()) if folder.is_dir() else source


def _check_present(target: Path, sources: Mapping[str, str]) -> tuple[str, ...]:
    """Return what to say of a folder that is there. Raises as build_combined_base."""
    marker = target / MARKER_NAME
    if not marker.is_file():
        if not is_whole_pipeline(target):
            raise ValueError(
                f"{target} exists, but is not a whole PixArt-Sigma folder: name another in COMBINED_BASE, "
                "or move it away"
            )
        return (f"a folder of your own, left as it is: {verify(target)}",)
    remedy = "move that folder away to have it built again, or name another in COMBINED_BASE"
    try:
        record = _read_marker(marker)
    except (OSError, Damaged) as error:
        raise ValueError(f"{marker} is damaged ({error}): {remedy}") from error
    built_from, files = record["sources"], record["files"]
    differing = [name for name in sources if sources[name] != built_from.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{target} was built with {name} {built_from.get(name) or 'of the base'}, not {sources[name] or 'that'}: "
            f"{remedy}"
        )
    for name, size in files.items():
        path = resolve_inside(target, name)
        if not is_regular(path) or path.stat().st_size != size:
            raise OSError(f"{path} is missing, or has another size than when it was built: {remedy}")
    changed = _changed_source(record["origins"])
    if changed:
        raise ValueError(f"{changed} was changed after {target} was built from it: {remedy}")
    return (record["verified"],)


def _read_marker(path: Path) -> dict[str, Any]:
    """Return the record of a folder that was built. Version 1 had no checksum.

    Raises:
        OSError: it cannot be read.
        Damaged: it is no such record.
    """
    record: Any
    try:
        record = json.loads(read_regular(path))
    except (ValueError, RecursionError):
        record = None
    if not (isinstance(record, dict) and record.get("schema_version") == 1 and CHECKSUM not in record):
        record = read_record(path)
        if record.get("schema_version") != SCHEMA_VERSION:
            raise Damaged(f"it is of version {shown(str(record.get('schema_version')))}")
    texts, sizes = record.get("sources"), (record.get("origins"), record.get("files"))
    if (
        record.keys() != {"schema_version", "sources", "origins", "files", "verified"}
        or not isinstance(record["verified"], str)
        or not (isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()))
        or not all(isinstance(found, dict) and all(type(n) is int for n in found.values()) for found in sizes)
    ):
        raise Damaged("it is no record of a build")
    return dict(record)


def _changed_source(origins: Mapping[str, Any]) -> Path | None:
    """Return a source's file that is there with another size; what was deleted since is not missed."""
    for path, size in origins.items():
        if is_regular(Path(path)) and Path(path).stat().st_size != size:
            return Path(path)
    return None


def _build(model: str, base: str, vae: Path | None, sources: Mapping[str, str], partial: Path) -> tuple[str, ...]:
    folders, index = find_parts(model, base, vae)
    notes: list[str] = []
    origins: dict[str, int] = {}
    partial.mkdir()
    write_record(partial / MARKER_NAME, {"schema_version": SCHEMA_VERSION, "sources": dict(sources)}, sync=False)
    for part, folder in folders.items():
        taken, left = choose_files(folder, part)
        if left:
            notes.append(f"{part}: left out {', '.join(left)}; {WEIGHTS[part]} is loaded")
        (partial / part).mkdir()
        for name in taken:
            link_or_copy(folder / name, partial / part / name)
            origins[str((folder / name).absolute())] = (folder / name).stat().st_size
    write_text(partial / INDEX_NAME, json.dumps(index, indent=2, sort_keys=True) + "\n")
    check_base(partial)
    told = verify(partial)
    files = {
        str(path.relative_to(partial)): path.stat().st_size
        for path in sorted(partial.rglob("*"))
        if path.is_file() and path.name != MARKER_NAME
    }
    record = {
        "schema_version": SCHEMA_VERSION, "sources": dict(sources), "origins": origins, "files": files,
        "verified": told,
    }  # fmt: skip
    write_record(partial / MARKER_NAME, record)
    return (*notes, told)


def find_parts(model: str, base: str, vae: Path | None = None) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the folder of each part, and the content of model_index.json that names all five.

    Raises:
        OSError: a source or a part of it is missing.
        ValueError: model_index.json is not JSON or does not name a part.
    """
    root = expanded(model) if is_local(model) else hub_transformer(model).fetch(show_bar)
    folders = {"transformer": root / "transformer"}
    if not is_whole_pipeline(root):
        root = expanded(base) if is_local(base) else hub_base(base).fetch(show_bar)
    folders |= {part: root / part for part in PARTS if part not in folders}
    if vae is not None:
        folders["vae"] = vae
    for part, folder in folders.items():
        if not folder.is_dir():
            raise OSError(f"no folder {folder}; expected the {part} in the diffusers layout: download it again")
    path = root / INDEX_NAME
    index: dict[str, Any] = read_json(path)
    # The published base names no transformer, because it has none.
    index |= {"_class_name": "PixArtSigmaPipeline", "transformer": ["diffusers", "PixArtTransformer2DModel"]}
    if vae is not None:
        index["vae"] = ["diffusers", "AutoencoderKL"]
    unnamed = [part for part in PARTS if not (isinstance(index.get(part), list) and all(index[part]))]
    if unnamed:
        raise ValueError(f"{path} names no class for the {unnamed[0]}; expected a PixArt-Sigma base: download it again")
    return folders, index


def choose_files(folder: Path, part: str) -> tuple[list[str], list[str]]:
    """Return the names of a part's files that are loaded, and of the weights in other forms, which are left out.

    Raises:
        OSError: there are no weights in safetensors, or a shard is missing.
        ValueError: the index of the shards is not JSON.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if part not in WEIGHTS:
        return names, []
    weights = weight_files(folder, part)
    kept = {path.name for path in weights}
    if WEIGHTS[part] not in kept:
        kept.add(WEIGHTS[part] + INDEX_SUFFIX)
    other = {name for name in names if name.endswith((*WEIGHT_SUFFIXES, INDEX_SUFFIX))} - kept
    return [name for name in names if name not in other], sorted(other)


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link large files, and copy the others; the hub's cache holds symbolic links, whose files are taken.

    A configuration that someone edits in the new folder must not change the cache; weights are never edited in place.
    """
    source = source.resolve()
    if source.name.endswith(".safetensors") or target.name.endswith(".safetensors"):
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return
    shutil.copyfile(source, target)
