"""What is scored and what it is compared with: folders of images, arrays of images, features, or statistics."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from files.caches import open_cache
from files.images import save_png
from files.locks import locked
from files.opening import array_shapes, open_rows
from files.reading import file_digest, shown
from files.writing import write_atomically
from metrics.base import ImageSet

if TYPE_CHECKING:
    import numpy as np

ARRAY_SUFFIXES = (".npy", ".npz")
# As guided-diffusion names the array of its samples.
IMAGES_NAME = "arr_0"
EVERY = "*"


def is_array(path: Path) -> bool:
    """Return whether a path is named like a file of arrays."""
    return path.suffix.lower() in ARRAY_SUFFIXES


def is_statistics(path: Path) -> bool:
    """Return whether a path is an .npz file that holds mean and covariance, or should: no images.

    Raises:
        OSError, ValueError: it cannot be read, or is no such file.
    """
    return path.suffix.lower() == ".npz" and (not path.is_file() or not _holds_images(path))


def unpack_images(path: Path, cache: Path) -> ImageSet:
    """Return the images of an array as PNGs in the cache, where they are written once.

    path: an .npy file, or an .npz file with `arr_0`; uint8 of (N, H, W, 3), as guided-diffusion saves samples.

    Raises:
        OSError: it cannot be read, or the cache cannot be written.
        ValueError: it holds something else; one line.
    """
    if path.suffix.lower() == ".npz" and not _holds_images(path):
        raise ValueError(_no_images(path, array_shapes(path)))
    folder = cache / "arrays" / file_digest(path)[:16]
    open_cache(cache)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, "unpacks images"), open_rows(path, IMAGES_NAME) as (shape, kind, rows):
        if len(shape) != 4 or shape[3] != 3 or kind.name != "uint8":
            raise ValueError(_no_images(path, {"": shape}, kind.name))
        paths = tuple(folder / f"{index:07d}.png" for index in range(shape[0]))
        for image, row in zip(paths, rows, strict=True):
            if not image.exists():
                _write(row, image)
    return ImageSet(path.name, paths)


def _write(image_HWC: np.ndarray, path: Path) -> None:
    from PIL import Image

    with write_atomically(path, sync=False) as aside:
        save_png(Image.fromarray(image_HWC), aside)


def _no_images(path: Path, shapes: dict[str, tuple[int, ...]], kind: str = "") -> str:
    found = ", ".join(f"{shown(name)} of {shape}".strip() for name, shape in list(shapes.items())[:5]) or "nothing"
    kind = f" {kind}" if kind else ""
    name = f", as {IMAGES_NAME}" if path.suffix.lower() == ".npz" else ""
    return f"{shown(path)} holds{kind} {found}, which are no images; expected uint8 of (N, H, W, 3){name}"


def _holds_images(path: Path) -> bool:
    """Return whether an .npz file without statistics holds an array that may be images."""
    shapes = array_shapes(path)
    return not {"mu", "sigma"} & set(shapes) and len(shapes.get(IMAGES_NAME, ())) == 4


def feature_shape(path: Path) -> tuple[int, int] | None:
    """Return (N, D) where an .npy file holds features, one row for each image; None where it holds something else.

    Raises:
        OSError, ValueError: it cannot be read, or is no such file.
    """
    if path.suffix.lower() != ".npy":
        return None
    with open_rows(path) as (shape, kind, _):
        return (shape[0], shape[1]) if len(shape) == 2 and kind.kind == "f" else None


def read_features(path: Path) -> np.ndarray:
    """Return the features in an .npy file, one row for each image, (N, D), float64.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds something else, fewer than two rows, or one that is not finite.
    """
    import numpy as np

    with open_rows(path) as (shape, kind, rows):
        if len(shape) != 2 or kind.kind != "f" or shape[0] < 2:
            raise ValueError(f"{shown(path)} holds {kind} of {shape}; expected features, (N, D), of 2 images or more")
        features_ND = np.stack([row.astype(np.float64) for row in rows])
    if not bool(np.isfinite(features_ND).all()):
        raise ValueError(f"{shown(path)} holds features that are no numbers (NaN or infinite); compute them again")
    return features_ND
