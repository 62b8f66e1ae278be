"""Streams image files from disk as uint8 RGB tensors, decoded ahead in threads, a few at a time.

`files.images` says how a file becomes RGB. A file that cannot be read is an error that names it; none is left out.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from files.images import read_rgb as read_rgb

MOST_THREADS = 32


def as_tensor(image: Image.Image) -> Tensor:
    """Return an RGB image as `image_CHW`, uint8 0..255."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def stream_images(paths: Sequence[Path], ahead: int = 32) -> Iterator[Tensor]:
    """Yield `image_CHW`, uint8 0..255, for each path in order, with at most `ahead` decoded before they are asked for.

    Raises:
        OSError: one line that names the first file that cannot be read.
    """
    threads = min(MOST_THREADS, os.cpu_count() or 1)  # Pillow's decoders release the interpreter lock
    remaining = iter(paths)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def submit(path: Path) -> Future[Tensor]:
        return pool.submit(lambda: as_tensor(read_rgb(path)))

    try:
        pending = deque(submit(path) for path in islice(remaining, max(1, ahead)))
        while pending:
            image_CHW = pending.popleft().result()
            pending.extend(submit(path) for path in islice(remaining, 1))
            yield image_CHW
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def stream_batches(paths: Sequence[Path], batch_size: int) -> Iterator[list[Tensor]]:
    """Yield lists of at most `batch_size` images in the order of `paths`; those of one list may differ in size."""
    images = stream_images(paths, ahead=batch_size)
    while batch := list(islice(images, batch_size)):
        yield batch


def stack_by_size(images: Sequence[Tensor]) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the images of each size as `images_BCHW` with their places in `images`; channels lie last in memory."""
    places: dict[torch.Size, list[int]] = {}
    for place, image_CHW in enumerate(images):
        places.setdefault(image_CHW.shape, []).append(place)
    for same_size in places.values():
        # As decoders leave them: a stack is then a copy of whole images, and no transposition.
        images_BHWC = torch.stack([images[place].permute(1, 2, 0) for place in same_size])
        yield same_size, images_BHWC.permute(0, 3, 1, 2)


def standardise(images_BCHW: Tensor, side: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return uint8 images at `side` x `side` as (x / 255 - mean) / std, channel by channel, float32."""
    mean_C11, std_C11 = (images_BCHW.new_tensor(values, dtype=torch.float32).view(3, 1, 1) for values in (mean, std))
    return (resize_antialiased(images_BCHW, side) / 255 - mean_C11) / std_C11


def resize_antialiased(images_BCHW: Tensor, side: int) -> Tensor:
    """Return uint8 images as float32 0..255 at `side` x `side`: antialiased bicubic, clamped to the range."""
    floats_BCHW = images_BCHW.to(torch.float32)
    if floats_BCHW.shape[-2:] == (side, side):
        return floats_BCHW
    resized_BCHW = functional.interpolate(floats_BCHW, size=(side, side), mode="bicubic", antialias=True)
    return resized_BCHW.clamp(0, 255)  # bicubic overshoots at edges
