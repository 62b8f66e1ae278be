"""samples.png: a row for each prompt, with the image of each model and the reference beside it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from benchmark.console.plain_text import visible
from files.images import encode_png, read_rgb
from files.writing import write_atomically

TILE, GAP, HEADER, PROMPT_WIDTH = 192, 12, 44, 300
FONT_SIZE, LINE_HEIGHT, PROMPT_CHARACTERS, ASKED_CHARACTERS = 17, 22, 32, 32
MOST_ROWS = 8
COMPRESS_LEVEL = 6


@dataclass(frozen=True)
class SheetRow:
    """One request: its prompt, and by column the image (None where there is none) and what else was asked."""

    prompt: str
    tiles: Mapping[str, Path | None]
    asked: Mapping[str, str]


def draw_contact_sheet(rows: Sequence[SheetRow], columns: Sequence[str], path: Path) -> bytes:
    """Write the sheet of the first rows as PNG, and return what the file holds.

    Small images are enlarged pixel by pixel, large ones reduced.

    An image that is missing or damaged leaves its place empty.

    Raises:
        OSError: the sheet cannot be written; the former file is as it was.
    """
    rows = rows[:MOST_ROWS]
    row_height = TILE + GAP + 2 * LINE_HEIGHT
    width = PROMPT_WIDTH + GAP + len(columns) * (TILE + GAP) + GAP
    sheet = Image.new("RGB", (width, HEADER + len(rows) * row_height + GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(FONT_SIZE)
    small = ImageFont.load_default(FONT_SIZE - 4)
    for number, column in enumerate(columns):
        draw.text((_column_left(number), GAP), visible(column), fill="black", font=font)
    for number, row in enumerate(rows):
        top = HEADER + number * row_height
        draw.multiline_text((GAP, top), _wrapped(row.prompt), fill="black", font=font, spacing=4)
        for place, column in enumerate(columns):
            tile = _read_tile(row.tiles.get(column))
            left = _column_left(place)
            if tile is None:
                draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline="lightgrey")
                continue
            sheet.paste(_fitted(tile), (left, top))
            if column in row.asked:
                asked = "\n".join(textwrap.wrap(visible(row.asked[column]), ASKED_CHARACTERS)[:2])
                draw.multiline_text((left, top + TILE + 2), asked, fill="dimgrey", font=small)
    content = encode_png(sheet, compress_level=COMPRESS_LEVEL)
    with write_atomically(path) as partial:
        partial.write_bytes(content)
    return content


def _read_tile(path: Path | None) -> Image.Image | None:
    """Return a tile's image; None where there is none that can be read: its place on the sheet stays empty."""
    try:
        return None if path is None else read_rgb(path)
    except OSError:
        return None


def _column_left(number: int) -> int:
    return PROMPT_WIDTH + GAP + number * (TILE + GAP)


def _wrapped(prompt: str) -> str:
    lines = textwrap.wrap(visible(prompt), PROMPT_CHARACTERS) or [""]
    most = TILE // LINE_HEIGHT
    return "\n".join(lines if len(lines) <= most else [*lines[: most - 1], lines[most - 1] + " …"])


def _fitted(image: Image.Image) -> Image.Image:
    scale = TILE / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    tile = Image.new("RGB", (TILE, TILE), "white")
    fitted = image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
    tile.paste(fitted, ((TILE - size[0]) // 2, (TILE - size[1]) // 2))
    return tile
