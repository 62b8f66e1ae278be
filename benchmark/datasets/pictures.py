"""Decodes a picture file of any kind to 8-bit RGB, or says in one line why it does not decode."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

from benchmark.datasets.base import Example

if TYPE_CHECKING:
    from PIL.Image import Image


def decode_rgb(content: bytes) -> Image:
    """Return the picture in a file's content as 8-bit RGB, in its own size.

    The first frame, turned upright as its EXIF tag says; transparency lies over white; 16-bit grey keeps its upper
    byte; CMYK and palettes as Pillow converts them; colour profiles are dropped, not applied. It is the rule by
    which metrics read pictures, so that a reference is the same picture read from its PNG or from its source.

    Raises:
        ValueError: one line with the reason why it does not decode.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(BytesIO(content)) as opened:
            opened.load()
            image = _as_rgb(ImageOps.exif_transpose(opened))
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


def _as_rgb(image: Image) -> Image:
    import numpy as np
    from PIL import Image

    if image.mode == "F":
        raise ValueError("floating-point pixels have no agreed range")
    if image.mode.startswith("I"):  # 16-bit grey, which convert("RGB") would clip at 255
        levels = np.asarray(image)
        if levels.size and (levels.min() < 0 or levels.max() > 65535):
            raise ValueError("32-bit pixels have no agreed range")
        return Image.fromarray((levels.astype(np.uint16) >> 8).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layers = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    return image.convert("RGB")
