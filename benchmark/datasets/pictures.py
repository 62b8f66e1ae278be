"""What is done to one picture: its file decoded to 8-bit RGB, or why not; its content digest; its central square."""

from __future__ import annotations

import hashlib
import re
from io import BytesIO
from typing import TYPE_CHECKING

from benchmark.datasets.base import Example

if TYPE_CHECKING:
    from PIL.Image import Image

# A picture is digested in strips: the memory of whole paintings would be asked of the system for each of them anew.
STRIP_ROWS = 64


def decode_rgb(content: bytes) -> Image:
    """Return the picture in a file's content as 8-bit RGB, in its own size.

    The first frame, turned upright as its EXIF tag says; then the rule by which metrics read pictures, so that a
    reference is the same picture read from its PNG or from its source. Colour profiles are dropped, not applied.

    Raises:
        ValueError: one line with the reason why it does not decode.
    """
    from PIL import Image as Pillow
    from PIL import ImageOps

    from metrics.images import as_rgb

    try:
        with Pillow.open(BytesIO(content)) as opened:
            opened.load()
            image: Image = opened
            if opened.format == "JPEG" and opened.mode == "RGB":  # what paintings mostly are: not copied twice
                ImageOps.exif_transpose(image, in_place=True)
            else:
                image = as_rgb(ImageOps.exif_transpose(opened))
    except MemoryError:
        raise
    # Pillow's decoders report damage with nearly every type: struct.error, KeyError, SyntaxError, OSError, ...
    except Exception as error:
        reason = re.sub(r"\s*<_io\.BytesIO object at \w+>", "", " ".join(str(error).split()))  # the same every time
        raise ValueError(f"{type(error).__name__}: {reason}" if reason else type(error).__name__) from error
    image.info = {}  # else a PNG of it would carry the source's profile and tags
    return image


def decode_example(caption: str, content: bytes | None, label: int | None = None) -> Example:
    """Return the row with its picture, or with the reason why it has none."""
    if content is None:
        return Example(caption, None, label, "the row holds no picture")
    try:
        return Example(caption, decode_rgb(content), label)
    except ValueError as error:
        return Example(caption, None, label, str(error))


def content_digest(image: Image) -> str:
    """Return the SHA-256 of an RGB picture's size and pixels, in hexadecimal: of what is seen, not of a file."""
    digest = hashlib.sha256(f"{image.width}x{image.height} ".encode())
    for top in range(0, image.height, STRIP_ROWS):
        digest.update(image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))).tobytes())
    return digest.hexdigest()


def crop_square(image: Image, side: int) -> Image:
    """Return the picture's central square, reduced to `side` pixels where it is larger; it is never enlarged."""
    from PIL.Image import Resampling

    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.crop(box) if edge <= side else image.resize((side, side), Resampling.LANCZOS, box=box)
