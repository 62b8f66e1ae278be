"""Hostile data sets by seed: names that lead outside, files that are none, damaged images, tables of odd types."""

from __future__ import annotations

import csv
import gzip
import json
import os
import random
import socket
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO, StringIO
from pathlib import Path
from struct import pack
from typing import Any

import pyarrow
import pyarrow.parquet
from datasets import ClassLabel, Features, Image, Value
from PIL import Image as Pillow

CANARY = (1, 254, 77)  # the colour of the images outside, which no image inside has
CANARY_TEXT = "the canary's caption"
GOOD = (200, 30, 30)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
LAYOUTS = ("metadata.jsonl", "metadata.csv", "beside", "parquet", "snapshot")
MOST_ROWS = 14


def encode(colour: tuple[int, int, int], format: str = "PNG", size: tuple[int, int] = (9, 7)) -> bytes:
    file = BytesIO()
    Pillow.new("RGB", size, colour).save(file, format=format)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *extra: bytes) -> bytes:
    """Return a PNG that declares its size and has next to no pixels."""
    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(extra) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def truncated(lot: random.Random) -> bytes:
    content = encode(GOOD, lot.choice(FORMATS), (60, 40))
    return content[: lot.randrange(len(content))]


def flipped(lot: random.Random) -> bytes:
    content = bytearray(encode(GOOD, lot.choice(FORMATS), (60, 40)))
    for _ in range(lot.randint(1, 20)):
        content[lot.randrange(len(content))] = lot.randrange(256)
    return bytes(content)


def zipped(_: random.Random) -> bytes:
    file = BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside/evil.png", encode(GOOD))
    return file.getvalue()


def declares(format: str, side: int) -> bytes:
    """Return a tiny file that declares a square of that side."""
    if format == "PNG":
        return png(side, side)
    if format == "GIF":
        return b"GIF89a" + pack("<HHBBB", side, side, 0, 0, 0) + b"," + pack("<HHHHB", 0, 0, side, side, 0) + b"\2\0;"
    if format == "BMP":
        return b"BM" + pack("<IHHI", 54, 0, 0, 54) + pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    content = bytearray(encode(GOOD, "JPEG"))
    place = content.index(b"\xff\xc0") + 5
    content[place : place + 4] = pack(">HH", side, side)
    return bytes(content)


CONTENTS: tuple[Callable[[random.Random], bytes], ...] = (
    lambda lot: encode(GOOD, lot.choice(FORMATS)),
    truncated,
    flipped,
    zipped,
    lambda lot: declares(lot.choice(("PNG", "GIF", "BMP", "JPEG")), lot.choice((14_000, 30_000, 65_000))),
    lambda _: b"",
    lambda lot: lot.randbytes(lot.randrange(500)),
    lambda _: gzip.compress(encode(GOOD)),
    lambda _: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/hostname) (r) file\n%%EOF\n",
    lambda _: b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog >>\nendobj\n",
    lambda _: b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/hostname"/></svg>',
    lambda _: b"8BPS\0\1" + bytes(6) + pack(">HIIHH", 3, 9, 9, 8, 3) + bytes(20),
    lambda _: png(9, 7, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(20_000_000), 1))),
    lambda _: png(9, 7, *[chunk(b"iTXt", b"k\0\0\0\0\0text")] * 5000),
    lambda _: encode(GOOD, "JPEG")[:2] + b"\xff" * 3_000_000,
)


def file_name(lot: random.Random, place: Path) -> str:
    """Return a name as a hostile table may have it; good.png and sub/good.png exist."""
    outside = place.parent / "outside"
    return lot.choice(
        [
            "good.png", "sub/good.png", "sub/../good.png", "./good.png", str(place / "good.png"),
            "../outside/secret.png", "sub/../../outside/secret.png", str(outside / "secret.png"),
            f"file://{outside}/secret.png", f"local://{outside}/secret.png", f"zip://a::{outside}/secret.zip",
            "https://example.org/a.png", "http://169.254.169.254/", "hf://datasets/org/set@main/a.png",
            "s3://bucket/a.png", "data:image/png;base64,AAAA", "//example.org/share/a.png", "C:\\a.png",
            "out.png", "outdir/secret.png", "chain.png", "round", "round/a", "dangling.png", "pipe.png", "socket.png",
            "device.png", "/dev/zero", "/dev/stdin", "/proc/self/environ", "/proc/self/mem", "/etc/passwd", "~/.ssh/id",
            "huge.png", "sub", ".", "..", "/", "", " ", "\0", "good.png\0.jpg", "a\nb.png", "\x1b[31m.png",
            "\u202egnp.a", "\ud800.png", "\udcff.png", "x" * 255 + ".png", "x" * 5000, "x/" * 2000 + "a.png",
            "good.png/a", "*", "[a].png", "=cmd|' /C calc'!A0", "$(reboot)", "`id`.png", "'; DROP TABLE--", "CON",
            f"file{lot.randrange(9)}.png",
        ]
    )  # fmt: skip


