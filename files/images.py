"""Image files: which formats are opened, what a file becomes, and PNGs that say who made them.

One rule for generated and reference images alike: the first frame, turned upright as its EXIF tag says, in 8-bit RGB;
transparency lies over white; 16-bit grey keeps its upper byte; the rest as Pillow converts it. Colour profiles are
dropped, not applied.
"""

from __future__ import annotations

import re
import warnings
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from files import PROGRAM
from files.image_kinds import HEAD_BYTES, image_format, other_kind
from files.image_kinds import SUFFIXES as SUFFIXES
from files.reading import read_head, read_regular, shown

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow knows some fifty formats, of which one calls Ghostscript: no other than these is ever tried.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Text, and colour profiles, which are dropped: Pillow refuses a file where they are long.
_PNG_SKIPPED = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})
# Beyond these a small file costs minutes: Pillow reads headers in Python, libjpeg goes over all pixels in every scan.
_MOST_PNG_CHUNKS = 300_000  # 512 MB in chunks of 8 KB are 62,500
_MOST_JPEG_SEGMENTS, _MOST_JPEG_JUNK_BYTES = 300, 100_000
_MOST_JPEG_SCAN_PIXELS = 4_000_000_000  # a progressive JPEG has about ten scans
_SLOW_DECODERS = frozenset({"bmp_rle", "ppm", "ppm_plain"})  # written in Python
_MOST_SLOW_PIXELS, _MOST_SLOW_BYTES = 30_000_000, 30_000_000
_JPEG_SIGNATURE = b"\xff\xd8\xff"
_JPEG_START_OF_SCAN = b"\xff\xda"
# Markers that Pillow takes to stand alone: JPG, RST0 to RST7, SOI, EOI, JPG0 to JPG13.
_JPEG_BARE_MARKERS = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})
_SOFTWARE = b"Software\0" + PROGRAM.encode()
_MAKER_BYTES = 200  # of a PNG, in which its maker stands
_ORIENTATION = 0x0112  # the tag of EXIF and TIFF


@cache
def _formats() -> tuple[str, ...]:
    """Return those of FORMATS that this build of Pillow can open."""
    from PIL import Image

    Image.init()
    # Half of Pillow's own limit brings a warning, the limit (179 million pixels) an error, which stands.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # Remarks on damaged tags: what counts is whether the image decodes.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_image(content: bytes) -> Image:
    """Return the opened, not yet decoded image in a file's content. Raises what Pillow raises, of nearly any type."""
    from PIL import Image

    if content.startswith(_JPEG_SIGNATURE):
        _check_jpeg_header(content)
    image = Image.open(BytesIO(without_text(content)), formats=_formats())
    try:
        _check_work(image, content)
    except ValueError:
        image.close()
        raise
    return image


def _check_jpeg_header(content: bytes) -> None:
    """Raise ValueError where what lies before the first scan is no header of any sane file."""
    place, segments, junk = 2, 0, 0
    while (start := content.find(b"\xff", place)) >= 0:
        junk += start - place
        kind = start + 1
        while kind < len(content) and content[kind] == 0xFF and junk <= _MOST_JPEG_JUNK_BYTES:  # fill bytes
            kind, junk = kind + 1, junk + 1
        marker = content[kind : kind + 1]
        if not marker or content[kind - 1 : kind + 1] == _JPEG_START_OF_SCAN:
            return
        place = kind + 1
        if marker == b"\0":
            junk += 2
        else:
            segments += 1
            if marker[0] not in _JPEG_BARE_MARKERS:
                place += max(2, int.from_bytes(content[place : place + 2]))
        if junk > _MOST_JPEG_JUNK_BYTES or segments > _MOST_JPEG_SEGMENTS:
            raise ValueError("the JPEG has more segments or stray bytes before its image than any sane file")


def _check_work(image: Image, content: bytes) -> None:
    """Raise ValueError where decoding would take minutes, which a small file can ask for."""
    pixels = image.width * image.height
    if image.format in ("JPEG", "MPO") and pixels * content.count(_JPEG_START_OF_SCAN) > _MOST_JPEG_SCAN_PIXELS:
        raise ValueError("the JPEG has more scans than any sane file of its size")
    decoders = {tile[0] for tile in getattr(image, "tile", ())}
    if decoders & _SLOW_DECODERS and (pixels > _MOST_SLOW_PIXELS or len(content) > _MOST_SLOW_BYTES):
        raise ValueError(f"{image.format} of this kind is read up to {_MOST_SLOW_PIXELS // 1_000_000} megapixels only")


