"""An image made in bulk is the one that its request gives alone: each family's embedded model, in float32 on a CPU."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from benchmark.console.progress import Progress
from benchmark.data.sources.robots import Robots
from benchmark.run.bulk import BulkJob, make_bulk
from benchmark.run.journal import Journal
from benchmark.run.worker import Plan
from benchmark.settings.fields import ASSETS, settings_class
from files.images import read_rgb
from models.base import ImageGenerator, Request, Runtime

START, COUNT = 1, 5  # at batch size 3 a full slice, and one that is padded


def load(name: str, cache: Path) -> ImageGenerator:
    settings = settings_class()(WEIGHTS="tiny", MODELS=name)  # type: ignore[call-arg]  # named by alias
    (model,) = settings.selected_models()
    runtime = Runtime("tiny", "cpu", "float32", 64, ASSETS, cache, label_names=Robots(ASSETS, 0).label_names)
    return model.family.load(model.options, runtime)


def make(generator: ImageGenerator, folder: Path, batch_size: int) -> dict[int, np.ndarray]:
    """Return the pixels of requests START..COUNT-1, made at a batch size."""
    rows = islice(Robots(ASSETS, 0).examples(), COUNT)
    requests = tuple(Request(index, row.caption, 100 + index, row.label) for index, row in enumerate(rows))
    journal = Journal(folder, {})
    job = BulkJob(
        load=lambda: generator, load_eager=lambda: generator, requests=requests, journal=journal,
        plan=Plan(1, 0, "cpu"), asked=batch_size, sizes=(), covered=frozenset(), start=START, count=COUNT,
    )  # fmt: skip
    with journal.locked():
        make_bulk(job, Progress(io.StringIO()))
    assert {batch.batch_size for batch in journal.read().batches} == {batch_size}
    return {index: np.asarray(read_rgb(journal.image_path(index))).astype(np.int16) for index in range(START, COUNT)}


@pytest.mark.parametrize("name", ["sdxl", "var", "pixart", "infinity"])
def test_bulk_images_are_those_of_batch_size_1_within_one_step_of_255(tmp_path: Path, name: str) -> None:
    generator = load(name, tmp_path)
    alone, in_bulk = make(generator, tmp_path / "1", 1), make(generator, tmp_path / "3", 3)
    differences = {index: int(np.abs(alone[index] - in_bulk[index]).max()) for index in alone}
    assert max(differences.values()) <= 1, differences
    assert np.abs(alone[1] - alone[2]).max() > 10, "the images of two requests are not alike"
