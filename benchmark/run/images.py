"""From an answer of a generator to images on disk: the copy to the host, and a thread that writes meanwhile."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING

from PIL import Image

from benchmark.run.journal import Journal
from benchmark.run.journal_lines import Batch
from models.base import ImageGenerator

if TYPE_CHECKING:
    from torch import Tensor

WRITER_QUEUE_BATCHES = 4


def to_host(images_BCHW: Tensor, asked: int, kept: int, generator: ImageGenerator) -> list[Image.Image]:
    """Return the first `kept` images of an answer to `asked` requests; what follows them is padding."""
    shape = tuple(images_BCHW.shape)
    assert (*shape[:2], max(shape[2:])) == (asked, 3, generator.image_size), f"{generator.name} returned {shape}"
    assert str(images_BCHW.dtype) == "torch.uint8", f"{generator.name} returned {images_BCHW.dtype}"
    return [Image.fromarray(image) for image in images_BCHW[:kept].permute(0, 2, 3, 1).cpu().contiguous().numpy()]


class ImageWriter:
    """A thread that records batches, with a bounded queue; an error of its own surfaces at the next call."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._queue: queue.Queue[tuple[Batch, list[Image.Image]] | None] = queue.Queue(WRITER_QUEUE_BATCHES)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name="image-writer", daemon=True)

    def __enter__(self) -> ImageWriter:
        self._thread.start()
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if error_type is None:
            self._raise_error()

    def put(self, batch: Batch, images: list[Image.Image]) -> None:
        self._raise_error()
        self._queue.put((batch, images))

    def drain(self) -> None:
        """Wait until all that was put is recorded: two threads must not append to a journal at once."""
        self._queue.join()
        self._raise_error()

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            try:
                if self._error is None:
                    self._journal.record_batch(*item)
            except Exception as error:  # carried over to the thread that generates, and raised there
                self._error = error
            finally:
                self._queue.task_done()

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