def without_text(content: bytes) -> bytes:
    """Return a PNG without its chunks of text and its colour profile, which Pillow refuses where they are long.

    Nothing here reads them. What is no PNG is returned as it is, and a damaged one from its damage on.

    Raises:
        ValueError: it has more chunks than any sane file.
    """
    if not content.startswith(_PNG_SIGNATURE):
        return content
    kept, place, dropped, chunks = [_PNG_SIGNATURE], len(_PNG_SIGNATURE), False, 0
    while place + 12 <= len(content):
        chunks += 1
        if chunks > _MOST_PNG_CHUNKS:
            raise ValueError(f"the PNG has more than {_MOST_PNG_CHUNKS:,} chunks")
        length = int.from_bytes(content[place : place + 4])
        kind, stop = content[place + 4 : place + 8], place + 12 + length
        if stop > len(content):
            break
        if kind in _PNG_SKIPPED:
            dropped = True
        else:
            kept.append(content[place:stop])
        place = stop
    return b"".join([*kept, content[place:]]) if dropped else content


def decode_rgb(content: bytes) -> Image:
    """Return the image in a file's content as 8-bit RGB, in its own size, by the rule of this module.

    Raises:
        ValueError: one line with the reason why it does not decode.
    """
    _refuse_other(content[:HEAD_BYTES])
    try:
        with open_image(content) as opened:
            opened.load()
            image: Any = _upright(opened)
            if opened.format != "JPEG" or opened.mode != "RGB":  # what paintings mostly are is not copied twice
                image = as_rgb(image)
    except MemoryError:
        raise
    # Pillow's decoders report damage with nearly every type: struct.error, KeyError, SyntaxError, OSError, ...
    except Exception as error:
        reason = re.sub(r"\s*<_io\.BytesIO object at \w+>", "", " ".join(str(error).split()))  # the same every time
        raise ValueError(f"{type(error).__name__}: {reason}" if reason else type(error).__name__) from error
    image.info = {}  # else a PNG of it would carry the source's profile and tags
    decoded: Image = image
    return decoded


def _refuse_other(head: bytes) -> None:
    """Raise ValueError where a file is of a kind that phones and browsers write, and that is not opened."""
    if (head[4:8] in (b"ftyp", b"JXL ") or head.startswith(b"\xff\x0a")) and not image_format(head):
        raise ValueError(other_kind(head))


def _upright(image: Image) -> Image:
    """Return the image turned as its orientation tag says.

    Pillow's own function also writes the other tags anew, and fails where one of them holds what cannot be written,
    such as a rational with the denominator 0.
    """
    from PIL.Image import Transpose

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    turn = turns.get(image.getexif().get(_ORIENTATION, 1))
    return image if turn is None else image.transpose(turn)


def read_rgb(path: Path) -> Image:
    """Return the image in `path` as 8-bit RGB, by the rule of this module.

    Raises:
        OSError: one line that names the file, where it is missing, damaged or of a kind without a rule.
    """
    try:
        return decode_rgb(read_regular(path))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise OSError(f"{shown(path)} cannot be read as an image: {reason}; replace or remove it") from error


def as_rgb(image: Image) -> Image:
    """Return a loaded image as RGB: alpha over white, the upper byte of 16-bit grey.

    Raises:
        ValueError: its pixels have no agreed range.
    """
    import numpy as np
    from PIL import Image as Pillow

    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
        levels = np.asarray(image)
        if levels.size and (levels.min() < 0 or levels.max() > 65535):
            raise ValueError("32-bit pixels have no agreed range")
        return Pillow.fromarray((levels.astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        with_alpha = image.convert("RGBA")
        return Pillow.alpha_composite(Pillow.new("RGBA", with_alpha.size, "white"), with_alpha).convert("RGB")
    return image.convert("RGB")


def save_png(image: Image, path: Path, *, compress_level: int = 1) -> None:
    """Write an image as PNG that names this program as its maker (keyword Software of the PNG standard)."""
    with path.open("wb") as file:
        _write_png(image, file, compress_level)


def encode_png(image: Image, *, compress_level: int = 1) -> bytes:
    """Return the content of the file that `save_png` would write."""
    file = BytesIO()
    _write_png(image, file, compress_level)
    return file.getvalue()


def _write_png(image: Image, file: IO[bytes], compress_level: int) -> None:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("Software", PROGRAM)
    image.save(file, format="PNG", compress_level=compress_level, pnginfo=info)


def is_our_png(path: Path) -> bool:
    """Return whether a file is a PNG that names this program as its maker."""
    try:
        head = read_head(path, _MAKER_BYTES)
    except OSError:
        return False
    return head.startswith(_PNG_SIGNATURE) and _SOFTWARE in head
