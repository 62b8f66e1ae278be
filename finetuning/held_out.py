"""The two halves of a data set that was fine-tuned on: held-out rows to ask for, and the images trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from benchmark.data.decoding import content_digest
from benchmark.data.manifest import read_header
from benchmark.data.manifest_lines import Row
from benchmark.data.preparation import PreparedRows
from benchmark.data.sources.folder import ImageFile
from files.images import decode_rgb
from files.records import Damaged
from finetuning.images import source_digests, told_images
from metrics.base import ImageSet


def read_held_out(base_dir: Path) -> PreparedRows:
    """Return the rows of BASE_DIR/input/test, which are read where they lie; the data set is called as BASE_DIR.

    Each row has the digest of the image that its own was made of, so that the benchmark leaves out what was trained on.

    Raises:
        OSError, ValueError: there is no such folder, a row cannot be used, or a damaged manifest hides its source.
    """
    folder = base_dir / "input" / "test"
    files, digests = _read_files(folder), source_digests(folder)
    rows = tuple(
        Row(index, file.caption, None, file.path, "test", digests.get(file.path.name) or _own_digest(file))
        for index, file in enumerate(files)
    )
    return PreparedRows(base_dir.resolve().name, _identity_of(folder, rows), (), rows, exhausted=True)


def read_training(base_dir: Path, most: int | None = None) -> ImageSet:
    """Return the images of BASE_DIR/input/train, or `most` of them, spread evenly. Raises as `read_held_out`."""
    files = _read_files(base_dir / "input" / "train")
    images = ImageSet("training images", tuple(file.path for file in files), tuple(file.caption for file in files))
    return images if most is None else spread(images, most)


def spread(images: ImageSet, most: int) -> ImageSet:
    """Return at most `most` of the images, spread evenly: a folder may be sorted."""
    count = min(most, len(images))
    chosen = [number * len(images) // count for number in range(count)]
    captions = tuple(images.captions[place] for place in chosen) if images.captions else ()
    return ImageSet(images.name, tuple(images.paths[place] for place in chosen), captions)


def _read_files(folder: Path) -> list[ImageFile]:
    files = told_images(folder)
    unusable = [fault for file in files if (fault := file.fault())]
    if unusable:
        raise ValueError(f"{len(unusable)} of {len(files)} rows of {folder} cannot be used: {unusable[0]}")
    return files


def _own_digest(file: ImageFile) -> str:
    """Return the content digest of an image that no manifest tells the source of."""
    try:
        return content_digest(decode_rgb(file.read()))
    except ValueError as error:
        raise ValueError(f"{file.path} does not decode ({error}): replace or remove it with its caption") from error


def _identity_of(folder: Path, rows: Sequence[Row]) -> str:
    """Return what tells these rows from others: the data set's, where a manifest names it, since rows may be added."""
    try:
        return f"{read_header(folder.parent)['identity']}, held out"
    except (OSError, Damaged, KeyError):
        content = json.dumps([(row.caption, row.digest) for row in rows]).encode()
        return f"folder {folder.parent.parent.resolve().name} {hashlib.sha256(content).hexdigest()[:16]}"
