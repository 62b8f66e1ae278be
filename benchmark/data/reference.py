"""The real images that a run is scored against: rows of a data set, or statistics of images that are not here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.manifest_lines import Row
from metrics.base import ImageSet


@dataclass(frozen=True)
class Reference:
    """Real images, in the order of their rows; a row may lack its image.

    name: of the data set. identity: what its rows are told by. belongs_to: the identity of the PromptSet whose prompt
    number i shows the image of row i; empty where the images have nothing to do with the run's prompts.
    statistics: an .npz file with the mean and covariance of features, in the place of images.
    """

    name: str
    identity: str
    rows: tuple[Row, ...] = ()
    belongs_to: str = ""
    statistics: Path | None = None

    def without_image(self) -> int:
        """Return how many rows have no image that decodes; the manifest says why."""
        return sum(row.path is None for row in self.rows)

    def images(self, n: int) -> ImageSet:
        """Return the first n rows that have images, or all of them where there are fewer."""
        there = [(row.path, row.caption) for row in self.rows if row.path is not None][:n]
        return ImageSet(self.name, tuple(path for path, _ in there), tuple(caption for _, caption in there))

    def targets(self, indices: Iterable[int]) -> tuple[Path | None, ...] | None:
        """Return the real image of each request, aligned with `indices`, and None for a row without image.

        None as a whole where the images do not belong to the run's prompts.
        """
        if not self.belongs_to:
            return None
        return tuple(self.rows[index % len(self.rows)].path for index in indices)
