"""The training pictures: a folder of captioned pictures, read, checked and cropped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from benchmark.datasets.folder import PictureFile, check_captions, picture_files
from benchmark.datasets.pictures import decode_rgb


@dataclass(frozen=True)
class TrainingPicture:
    """A picture to train on. file_digest: SHA-256 of its file; source_digest: of the picture that it was made of,
    where the folder's manifest tells it (a crop's own content is another).
    """

    path: Path
    caption: str
    file_digest: str
    source_digest: str


def read_pictures(folder: Path) -> list[TrainingPicture]:
    """Return a folder's captioned pictures in the order of their names.

    Raises:
        OSError, ValueError: no such folder, no pictures, or some without a caption.
    """
    files = picture_files(folder)
    check_captions(folder, files)
    missing = [file.path for file in files if not file.path.is_file()]
    if missing:
        raise OSError(f"{len(missing)} of {len(files)} pictures in {folder} are not there, first {missing[0]}")
    sources = _source_digests(folder)

    def read(file: PictureFile) -> TrainingPicture:
        with file.path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return TrainingPicture(file.path, file.caption, digest, sources.get(file.path.name, ""))

    with ThreadPoolExecutor() as pool:
        return list(pool.map(read, files))


def prompt_files(train_dir: Path, test_dir: Path | None) -> list[PictureFile]:
    """Return the files whose captions serve as prompts: the held-out ones, or those trained on where there are none."""
    if test_dir is not None and test_dir.is_dir() and any(test_dir.iterdir()):
        return picture_files(test_dir)
    return picture_files(train_dir)


def _source_digests(folder: Path) -> dict[str, str]:
    """Return file name to content digest of the source picture, from the manifest that lies beside the splits."""
    manifest = folder.parent / "manifest.jsonl"
    if not manifest.is_file():
        return {}
    digests = {}
    for line in manifest.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:  # a torn last line
            continue
        if isinstance(row, dict) and str(row.get("file", "")).startswith(f"{folder.name}/"):
            digests[Path(row["file"]).name] = str(row["sha256"])
    return digests


def read_pixels(pictures: Sequence[TrainingPicture], side: int) -> Tensor:
    """Return `pixels_BCHW`, float32 in -1..1: each cut to its central square, then brought to `side` pixels.

    Raises:
        ValueError: a picture does not decode; the line names it.
    """
    with ThreadPoolExecutor() as pool:
        return torch.stack(list(pool.map(lambda picture: _read(picture, side), pictures)))


def _read(picture: TrainingPicture, side: int) -> Tensor:
    try:
        image = decode_rgb(picture.path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{picture.path} does not decode ({error}): mend or remove it with its caption") from error
    fitted = ImageOps.fit(image, (side, side), method=Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float().div(127.5).sub(1)