def odd_value(lot: random.Random) -> Any:
    return lot.choice(
        [None, 7, -1.5, True, [], ["good.png"], {}, {"path": "good.png"}, "", "\ud800", 10**400, float("nan"), [[[]]]]
    )


def caption(lot: random.Random) -> str:
    return lot.choice(
        [
            "a caption",
            "",
            " ",
            "\0",
            "\x1b]0;x\7",
            "=1+1",
            "\ud800",
            "\u202e",
            "a\nb",
            "\r",
            "x" * 100_000,
            "<script>",
            "é",
        ]
    )


def fill(place: Path, lot: random.Random) -> None:
    """Make what every hostile folder has: a good image, links, things that are no files, and damaged images."""
    outside = place.parent / "outside"
    (place / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "secret.png").write_bytes(encode(CANARY))
    (outside / "secret.txt").write_text(CANARY_TEXT)
    (outside / "metadata.jsonl").write_text(json.dumps({"file_name": "good.png", "text": CANARY_TEXT}))
    with zipfile.ZipFile(outside / "secret.zip", "w") as archive:
        archive.writestr("a", encode(CANARY))
    for name in ("good.png", "sub/good.png"):
        (place / name).write_bytes(encode(GOOD))
    links = {
        "out.png": "../outside/secret.png", "outdir": "../outside", "chain.png": "out.png", "round": "round",
        "dangling.png": "nowhere", "device.png": "/dev/zero", "inside.png": "good.png", "up": "..", "here": ".",
    }  # fmt: skip
    for name, target in links.items():
        if lot.random() < 0.8:
            (place / name).symlink_to(target)
    if lot.random() < 0.5:
        os.mkfifo(place / "pipe.png")
    if lot.random() < 0.5:
        bind_socket(place, "socket.png")
    if lot.random() < 0.3:
        with (place / "huge.png").open("wb") as file:
            file.write(encode(GOOD))
            file.truncate(600_000_000)
    for number in range(9):
        suffix = lot.choice(("png", "png", "jpg", "webp", "tiff"))
        (place / f"file{number}.{suffix}").write_bytes(lot.choice(CONTENTS)(lot))


def bind_socket(folder: Path, name: str) -> None:
    """Leave a socket in the folder, by a way that is shorter than its path may be."""
    descriptor = os.open(folder, os.O_RDONLY)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"/proc/self/fd/{descriptor}/{name}")
    server.close()
    os.close(descriptor)


def write_jsonl(place: Path, lot: random.Random) -> None:
    lines = [json.dumps({"file_name": "good.png", "text": "good"})]
    for _ in range(lot.randint(1, MOST_ROWS)):
        row: dict[str, Any] = {"file_name": file_name(lot, place), "text": caption(lot)}
        if lot.random() < 0.2:
            row[lot.choice(("file_name", "text", "extra", ""))] = odd_value(lot)
        if lot.random() < 0.1:
            row.pop(lot.choice(tuple(row)))
        lines.append(json.dumps(row))
    for _ in range(lot.randint(0, 3)):
        lines.append(
            lot.choice(("{", "[]", "7", "null", "[" * 50_000, '{"a":' * 50_000, "1" * 5000, "\x00", "{}", '"'))
        )
    lot.shuffle(lines)
    content = "\n".join(lines).encode()
    if lot.random() < 0.2:
        content += b'\n{"file_name": "good.png", "text": "\xff\xfe"}'
    write_table(place, "metadata.jsonl", content, lot)


def write_csv(place: Path, lot: random.Random) -> None:
    file = StringIO(newline="")
    writer = csv.writer(file)
    writer.writerow(["file_name", "text"])
    rows = [["good.png", "good"]]
    for _ in range(lot.randint(1, MOST_ROWS)):
        row = [file_name(lot, place), caption(lot)]
        rows.append(row[: lot.randint(0, 2)] if lot.random() < 0.1 else row + ["more"] * lot.randint(0, 2))
    lot.shuffle(rows)
    writer.writerows(rows)
    content = file.getvalue().encode("utf-8", "surrogatepass")
    if lot.random() < 0.3:
        content += lot.choice((b'"', b'good.png,"' + b"a" * 200_000, b"\xff,\xff\n", b"\0\0\0\n", b'a"b,"c\n'))
    write_table(place, "metadata.csv", content, lot)


