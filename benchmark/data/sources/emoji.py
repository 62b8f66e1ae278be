"""Emoji in three drawing styles: about 4,200 captioned images that ship with the project."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmark.data.sources.base import Example
from files.images import open_image

if TYPE_CHECKING:
    from PIL.Image import Image

STYLES = ("noto", "twemoji", "fluent")


class Emoji:
    """Rows in one fixed, shuffled order; the caption names subject and style, the label is the subcategory.

    There are about three images of a concept, so a model is tested on concepts that it has not seen in any style:
    `split` says which a row belongs to, and a row's group is its concept's code points.
    """

    name = "Emoji"

    def __init__(self, assets: Path) -> None:
        folder = assets / "emoji"
        index = json.loads((folder / "emoji.json").read_text(encoding="utf-8"))
        self._folder = folder
        self._size: int = index["size"]
        self._columns: int = index["columns"]
        self._concepts: list[dict[str, str]] = index["concepts"]
        digest = hashlib.sha256((folder / "emoji.json").read_bytes())
        for style in STYLES:
            digest.update((folder / f"{style}.webp").read_bytes())
        self.identity = f"emoji {digest.hexdigest()[:16]} split by concept"
        self.label_names = tuple(sorted({concept["subcategory"] for concept in self._concepts}))
        rows = [
            (style, place, concept) for style in STYLES for place, concept in enumerate(index["tiles"][style])
        ]  # an image: its sheet, its place there, its concept's number
        # Shuffled by a digest of the image's own name: no generator's stream to keep the same for ever.
        self._rows = sorted(rows, key=lambda row: _digest(f"{row[0]}/{self._concepts[row[2]]['code_points']}"))
        self._sheets: dict[str, Image] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def caption(self, row: int) -> str:
        style, _, concept = self._rows[row]
        return f"{self._concepts[concept]['name']}, {style} style"

    def split(self, row: int) -> Literal["train", "test"]:
        """Return which split the row's concept belongs to, in all its styles; a tenth of the concepts are for tests."""
        code_points = self._concepts[self._rows[row][2]]["code_points"]
        return "test" if int(_digest(code_points), 16) % 10 == 0 else "train"

    def image(self, row: int) -> Image:
        """Return the row's image, RGB, 64 px."""
        style, place, _ = self._rows[row]
        if style not in self._sheets:
            with open_image((self._folder / f"{style}.webp").read_bytes()) as sheet:
                self._sheets[style] = sheet.convert("RGB")
        left, top = self._size * (place % self._columns), self._size * (place // self._columns)
        return self._sheets[style].crop((left, top, left + self._size, top + self._size))

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on."""
        for row in range(start, len(self)):
            concept = self._concepts[self._rows[row][2]]
            label = self.label_names.index(concept["subcategory"])
            yield Example(self.caption(row), self.image(row), label, group=concept["code_points"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
