"""One whole PixArt-Sigma folder of the published transformer and the VAE, T5 and tokenizer that go with it.

Weights are hard links where the file system allows them, so that the folder costs no second download and no space. It
is verified by loading; T5's 10 to 19 GB by the names and shapes of its tensors, which takes no memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from finetuning.base import PARTS
from models.diffusers_pipeline import find_folder, quiet_libraries
from models.pixart import is_whole_pipeline

MARKER_NAME = "combined.json"
INDEX_NAME = "model_index.json"
# The file that the libraries load of each network; with `.index.json` behind it where it is cut into shards.
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".onnx_data")
_INDEX_SUFFIX = ".index.json"
# Attention as VAEs of 2022 named it; diffusers renames it while loading.
_OLD_ATTENTION = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
Shapes = dict[str, tuple[int, ...]]


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
    with FileLock(target.with_name(f".{target.name}.lock")):
        if target.is_dir() and any(target.iterdir()):
            return CombinedBase(target, False, _check_present(target, sources))
        partial = target.with_name(f"{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a build that was killed
        try:
            notes = _build(model, base, vae, sources, partial)
            # Onto an empty folder too; all that was there is gone or there at once.
            partial.replace(target)
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
                f"{target} is there and no whole PixArt-Sigma folder: delete it, or name another in COMBINED_BASE"
            )
        return (f"a folder of your own, left as it is: {verify(target)}",)
    try:
        record = json.loads(marker.read_text(encoding="utf-8"))
        built_from, files = record["sources"], record["files"]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{marker} is damaged: delete {target}, it is built anew") from error
    differing = [name for name in sources if sources[name] != built_from.get(name)]
    if differing:
        name = differing[0]
        raise ValueError(
            f"{target} was built with {name} {built_from.get(name) or 'of the base'}, not {sources[name] or 'that'}: "
            "delete it, or name another folder in COMBINED_BASE"
        )
    for name, size in files.items():
        path = target / name
        if not path.is_file() or path.stat().st_size != size:
            raise OSError(
                f"{path} is missing or of another size than it was built with: delete {target} and build anew"
            )
    changed = _changed_source(record["origins"])
    if changed:
        raise ValueError(f"{changed} was changed after {target} was built of it: delete the latter and build anew")
    return (record["verified"],)


def _changed_source(origins: Mapping[str, Any]) -> Path | None:
    """Return a source's file that is there with another size; what was deleted since is not missed."""
    for path, size in origins.items():
        if Path(path).is_file() and Path(path).stat().st_size != size:
            return Path(path)
    return None


def _build(model: str, base: str, vae: Path | None, sources: Mapping[str, str], partial: Path) -> tuple[str, ...]:
    folders, index = find_parts(model, base, vae)
    notes: list[str] = []
    origins: dict[str, int] = {}
    for part, folder in folders.items():
        taken, left = choose_files(folder, part)
        if left:
            notes.append(f"{part}: left out {', '.join(left)}, which nothing loads beside {WEIGHTS[part]}")
        (partial / part).mkdir(parents=True)
        for name in taken:
            link_or_copy(folder / name, partial / part / name)
            origins[str((folder / name).absolute())] = (folder / name).stat().st_size
    (partial / INDEX_NAME).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    told = verify(partial)
    files = {
        str(path.relative_to(partial)): path.stat().st_size for path in sorted(partial.rglob("*")) if path.is_file()
    }
    record = {"schema_version": 1, "sources": sources, "origins": origins, "files": files, "verified": told}
    (partial / MARKER_NAME).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return (*notes, told)


def find_parts(model: str, base: str, vae: Path | None = None) -> tuple[dict[str, Path], dict[str, Any]]:
    """Return the folder of each part, and the content of model_index.json that names all five.

    Raises:
        OSError: a source or a part of it is missing.
        ValueError: model_index.json is no JSON or does not name a part.
    """
    root = find_folder(model, "PIXART_MODEL", ["transformer/*"])
    folders = {"transformer": root / "transformer"}
    if not is_whole_pipeline(root):
        others = [part for part in PARTS if part != "transformer"]
        root = find_folder(base, "PIXART_BASE", [INDEX_NAME, *(f"{part}/*" for part in others)])
    folders |= {part: root / part for part in PARTS if part not in folders}
    if vae is not None:
        folders["vae"] = vae
    for part, folder in folders.items():
        if not folder.is_dir():
            raise OSError(f"no folder {folder}; expected the {part} in the diffusers layout: download it again")
    path = root / INDEX_NAME
    index: dict[str, Any] = _read_json(path)
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
        ValueError: the index of the shards is no JSON.
    """
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if part not in WEIGHTS:
        return names, []
    weights = weight_files(folder, part)
    kept = {path.name for path in weights}
    if WEIGHTS[part] not in kept:
        kept.add(WEIGHTS[part] + _INDEX_SUFFIX)
    other = {name for name in names if name.endswith((*_WEIGHT_SUFFIXES, _INDEX_SUFFIX))} - kept
    return [name for name in names if name not in other], sorted(other)


def weight_files(folder: Path, part: str) -> list[Path]:
    """Return the files that hold a network's weights: one, or the shards that an index names. Raises as above."""
    single = folder / WEIGHTS[part]
    index = folder / (WEIGHTS[part] + _INDEX_SUFFIX)
    if single.is_file():
        return [single]
    if not index.is_file():
        others = sorted(path.name for path in folder.glob("*") if path.name.endswith(_WEIGHT_SUFFIXES))
        found = f"found {others[0]}" if others else "found no weights"
        raise OSError(
            f"{folder} has no {WEIGHTS[part]}, {found}: download the safetensors, or load the {part} once and write it "
            "with save_pretrained"
        )
    shards = sorted(set(_read_json(index).get("weight_map", {}).values()))
    missing = [name for name in shards if not (folder / name).is_file()]
    if missing or not shards:
        raise OSError(f"{index} names {missing[0] if missing else 'no file'}, which is not there: download it again")
    return [folder / name for name in shards]


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


