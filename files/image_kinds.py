"""What a file is by its name and its first bytes: an image that may be opened, one that may not, or something else.

Nothing here imports Pillow. `files.images` opens what this says is an image; whether it decodes shows only there.
"""

from __future__ import annotations

import re
from pathlib import Path

from files.reading import read_head

# Suffixes that say of a file that it is an image, without a look into it.
SUFFIXES = frozenset(
    {
        ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".mpo", ".webp", ".bmp", ".gif", ".tif", ".tiff",
        ".avif", ".ppm", ".pgm", ".pbm", ".pnm",
    }
)  # fmt: skip
# Raw files of cameras begin as a TIFF does, and hold nothing that Pillow reads but a small preview.
_RAW_SUFFIXES = frozenset(
    {".3fr", ".arw", ".cr2", ".cr3", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".rw2", ".srw"}
)
HEAD_BYTES = 40
_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG"), (b"\xff\xd8\xff", "JPEG"), (b"GIF87a", "GIF"), (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"II\0*", "TIFF"), (b"MM*\0", "TIFF"), (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)  # fmt: skip
# A text may begin with the two characters of a BMP or a PPM, so that what follows decides: the size of the BMP's second
# header, and the PPM's width and height.
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_PPM_START = re.compile(rb"P[1-6]\s+(?:#|\d+\s+(?:#|\d+\s))")
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
# Others that people take for images, each with what to do about it.
_CONVERT = "convert it to JPEG or PNG"
_OTHER_STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\x0a", f"JPEG XL, which is not opened: {_CONVERT}"),
    (b"\0\0\0\x0cJXL \r\n\x87\n", f"JPEG XL, which is not opened: {_CONVERT}"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", f"JPEG 2000, which is not opened: {_CONVERT}"),
    (b"8BPS", f"a Photoshop file, which is not opened: {_CONVERT}"),
    (b"%PDF", f"a PDF, which is not opened: {_CONVERT}"),
    (b"%!PS", f"PostScript, which is never opened: {_CONVERT}"),
    (b"\0\0\1\0", f"an icon, which is not opened: {_CONVERT}"),
    (b"PK\x03\x04", "an archive: unpack it"),
    (b"Rar!", "an archive: unpack it"),
    (b"7z\xbc\xaf", "an archive: unpack it"),
    (b"\x1f\x8b", "an archive: unpack it"),
)
# Data sets and documents: of an archive's first bytes alone it would not show what is in it.
SPREADSHEET = "a spreadsheet: save it as CSV"
_OTHER_SUFFIXES = {
    **dict.fromkeys((".xlsx", ".xlsm", ".xls", ".ods", ".numbers"), SPREADSHEET),
    **dict.fromkeys((".docx", ".odt", ".pages", ".pptx", ".odp"), "a document, which is not read"),
    ".tar": "a tar archive, as WebDataset has its shards, which is not read: unpack it",
    ".arrow": "an Arrow file, as save_to_disk of `datasets` writes it, which is not read: save the data set with "
    "to_parquet",
}


def image_format(head: bytes) -> str:
    """Return which of the formats of `files.images` a file's first bytes announce; empty: none of them."""
    if head[:4] == b"RIFF":
        return "WEBP" if head[8:12] == b"WEBP" else ""
    if head[4:8] == b"ftyp":
        return "AVIF" if _brands(head) & _AVIF_BRANDS and head[8:12] not in _HEIC_BRANDS else ""
    if head[:2] == b"BM":
        return "BMP" if int.from_bytes(head[14:18], "little") in _BMP_HEADERS else ""
    if _PPM_START.match(head):
        return "PPM"
    return next((name for start, name in _STARTS if head.startswith(start)), "")


def _brands(head: bytes) -> set[bytes]:
    """Return the brands of a file of ISO media: the major one, and as many others as the head holds."""
    stop = min(int.from_bytes(head[:4]), len(head))
    return {head[8:12], *(head[place : place + 4] for place in range(16, stop - 3, 4))}


def other_kind(head: bytes, suffix: str = "") -> str:
    """Return what a file is that is no image to open, with what to do about it; empty: nothing known."""
    if head[4:8] == b"ftyp":
        brands = _brands(head)
        if brands & _HEIC_BRANDS or head[8:12] in (b"mif1", b"msf1"):
            return f"HEIC, which is not opened: {_CONVERT}"
        if head[8:12] == b"crx ":
            return f"a camera's raw file, which is not opened: {_CONVERT}"
        return "a video, which is no image"
    if suffix in _OTHER_SUFFIXES:
        return _OTHER_SUFFIXES[suffix]
    known = next((told for start, told in _OTHER_STARTS if head.startswith(start)), "")
    return known or (f"a camera's raw file, which is not opened: {_CONVERT}" if suffix in _RAW_SUFFIXES else "")


def classify(path: Path) -> str:
    """Return why a regular file is no image that may be opened; empty: it is one, by its suffix or its first bytes.

    Only where the suffix does not say is the file opened, for its first bytes.
    """
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return ""
    try:
        head = read_head(path, HEAD_BYTES)
    except OSError as error:
        return f"it cannot be read ({error.strerror or error})"
    if not head:
        return "an empty file"
    found = image_format(head)
    if found and not (found == "TIFF" and suffix in _RAW_SUFFIXES):
        return ""
    return other_kind(head, suffix) or "no image that can be opened"