def write_table(place: Path, name: str, content: bytes, lot: random.Random) -> None:
    """Write the table, or now and then something else in its stead."""
    kind = lot.random()
    table = lot.choice((place, place, place / "sub")) / name
    if kind < 0.05:
        table.symlink_to(place.parent / "outside" / "metadata.jsonl")
    elif kind < 0.1:
        with table.open("wb") as file:
            file.truncate(600_000_000)
    elif kind < 0.15:
        os.mkfifo(table)
    else:
        table.write_bytes(content)


def write_beside(place: Path, lot: random.Random) -> None:
    for image in [path for path in place.rglob("*") if path.suffix in (".png", ".jpg", ".webp", ".tiff")]:
        text = image.with_suffix(".txt")
        kind = lot.random()
        if kind < 0.1:
            text.symlink_to(place.parent / "outside" / "secret.txt")
        elif kind < 0.15:
            text.write_bytes(b"\xff\xfe")
        elif kind < 0.2:
            with text.open("wb") as file:
                file.truncate(600_000_000)
        else:
            text.write_bytes(caption(lot).encode("utf-8", "replace"))
    (place / "good.txt").unlink(missing_ok=True)
    (place / "good.txt").write_text("good")


def write_parquet(place: Path, lot: random.Random) -> None:
    features = Features({"image": Image(), "text": Value("string"), "style": ClassLabel(names=["a", "b"])})
    images = [{"bytes": encode(GOOD), "path": "good.png"}]
    texts = [b"good"]
    for _ in range(lot.randint(1, MOST_ROWS)):
        path = file_name(lot, place).encode("utf-8", "replace").decode()
        content = lot.choice(CONTENTS)(lot) if lot.random() < 0.4 else None
        images.append(lot.choice([{"bytes": content, "path": path}] * 9 + [None, {"bytes": None, "path": None}]))
        texts.append(lot.choice((caption(lot).encode("utf-8", "replace"), b"caf\xe9", b"\xff")))
    labels = [lot.choice((0, 1, -1, 99, -(2**60), None)) for _ in images]
    text = pyarrow.array(texts, pyarrow.binary()).view(pyarrow.string())
    columns = [pyarrow.array(images, features.arrow_schema.field("image").type), text, pyarrow.array(labels)]
    table = pyarrow.Table.from_arrays(columns, schema=features.arrow_schema)
    pyarrow.parquet.write_table(table, place / "b.parquet", row_group_size=5)
    shard = place / lot.choice(("a.parquet", "c.parquet", "c::d.parquet"))
    kind = lot.random()
    if kind < 0.1:
        shard.symlink_to("../outside/secret.zip")
    elif kind < 0.2:
        content = bytearray((place / "b.parquet").read_bytes())
        for _ in range(9):
            content[lot.randrange(len(content))] = lot.randrange(256)
        shard.write_bytes(lot.choice((content, content[: len(content) // 2], b"", b"PAR1")))
    elif kind < 0.3:
        os.mkfifo(shard)
    elif kind < 0.4:
        pyarrow.parquet.write_table(table.drop_columns(["image"]), shard)


def to_snapshot(place: Path, lot: random.Random) -> Path:
    """Move the folder into the layout of the hub's cache: its files become links to blobs. Return where it is."""
    repository = place.parent / "datasets--org--set"
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    (repository / "snapshots").mkdir()
    write_jsonl(place, lot)
    place.rename(snapshot)
    for number, path in enumerate(sorted(snapshot.iterdir())):
        if path.is_file() and not path.is_symlink():
            blob = repository / "blobs" / f"{number:040x}"
            path.rename(blob)
            path.symlink_to(f"../../blobs/{blob.name}")
    return snapshot


def make_hostile(folder: Path, seed: int) -> Path:
    """Make a hostile data set and, beside it, what it must not reach; return the data set's folder."""
    lot = random.Random(seed)
    layout = LAYOUTS[seed % len(LAYOUTS)]
    place = folder / "data"
    fill(place, lot)
    if layout == "snapshot":
        return to_snapshot(place, lot)
    writers = {
        "metadata.jsonl": write_jsonl, "metadata.csv": write_csv, "beside": write_beside, "parquet": write_parquet,
    }  # fmt: skip
    writers[layout](place, lot)
    return place
