"""The training images: a folder of captioned images, read, checked and cropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmark.data.manifest import NAME as MANIFEST_NAME
from benchmark.data.manifest_lines import MOST_BYTES, context_of
from benchmark.data.preparation import tell
from benchmark.data.sources.folder import ImageFile, check_captions, survey_images
from files.images import decode_rgb
from files.reading import is_regular, read_regular
from files.records import CHECKSUM, Damaged, unseal


@dataclass(frozen=True)
class TrainingImage:
    """An image to train on. file_digest: SHA-256 of its file; source_digest: of the image that it was made of,
    where the folder's manifest tells it (a crop's own content is another).
    """

    path: Path
    caption: str
    file_digest: str
    source_digest: str


def read_images(folder: Path) -> list[TrainingImage]:
    """Return a folder's captioned images in the order of their names; what is left out is told.

    Raises:
        OSError, ValueError: no such folder, no images, or some without a caption.
    """
    rows = told_images(folder)
    files = [file for file in rows if not file.uncaptioned]
    if len(files) < len(rows):
        tell(f"{folder}: {len(rows) - len(files)} of {len(rows)} rows have no caption and are left out")
    check_captions(folder, files)
    missing = [file.path for file in files if not is_regular(file.path)]
    if missing:
        raise OSError(f"{len(missing)} of {len(files)} images in {folder} are missing, first {missing[0]}")
    sources = source_digests(folder)

    def read(file: ImageFile) -> TrainingImage:
        digest, source = hashlib.sha256(file.read()).hexdigest(), sources.get(file.path.name, "")
        return TrainingImage(file.path, file.caption, digest, source)

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, files))


def prompt_files(train_dir: Path, test_dir: Path | None) -> list[ImageFile]:
    """Return the files whose captions serve as prompts: the held-out ones, or those trained on where there are none."""
    folder = test_dir if test_dir is not None and test_dir.is_dir() and any(test_dir.iterdir()) else train_dir
    rows = told_images(folder)
    files = [file for file in rows if not file.error]
    if len(files) < len(rows):
        fault = next(file.error for file in rows if file.error)
        tell(f"{folder}: {len(rows) - len(files)} of {len(rows)} rows cannot be used and are left out, first: {fault}")
    return files


def told_images(folder: Path) -> list[ImageFile]:
    """Return a folder's rows; one line says what else lies in it, with counts and the first names.

    Raises:
        OSError, ValueError: as `survey_images`.
    """
    files, survey = survey_images(folder)
    if survey.left_out or survey.notes:
        tell(survey.summary(str(folder)))
    return files


def source_digests(folder: Path) -> dict[str, str]:
    """Return file name to content digest of the source image, from the manifest that lies beside the splits.

    Raises:
        OSError: the manifest cannot be read.
        ValueError: it is damaged: which images were trained on could not be told.
    """
    path = folder.parent / MANIFEST_NAME
    if not path.is_file():
        return {}
    texts = read_regular(path, most_bytes=MOST_BYTES).split(b"\n")[:-1]  # the last is empty, or torn
    header = _json_object(texts[0]) if texts else {}
    if CHECKSUM not in header and not any(CHECKSUM in _json_object(text) for text in texts[1:3]):
        # Of an older version, or of another program.
        rows = [_json_object(text) for text in texts]
    else:
        try:
            context = context_of(unseal(texts[0]))
            rows = [unseal(text, context) for text in texts[1:]]
        except Damaged as error:
            raise ValueError(f"{path} is damaged ({error}): prepare the images again") from error
    files = [(str(row.get("file", "")), str(row.get("sha256", ""))) for row in rows]
    return {Path(name).name: digest for name, digest in files if name.startswith(f"{folder.name}/")}


def _json_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object of a line, empty where it is none."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_pixels(images: Sequence[TrainingImage], side: int) -> Tensor:
    """Return `pixels_BCHW`, float32 in -1..1: each cut to its central square, then brought to `side` pixels.

    Raises:
        ValueError: an image does not decode; the line names it.
    """
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda entry: _read(entry, side), images)))


def _read(entry: TrainingImage, side: int) -> Tensor:
    try:
        image = decode_rgb(read_regular(entry.path))
    except ValueError as error:
        raise ValueError(f"{entry.path} does not decode ({error}): replace or remove it with its caption") from error
    fitted = ImageOps.fit(image, (side, side), method=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float().div(127.5).sub(1)
