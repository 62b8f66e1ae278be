"""What a reference data set is: numbered rows, each a picture with its caption."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Example:
    """One row. `image` is RGB, or None where the row's picture does not decode: `error` then says why."""

    caption: str
    image: Image | None
    label: int | None = None
    error: str = ""


class CaptionedImages(Protocol):
    """A data set of captioned pictures, read in the order of its rows.

    name: the folder's name under OUTPUT_DIR, "Gundam".
    identity: what the run's fingerprint holds of it: name, and seed or version where the rows depend on them.
    label_names: class names in the order of the labels, or empty.
    """

    @property
    def name(self) -> str: ...

    @property
    def identity(self) -> str: ...

    @property
    def label_names(self) -> tuple[str, ...]: ...

    def examples(self, start: int = 0) -> Iterator[Example]:
        """Yield the rows from `start` on, until there are no more. Raises OSError where the data cannot be had."""
        ...
