"""What is done to one image: its file read and decoded, or why not; its content digest; its central square."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.sources.base import Example
from files.images import decode_rgb as decode_rgb
from files.paths import is_inside
from files.reading import read_regular, shown, valid_text

if TYPE_CHECKING:
    from PIL.Image import Image

# An image is digested in strips: the memory of whole paintings would be asked of the system for each of them anew.
STRIP_ROWS = 64
# Errors of the machine and not of the file: with them a row without image would be a row that another run has.
_MACHINE_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


def read_inside(path: Path, root: Path) -> bytes:
    """Return the content of a regular file that lies in the data set's folder `root`, as `files.paths` says.

    Raises:
        ValueError: one line with the reason why this file cannot be read; it costs its row.
        OSError: this process has no memory or no file descriptors left, which is no fault of the row.
    """
    try:
        if not is_inside(path, root):
            raise ValueError(outside(path, root))
        return read_regular(path)
    except FileNotFoundError as error:
        hint = "; nothing is fetched from a URL" if ":/" in str(path) else ""
        raise ValueError(_one_line(f"there is no file {shown(path)}{hint}")) from error
    except OSError as error:
        if error.errno in _MACHINE_ERRORS:
            raise
        reason = f"{shown(path)} cannot be read ({error.strerror})" if error.strerror else str(error)
        raise ValueError(_one_line(reason)) from error


def outside(path: Path, root: Path) -> str:
    """Return what is said of a path that leads outside of the data set's folder."""
    return f"{shown(path)} leads outside of {shown(root)}; a path must stay inside the data set"


def decode_example(caption: str, content: bytes | None, label: int | None = None) -> Example:
    """Return the row with its image, or with the reason why it has none."""
    if content is None:
        return without_image(caption, "the row holds no image", label)
    try:
        return Example(valid_text(caption), decode_rgb(content), label)
    except ValueError as error:
        return without_image(caption, str(error), label)


def without_image(caption: str, reason: str, label: int | None = None) -> Example:
    """Return a row that has no image, for a reason in one line."""
    return Example(valid_text(caption), None, label, _one_line(reason))


def _one_line(text: str) -> str:
    return valid_text(" ".join(text.split()))


def content_digest(image: Image) -> str:
    """Return the SHA-256 of an RGB image's size and pixels, in hexadecimal: of what is seen, not of a file."""
    digest = hashlib.sha256(f"{image.width}x{image.height} ".encode())
    for top in range(0, image.height, STRIP_ROWS):
        digest.update(image.crop((0, top, image.width, min(top + STRIP_ROWS, image.height))).tobytes())
    return digest.hexdigest()


def crop_square(image: Image, side: int) -> Image:
    """Return the image's central square, reduced to `side` pixels where it is larger; it is never enlarged."""
    from PIL.Image import Resampling

    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return image.crop(box) if edge <= side else image.resize((side, side), Resampling.LANCZOS, box=box)
