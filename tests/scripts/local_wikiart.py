"""A small WikiArt in the hub's layout: parquet shards of JPEGs with class names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Rows of each style: three frequent ones and a rare one; one image is broken.
STYLES = [3 if row in (7, 20) else row % 3 for row in range(36)]


def write_wikiart(folder: Path, *, noise: bool = True) -> Path:
    """Write two shards of 36 paintings, one of them broken, and return the folder.

    noise: images that take a while to convert; else each is of one colour.
    """
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    folder.mkdir(parents=True)
    names = {"artist": ["Unknown Artist"], "genre": ["portrait"], "style": ["Cubism", "Pop_Art", "Realism", "Ukiyo_e"]}
    features = Features({"image": ImageFeature(), **{name: ClassLabel(names=of) for name, of in names.items()}})
    rows: list[dict[str, Any]] = []
    for row, style in enumerate(STYLES):
        path = folder.parent / f"{row}.jpg"
        if noise:
            pixels = np.random.default_rng(row).integers(0, 256, (600, 800 + row, 3), dtype=np.uint8)
        else:
            pixels = np.full((40, 50, 3), (7 * row, 255 - 7 * row, 90), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        content = b"broken" if row == 7 else path.read_bytes()
        rows.append({"image": {"bytes": content, "path": None}, "artist": 0, "genre": 0, "style": style})
    for shard in range(2):
        part = Dataset.from_list(rows[18 * shard : 18 * shard + 18], features=features)
        part.to_parquet(folder / f"train-{shard:05d}-of-00002.parquet")
    return folder
