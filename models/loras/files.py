"""A LoRA's folder or file, as far as it is known without torch: its files, its digest, and what it was trained on."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.opening import tensor_shapes
from files.paths import resolve_inside
from files.reading import read_regular, shown
from files.records import CHECKSUM, Damaged, seal, unseal
from files.sources import is_file, is_folder
from files.writing import write_text
from models.loras.spellings import PEFT_PREFIX, read_name

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
# What diffusers calls the file, which other trainers write as well.
DIFFUSERS_NAME = "pytorch_lora_weights.safetensors"
TRAINING_DATA_NAME = "training_data.json"
SCHEMA_VERSION = 2
MOST_CONFIG_BYTES, MOST_WEIGHTS_BYTES = 10_000_000, 4_000_000_000
MOST_RANK = 100_000
# 64 bits: two of a million images share a digest with a chance of 1 in 40 million.
DIGEST_CHARACTERS = 16
_DIGEST = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}")


@dataclass(frozen=True)
class TrainingData:
    """The images (by content) and captions that a model has seen, as the beginnings of their SHA-256."""

    dataset: str
    images: frozenset[str]
    captions: frozenset[str]

    def holds_image(self, digest: str) -> bool:
        """Return whether an image of this content digest was trained on."""
        return digest[:DIGEST_CHARACTERS] in self.images

    def holds_caption(self, caption: str) -> bool:
        """Return whether this caption was trained on."""
        return caption_digest(caption)[:DIGEST_CHARACTERS] in self.captions


@dataclass(frozen=True)
class LoraVariant:
    """A model with a LoRA on it. digest: of the LoRA, since images of two are never mixed.

    options: those of the model's family; their field `option` names the LoRA. folder: its folder, or its single file.
    training_data: None where it is not known.
    """

    options: Any
    option: str
    folder: Path
    digest: str
    training_data: TrainingData | None


@dataclass(frozen=True)
class LoraFiles:
    """Where a LoRA lies. config: PEFT's adapter_config.json beside the weights; None where another tool wrote it."""

    weights: Path
    config: Path | None


@dataclass(frozen=True)
class LoraConfig:
    """What of an adapter_config.json decides the LoRA's effect. Its tensors say which layers have a LoRA.

    rank, alpha: of layers that no pattern names. A pattern's key is the end of a layer's name, or part of it.
    """

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    use_rslora: bool
    use_dora: bool

    def rank_of(self, layer: str) -> int:
        """Return the rank that PEFT gives a layer."""
        return self.rank_pattern.get(_first_match(self.rank_pattern, layer), self.rank)

    def alpha_of(self, layer: str) -> float:
        """Return the alpha that PEFT gives a layer."""
        return self.alpha_pattern.get(_first_match(self.alpha_pattern, layer), self.alpha)


def _first_match(patterns: Iterable[str], layer: str) -> str:
    return next((key for key in patterns if re.match(rf"(.*\.)?({key})$", layer)), "")


