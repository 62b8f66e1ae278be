"""Tables of images as files: parquet shards with the columns and types of the hub's data sets."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

GUNDAM = Features({"image": Image(), "text": Value("string")})
WIKIART = Features(
    {
        "image": Image(),
        "artist": ClassLabel(names=["Unknown Artist", "boris-kustodiev", "vincent-van-gogh"]),
        "genre": ClassLabel(names=["abstract_painting", "cityscape", "Unknown Genre"]),
        "style": ClassLabel(names=["Abstract_Expressionism", "Art_Nouveau", "Ukiyo_e"]),
    }
)


def png(colour: str, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> bytes:
    file = BytesIO()
    Pillow.new("RGB", size, colour).convert(mode).save(file, format="PNG")
    return file.getvalue()


def cell(content: bytes | None) -> dict[str, Any]:
    return {"bytes": content, "path": None}


def write_shards(folder: Path, rows: list[dict[str, Any]], features: Features, shards: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    for number in range(shards):
        part = Dataset.from_list(rows[number * size : (number + 1) * size], features=features)
        part.to_parquet(folder / f"train-{number:05d}-of-{shards:05d}.parquet")
    return folder


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """Write one shard as it is given: `datasets` would look at its paths."""
    folder.mkdir(exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=GUNDAM.arrow_schema), folder / "a.parquet")
    return folder


def path_cell(path: str) -> dict[str, Any]:
    return {"bytes": None, "path": path}
