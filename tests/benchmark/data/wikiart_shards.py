"""Parquet shards in the layout of huggan/wikiart, of small images that tell their row."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

STYLES = ("Cubism", "Pop_Art", "Realism", "Ukiyo_e")
FEATURES = Features(
    {
        "image": Image(),
        "artist": ClassLabel(names=["Unknown Artist", "claude-monet"]),
        "genre": ClassLabel(names=["portrait", "Unknown Genre"]),
        "style": ClassLabel(names=list(STYLES)),
    }
)


def picture(row: int, size: tuple[int, int] = (9, 6)) -> bytes:
    """Return a PNG of noise that no other row has."""
    pixels = np.random.default_rng(row).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    file = BytesIO()
    Pillow.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def write_shards(
    folder: Path, styles: Sequence[int | None], contents: Sequence[bytes | None] | None = None, shards: int = 3
) -> Path:
    """Write a row for each style, in row groups of 5 rows; the artist's label is the row mod 2."""
    contents = contents or [picture(row) for row in range(len(styles))]
    rows: list[dict[str, Any]] = [
        {"image": content and {"bytes": content, "path": None}, "artist": row % 2, "genre": 0, "style": style}
        for row, (style, content) in enumerate(zip(styles, contents, strict=True))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    for number in range(shards):
        part = Dataset.from_list(rows[number * size : (number + 1) * size], features=FEATURES)
        part.to_parquet(folder / f"train-{number:05d}-of-{shards:05d}.parquet", batch_size=5)
    return folder


def write_unlabelled(folder: Path, count: int) -> Path:
    folder.mkdir()
    rows = [{"image": {"bytes": picture(row), "path": None}, "text": f"row {row}"} for row in range(count)]
    features = Features({"image": Image(), "text": Value("string")})
    Dataset.from_list(rows, features=features).to_parquet(folder / "train.parquet")
    return folder