def verify(folder: Path) -> str:
    """Return one line on what was verified of a whole folder: every network's weights, and that the parts fit.

    Raises:
        OSError: a file is missing or damaged.
        ValueError: weights do not fit their configuration, or the parts each other.
    """
    _check_classes(folder)
    counts, configs = {}, {}
    for part, network in _outlines(folder):
        _check_shapes(folder / part, network, read_shapes(folder, part))
        counts[part] = sum(parameter.numel() for parameter in network.parameters())
        configs[part] = network.config
    _check_fit(folder, configs["transformer"], configs["vae"], configs["text_encoder"])
    pipeline = _load_without_t5(folder)
    largest, known = max(pipeline.tokenizer.get_vocab().values()), configs["text_encoder"].vocab_size
    if largest >= known:
        raise ValueError(
            f"{folder}: the tokenizer's tokens go up to {largest}, but the text encoder knows {known}: "
            "take both from one source"
        )
    native = pipeline.transformer.config.sample_size * pipeline.vae_scale_factor
    sizes = ", ".join(f"{part} {count / 1e6:.1f} M parameters" for part, count in counts.items())
    return f"{native} px; {sizes}: names and shapes as configured; all but T5 loaded"


def _check_classes(folder: Path) -> None:
    transformer, text_encoder = (_read_json(folder / part / "config.json") for part in ("transformer", "text_encoder"))
    _read_json(folder / "vae" / "config.json")
    # The published transformer still names the class that it was first saved with.
    name = transformer.get("_class_name")
    if name not in ("PixArtTransformer2DModel", "Transformer2DModel") or "caption_channels" not in transformer:
        raise ValueError(f"{folder}/transformer is a {name}; expected PixArt-Sigma's: check PIXART_MODEL")
    if text_encoder.get("model_type") != "t5":
        raise ValueError(f"{folder}/text_encoder is a {text_encoder.get('model_type')}; expected T5: check PIXART_BASE")


def _check_fit(folder: Path, transformer: Any, vae: Any, text_encoder: Any) -> None:
    pairs = (
        ("caption_channels", transformer.caption_channels, "the text encoder's d_model", text_encoder.d_model),
        ("in_channels", transformer.in_channels, "the VAE's latent_channels", vae.latent_channels),
    )
    for name, asked, other, given in pairs:
        if asked != given:
            raise ValueError(
                f"{folder}: the transformer's {name} is {asked}, {other} {given}: PIXART_MODEL and PIXART_BASE do not "
                "belong together"
            )
    side, patch = transformer.sample_size, transformer.patch_size
    if side <= 0 or side % patch:
        raise ValueError(
            f"{folder}: the transformer's sample_size is {side}; expected a multiple of its patch_size {patch}: "
            "download PIXART_MODEL again"
        )


def _outlines(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield each network without memory for its weights, one at a time."""
    from diffusers import AutoencoderKL, PixArtTransformer2DModel
    from transformers import T5Config, T5EncoderModel

    with quiet_libraries():
        for part, kind in (("transformer", PixArtTransformer2DModel), ("vae", AutoencoderKL)):
            with torch.device("meta"):
                network = kind.from_config(kind.load_config(folder / part))
            yield part, network
        with torch.device("meta"):
            encoder = T5EncoderModel(T5Config.from_pretrained(folder / "text_encoder"))
        yield "text_encoder", encoder


def read_shapes(folder: Path, part: str) -> Shapes:
    """Return the shape of each tensor in a network's files, from their headers alone.

    Raises:
        OSError: a file is missing, cut short or no safetensors file.
    """
    from safetensors import SafetensorError, safe_open

    shapes: Shapes = {}
    for path in weight_files(folder / part, part):
        try:
            with safe_open(path, "pt") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise OSError(f"{path} is damaged ({error}): download it again") from error
    return shapes


def _check_shapes(folder: Path, network: torch.nn.Module, found: Shapes) -> None:
    """Raise ValueError where a tensor is missing or of another shape; the libraries would fill it with noise."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    given = dict(found)
    for name in found:
        for old, new in _OLD_ATTENTION.items():
            if name not in wanted and ".attentions." in name and old in name:
                # Then they were convolutions of 1 x 1.
                given[name.replace(old, new)] = found[name][:2]
    # A file may leave out what the network shares with another tensor.
    tied = getattr(network, "_tied_weights_keys", None) or {}
    for name, shape in wanted.items():
        others = {name, *(pair[1 - pair.index(name)] for pair in tied.items() if name in pair)}
        shapes = [given[other] for other in others if other in given]
        if not shapes or any(other != shape for other in shapes):
            there = f"is {list(shapes[0])}" if shapes else "is not"
            raise ValueError(
                f"{folder}: {name} {there} in the file, its config.json needs {list(shape)}: download the folder again"
            )


def _load_without_t5(folder: Path) -> Any:
    from diffusers import PixArtSigmaPipeline

    with quiet_libraries():
        try:
            return PixArtSigmaPipeline.from_pretrained(folder, text_encoder=None)
        except (OSError, ValueError, TypeError) as error:
            raise OSError(
                f"{folder} cannot be loaded ({' '.join(str(error).split())[:200]}): check its parts"
            ) from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise OSError(f"no file {path}: download the folder again") from error
    except ValueError as error:
        raise ValueError(f"{path} is no JSON: download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} is no JSON object: download it again")
    return content
