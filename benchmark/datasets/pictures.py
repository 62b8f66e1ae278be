"""Decodes a picture file of any kind to 8-bit RGB, or says in one line why it does not decode."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from benchmark.datasets.base import Example

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_rgb(content: bytes) -> Image:
    """Return the picture in a file's content as 8-bit RGB, in its own size.

    The first frame, turned upright as its EXIF tag says; then the rule by which metrics read pictures, so that a
    reference is the same picture read from its PNG or from its source. Colour profiles are dropped, not applied.

    Raises:
        ValueError: one line with the reason why it does not decode.
    """
    from PIL import Image, ImageOps

    from metrics.images import as_rgb

    try:
        with Image.open(BytesIO(content)) as opened:
            opened.load()
            image = as_rgb(ImageOps.exif_transpose(opened))
    except MemoryError:
        raise
    # Pillow's decoders report damage with nearly every type: struct.error, KeyError, SyntaxError, OSError, ...
    except Exception as error:
        reason = " ".join(str(error).split())
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
