"""Odd folders of images by seed: mixed formats, encodings, tables, links, damage, and what becomes of each file."""

from __future__ import annotations

import csv
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from PIL import Image

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".png", ".jpg", ".JPG", ".jfif", ".jpe", ".webp", ".tif", ".gif", "", ".dat", ".heic", ".image")
FOLDERS = ("", "", "sub", "deep/er")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16")
LAYOUTS = ("beside", "metadata", "table")
FILE_HEADERS = ("file_name", "File_Name", "filename", "image", "Image Path", "path", "file")
TEXT_HEADERS = ("text", "Caption", "prompt", "description")
# What lies about in folders: a name, and its content.
NOISE: tuple[tuple[str, bytes], ...] = (
    ("IMG_1.HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30)),
    ("clip.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  "),
    ("README.md", b"# Words\n"),
    ("images.zip", b"PK\x03\x04" + bytes(20)),
    ("drawing.psd", b"8BPS\0\1" + bytes(20)),
    ("empty", b""),
    ("orphan.txt", b"a text without an image"),
    ("broken.json", b"[1, 2"),
    ("prices.csv", b"item,price\nfilm,7\n"),
    ("LICENSE", b"words"),
    ("weights.safetensors", bytes(30)),
)
HIDDEN: tuple[tuple[str, bytes], ...] = (
    (".DS_Store", b"x"),
    ("Thumbs.db", b"x"),
    (".cache", b"x"),
    ("desktop.ini", b"x"),
)


@dataclass
class OddFolder:
    """A folder and what must become of all that was put into it.

    used: caption of each row with an image, and the image's number. lost: how many rows have none. left_out: names.
    """

    place: Path
    layout: str
    used: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    left_out: set[str] = field(default_factory=set)
    files: int = 0

    def write(self, name: str, content: bytes) -> Path:
        path = self.place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        self.files += 1
        return path


def colour(number: int) -> tuple[int, int, int]:
    """Return a colour that survives lossy formats."""
    return (20 + 20 * (number % 11), 20 + 20 * (number // 11 % 11), 128)


def number_of(image: Image.Image) -> int:
    """Return the number of the image of that colour, -1 where it is no such image."""
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    red, green = (round((level - 20) / 20) for level in pixel[:2])
    number = red + 11 * green
    near = number >= 0 and all(abs(a - b) < 8 for a, b in zip(pixel, colour(number), strict=True))
    return number if near else -1


@cache
def encode(number: int, format: str) -> bytes:
    file = BytesIO()
    options: dict[str, Any] = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}}.get(format, {})
    Image.new("RGB", (8, 8), colour(number)).save(file, format=format, **options)
    return file.getvalue()


def make_odd(folder: Path, seed: int) -> OddFolder:
    """Make an odd folder, and beside it what it links to."""
    lot = random.Random(seed)
    odd = OddFolder(folder / "odd", LAYOUTS[seed % len(LAYOUTS)])
    odd.place.mkdir(parents=True)
    names = [f"{lot.choice(FOLDERS)}/image {number}{lot.choice(SUFFIXES)}".lstrip("/") for number in range(9)]
    for number, name in enumerate(names):
        odd.write(name, encode(number, lot.choice(FORMATS)))
    write: dict[str, Callable[[OddFolder, list[str], random.Random], None]] = {"beside": write_beside}
    write.get(odd.layout, write_table)(odd, names, lot)
    for name, content in lot.sample(NOISE, lot.randint(0, len(NOISE))):
        odd.write(name, content)
        odd.left_out.add(name)
    for name, content in lot.sample(HIDDEN, 2):
        odd.write(name, content)
        odd.files -= 1
    link(odd, lot)
    return odd


def link(odd: OddFolder, lot: random.Random) -> None:
    """Put links and a pipe into the folder, of which nothing is a row."""
    outside = odd.place.parent / "outside"
    outside.mkdir()
    (outside / "a.png").write_bytes(encode(99, "PNG"))
    (odd.place / "there").mkdir()
    links = {"out": "../outside", "here": "there", "lost.png": "nowhere", "outside": "../outside/a.png"}
    for name in lot.sample(sorted(links), lot.randint(0, 3)):
        (odd.place / name).symlink_to(links[name])
        odd.left_out.add(name)
        odd.files += 1
    if lot.random() < 0.3:
        os.mkfifo(odd.place / "pipe.jpg")
        odd.left_out.add("pipe.jpg")
        odd.files += 1


def write_beside(odd: OddFolder, names: list[str], lot: random.Random) -> None:
    """Give the images captions beside them: of nine at most two have none, one is damaged, one cannot be read."""
    fates = ["bare"] * lot.randint(0, 2) + ["damaged"] * lot.randint(0, 1) + ["latin"] * lot.randint(0, 1)
    fates += ["good"] * (len(names) - len(fates))
    lot.shuffle(fates)
    for number, (name, fate) in enumerate(zip(names, fates, strict=True)):
        path = odd.place / name
        stem = name.removesuffix(path.suffix)
        text = f"caption {number} é"
        if fate == "bare":
            odd.left_out.add(name)
            continue
        if fate == "damaged":  # by its suffix it stays an image
            path.unlink()
            odd.files -= 1
            odd.write(f"{stem}.png", encode(number, "PNG")[: lot.randint(0, 40)])
        ends = ("_caption.txt", ".txt", ".TXT", ".caption")
        encoding = "latin-1" if fate == "latin" else lot.choice(ENCODINGS)
        odd.write(f"{stem}{lot.choice(ends)}", text.encode(encoding))
        if fate == "good":
            odd.used[text] = number
        else:
            odd.lost += 1


def write_table(odd: OddFolder, names: list[str], lot: random.Random) -> None:
    """Write a table that names most of the images, some of them twice, some that are not there, some badly."""
    kind = lot.choice(("jsonl", "json", "csv", "tsv"))
    table = f"metadata.{kind}" if odd.layout == "metadata" else f"my captions.{kind}"
    file_header, text_header = lot.choice(FILE_HEADERS), lot.choice(TEXT_HEADERS)
    encoding = lot.choice((*ENCODINGS, "cp1252") if kind in ("csv", "tsv") else ENCODINGS)
    rows: list[tuple[str, str | None]] = []
    for number, name in enumerate(names):
        fate = lot.choice(("good", "good", "good", "good", "unnamed", "twice", "null")) if number else "good"
        text = f"caption {number}{' é' if number % 3 == 2 else ''}"
        if fate == "unnamed":
            odd.left_out.add(name)
            continue
        if fate == "null" and kind in ("jsonl", "json"):
            rows.append((name, None))
            odd.lost += 1
            continue
        rows.append((name, text))
        if encoding == "cp1252" and "é" in text:  # the row is not text, so that no row names the image
            odd.lost += 1
            odd.left_out.add(name)
            continue
        odd.used[text] = number
        if fate == "twice":
            rows.append((name, text))
            odd.left_out.add(f"{table}, row {len(rows)}")
    if lot.random() < 0.5:
        rows.append(("not there.png", "a lost image"))
        odd.lost += 1
    odd.write(table, table_text(kind, rows, file_header, text_header, lot).encode(encoding))


def table_text(
    kind: str, rows: list[tuple[str, str | None]], file_header: str, text_header: str, lot: random.Random
) -> str:
    records = [{"id": number, file_header: name, text_header: text} for number, (name, text) in enumerate(rows)]
    if kind == "json":
        return json.dumps(records, ensure_ascii=False)
    if kind == "jsonl":
        return "\n".join(json.dumps(record, ensure_ascii=False) for record in records)
    file = StringIO(newline="")
    writer = csv.writer(file, delimiter="\t" if kind == "tsv" else lot.choice((",", ";", "\t")))
    writer.writerow(["id", file_header, text_header])
    writer.writerows(record.values() for record in records)
    return file.getvalue()
