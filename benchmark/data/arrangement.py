"""How a folder's rows were arranged: what fine-tuning prepared as a sample, the benchmark goes on with."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.manifest import read_header
from benchmark.data.sources.base import Arrangeable, CaptionedImages
from files.records import Damaged


def adopt_arrangement(dataset: CaptionedImages, folder: Path) -> CaptionedImages:
    """Return the data set arranged as `folder/input` was prepared from it, or as it is.

    A folder that holds another data set is left for `prepare_rows` to refuse.
    """
    if not isinstance(dataset, Arrangeable):
        return dataset
    try:
        header = read_header(folder / "input")
    except (OSError, Damaged):  # nothing was prepared, or its manifest is damaged
        return dataset
    return dataset.arranged(header) or dataset
