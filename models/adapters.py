"""An adapter's folder, as far as it is known without torch: its files, its digest, and what it was trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG_NAME, WEIGHTS_NAME = "adapter_config.json", "adapter_model.safetensors"
TRAINING_DATA_NAME = "training_data.json"
SCHEMA_VERSION = 1
# 64 bits: two of a million pictures share a digest with a chance of 1 in 40 million.
DIGEST_CHARACTERS = 16


@dataclass(frozen=True)
class TrainingData:
    """The pictures (by content) and captions that a model has seen, as the beginnings of their SHA-256."""

    dataset: str
    pictures: frozenset[str]
    captions: frozenset[str]

    def holds_picture(self, digest: str) -> bool:
        """Return whether a picture of this content digest was trained on."""
        return digest[:DIGEST_CHARACTERS] in self.pictures

    def holds_caption(self, caption: str) -> bool:
        """Return whether this caption was trained on."""
        return caption_digest(caption)[:DIGEST_CHARACTERS] in self.captions


@dataclass(frozen=True)
class Adaptation:
    """A model with an adapter on it. digest: of the adapter, since images of two are never mixed.

    options: those of the model's family; their field `option` names the adapter's folder. training_data: None where it
    is not known.
    """

    options: Any
    option: str
    folder: Path
    digest: str
    training_data: TrainingData | None


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter."""
    return (folder / CONFIG_NAME).is_file() and (folder / WEIGHTS_NAME).is_file()


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return an adapter's configuration and the shapes of its tensors, by name.

    Raises:
        OSError: the folder holds no PEFT adapter.
        ValueError: it is damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not is_adapter(folder):
        raise OSError(f"{folder} holds no {CONFIG_NAME} with {WEIGHTS_NAME}; expected the folder of a PEFT adapter")
    try:
        config: dict[str, Any] = json.loads((folder / CONFIG_NAME).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS_NAME, "np") as file:
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except (ValueError, SafetensorError) as error:
        raise ValueError(f"{folder} is damaged ({error}); copy or train the adapter again") from error
    return config, shapes


def adapter_digest(folder: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of an adapter's configuration and weights."""
    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def caption_digest(caption: str) -> str:
    """Return the SHA-256 of a caption without its outer spaces, in hexadecimal."""
    return hashlib.sha256(caption.strip().encode()).hexdigest()


def describe_training_data(dataset: str, digests: Iterable[str], captions: Iterable[str]) -> TrainingData:
    """Return the record of pictures by their content digests, and of captions."""
    return TrainingData(
        dataset,
        frozenset(digest[:DIGEST_CHARACTERS] for digest in digests if digest),
        frozenset(caption_digest(caption)[:DIGEST_CHARACTERS] for caption in captions),
    )


def write_training_data(folder: Path, data: TrainingData) -> None:
    """Write the record into an adapter's folder."""
    content = {
        "schema_version": SCHEMA_VERSION, "dataset": data.dataset,
        "pictures": sorted(data.pictures), "captions": sorted(data.captions),
    }  # fmt: skip
    partial = folder / f"{TRAINING_DATA_NAME}.partial"
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.replace(folder / TRAINING_DATA_NAME)


def read_training_data(folder: Path) -> TrainingData | None:
    """Return an adapter's record, or None where it has none (an adapter of another tool).

    Raises:
        ValueError: the file is damaged; a leak could not be told.
    """
    path = folder / TRAINING_DATA_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']} instead of {SCHEMA_VERSION}")
        return TrainingData(content["dataset"], frozenset(content["pictures"]), frozenset(content["captions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train the adapter again, or delete the file") from error