def is_lora(folder: Path) -> bool:
    """Return whether a folder holds a LoRA in PEFT's format, as fine-tuning leaves it."""
    return (folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file()


def find_lora(place: Path) -> LoraFiles:
    """Return the files of the LoRA in a folder, or of the single file that is one.

    Raises:
        OSError: there is none.
        ValueError: a file of the folder leads outside of it.
    """
    if is_file(place):
        if place.suffix.lower() != ".safetensors":
            raise OSError(f"{shown(place)} is no .safetensors file; expected one, or the folder of a LoRA")
        config = place.parent / CONFIG_NAME
        return LoraFiles(place, config if config.is_file() and _is_of_peft(place) else None)
    if not is_folder(place):
        raise OSError(f"no LoRA in {shown(place)}: there is no such folder or file")
    if is_lora(place):
        return LoraFiles(resolve_inside(place, WEIGHTS_NAME), resolve_inside(place, CONFIG_NAME))
    tensors = sorted(path.name for path in place.iterdir() if path.suffix.lower() == ".safetensors" and path.is_file())
    known = [name for name in (DIFFUSERS_NAME, WEIGHTS_NAME) if name in tensors] or tensors
    if not known:
        raise OSError(
            f"{shown(place)} holds no {CONFIG_NAME} with {WEIGHTS_NAME}, no {DIFFUSERS_NAME} and no other .safetensors "
            "file; expected the folder of a LoRA"
        )
    if len(known) > 1:
        raise OSError(f"{shown(place)} holds {', '.join(known[:4])}; name the one .safetensors file that is the LoRA")
    weights = resolve_inside(place, known[0])
    has_config = (place / CONFIG_NAME).is_file() and _is_of_peft(weights)
    return LoraFiles(weights, resolve_inside(place, CONFIG_NAME) if has_config else None)


def _is_of_peft(weights: Path) -> bool:
    """Return whether PEFT wrote a file, which may have been renamed: only then a configuration beside it is its own."""
    if weights.name == WEIGHTS_NAME:
        return True
    try:
        return any(name.startswith(PEFT_PREFIX) for name in tensor_shapes(weights))
    except (OSError, ValueError):
        return False  # who reads it says so


def holds_lora(place: Path) -> bool:
    """Return whether a folder or file holds a LoRA of any tool, by the names of its files."""
    try:
        find_lora(place)
    except (OSError, ValueError):
        return False
    return True


def read_lora(place: Path) -> tuple[LoraConfig | None, dict[str, tuple[int, ...]]]:
    """Return a LoRA's configuration, where PEFT wrote it, and the shapes of its tensors by name.

    Raises:
        OSError: there is no LoRA.
        ValueError: it is damaged, no LoRA, or its configuration asks for what is not known here.
    """
    files = find_lora(place)
    try:
        content = None
        if files.config is not None:
            content = json.loads(read_regular(files.config, most_bytes=MOST_CONFIG_BYTES))
        shapes = tensor_shapes(files.weights)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{place} is damaged ({reason}); copy or train the LoRA again") from error
    if files.config is not None:
        if not isinstance(content, dict):
            raise ValueError(f"{files.config} is damaged: no JSON object; copy or train the LoRA again")
        return checked_config(content, place, files.config), shapes
    for name in shapes:
        if name.startswith(PEFT_PREFIX):
            raise ValueError(
                f"{shown(place)} was written by PEFT, and its {CONFIG_NAME} is missing, which says how strong the LoRA "
                f"is: put it beside {files.weights.name}"
            )
        try:
            read_name(name)
        except ValueError as error:
            raise ValueError(f"{shown(place)} holds {shown(name)}, {error}") from None
    if not shapes:
        raise ValueError(f"{shown(place)} holds no tensors; copy or train the LoRA again")
    return None, shapes


def checked_config(content: dict[str, Any], place: Path, path: Path) -> LoraConfig:
    """Return a configuration of which every entry is understood, or says that nothing is to be done.

    place: the LoRA, path: where the configuration stands, for messages.

    Raises:
        ValueError: it is no LoRA, or an entry is of the wrong type or asks for something else; the text names it.
    """
    if content.get("peft_type") != "LORA":
        raise ValueError(f"{place} is of the PEFT type {shown(str(content.get('peft_type')))}; expected LORA")
    for key, value in content.items():
        if key in _UNDERSTOOD:
            if not _UNDERSTOOD[key](value):
                raise ValueError(f"{path}: {key}={shown(json.dumps(value))} is not a value that PEFT writes")
        elif key not in _WITHOUT_EFFECT and not _is_default(key, value):
            raise ValueError(
                f"{path} asks for {shown(key)}={shown(json.dumps(value))}, which is not supported here: "
                "use a LoRA, rsLoRA or DoRA without it"
            )
    return LoraConfig(
        rank=content.get("r", 8),
        alpha=content.get("lora_alpha", 8),
        rank_pattern=content.get("rank_pattern") or {},
        alpha_pattern=content.get("alpha_pattern") or {},
        use_rslora=content.get("use_rslora", False),
        use_dora=content.get("use_dora", False),
    )


def _is_rank(value: object) -> bool:
    return type(value) is int and 1 <= value <= MOST_RANK


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


def _is_pattern(value: object, is_entry: Callable[[object], bool]) -> bool:
    # PEFT takes the keys for regular expressions, so they may hold nothing that repeats.
    return value is None or (
        isinstance(value, dict)
        and all(re.fullmatch(r"\^?[\w.\\-]+", key) and _compiles(key) and is_entry(n) for key, n in value.items())
    )


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return True


_UNDERSTOOD: dict[str, Callable[[Any], bool]] = {
    "peft_type": lambda value: value == "LORA",
    "r": _is_rank,
    "lora_alpha": _is_number,
    "rank_pattern": lambda value: _is_pattern(value, _is_rank),
    "alpha_pattern": lambda value: _is_pattern(value, _is_number),
    "use_rslora": lambda value: isinstance(value, bool),
    "use_dora": lambda value: isinstance(value, bool),
    # How the LoRA began: its tensors replace that. Other ways change the base's weights too.
    "init_lora_weights": lambda value: isinstance(value, bool) or value in ("gaussian", "orthogonal"),
}
# Where the LoRA came from, how it was trained, and which layers it was put on (its tensors say it as well).
_WITHOUT_EFFECT = frozenset({
    "auto_mapping", "base_model_name_or_path", "revision", "peft_version", "task_type", "inference_mode",
    "lora_dropout", "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern",
})  # fmt: skip
_OTHER_DEFAULTS = {"bias": "none", "megatron_core": "megatron.core", "qalora_group_size": 16}


def _is_default(key: str, value: object) -> bool:
    """Return whether an entry asks for nothing: what it does, this version of PEFT or a later one, is switched off."""
    return value is None or value is False or value in ([], {}, _OTHER_DEFAULTS.get(key))


def lora_digest(place: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a LoRA's configuration, if it has one, and weights.

    Raises:
        OSError: there is no LoRA, or a file cannot be read.
        ValueError: a file of the folder leads outside of it.
    """
    files = find_lora(place)
    digest = hashlib.sha256()
    for path in (files.config, files.weights):
        if path is not None:
            digest.update(read_regular(path, most_bytes=MOST_WEIGHTS_BYTES))
    return digest.hexdigest()[:16]


def caption_digest(caption: str) -> str:
    """Return the SHA-256 of a caption without its outer spaces, in hexadecimal."""
    return hashlib.sha256(caption.strip().encode()).hexdigest()


def describe_training_data(dataset: str, digests: Iterable[str], captions: Iterable[str]) -> TrainingData:
    """Return the record of images by their content digests, and of captions."""
    return TrainingData(
        dataset,
        frozenset(digest[:DIGEST_CHARACTERS] for digest in digests if digest),
        frozenset(caption_digest(caption)[:DIGEST_CHARACTERS] for caption in captions),
    )


def write_training_data(folder: Path, data: TrainingData) -> None:
    """Write the record into a LoRA's folder. Raises OSError that names the file."""
    write_text(folder / TRAINING_DATA_NAME, training_data_text(data))


def training_data_text(data: TrainingData) -> str:
    """Return the content of training_data.json."""
    content = {
        "schema_version": SCHEMA_VERSION, "dataset": data.dataset,
        "pictures": sorted(data.images), "captions": sorted(data.captions),
    }  # fmt: skip
    return f"{seal(content)}\n"


def read_training_data(place: Path) -> TrainingData | None:
    """Return a LoRA's record, or None where it has none (a LoRA of another tool).

    The record stands in the LoRA's folder. Of a single file it is known only where that is the folder's LoRA in PEFT's
    format.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged; a leak could not be told.
    """
    if is_file(place):
        if find_lora(place).config is None:
            return None
        place = place.parent
    path = place / TRAINING_DATA_NAME
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        return _as_training_data(read_regular(path))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): copy or train the LoRA again") from error


def _as_training_data(text: bytes) -> TrainingData:
    """Return the record in the content of a training_data.json. Version 1 had no checksum. Raises ValueError."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"not JSON ({type(error).__name__})") from None
    is_first = isinstance(content, dict) and content.get("schema_version") == 1 and CHECKSUM not in content
    if not is_first:
        content = unseal(text)
    if content.keys() != {"schema_version", "dataset", "pictures", "captions"}:
        raise Damaged("it is no record of what was trained on")
    if not is_first and content["schema_version"] != SCHEMA_VERSION:
        raise Damaged(f"schema version {content['schema_version']} instead of {SCHEMA_VERSION}")
    digests = (content["pictures"], content["captions"])
    if not isinstance(content["dataset"], str) or not all(_are_digests(found) for found in digests):
        raise Damaged("a digest is not 16 hexadecimal digits")
    return TrainingData(content["dataset"], frozenset(content["pictures"]), frozenset(content["captions"]))


def _are_digests(found: object) -> bool:
    return isinstance(found, list) and all(isinstance(text, str) and _DIGEST.fullmatch(text) for text in found)
