"""What a fine-tuned model was trained on: digests of its pictures and captions, kept in the adapter's folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

FILE_NAME = "training_data.json"
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
    partial = folder / f"{FILE_NAME}.partial"
    partial.write_text(json.dumps(content) + "\n", encoding="utf-8")
    partial.replace(folder / FILE_NAME)


def read_training_data(folder: Path) -> TrainingData | None:
    """Return an adapter's record, or None where it has none (an adapter of another tool).

    Raises:
        ValueError: the file is damaged; a leak could not be told.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema version {content['schema_version']} instead of {SCHEMA_VERSION}")
        return TrainingData(content["dataset"], frozenset(content["pictures"]), frozenset(content["captions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): train the adapter again, or delete the file") from error
