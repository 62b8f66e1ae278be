"""What a model shows only once it has made images: its real size, what its safety checker made black."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from benchmark.console.progress import Progress
from benchmark.run.generation import Plan, generate_images
from benchmark.run.journal import Journal
from models.base import ImageGenerator, Request


class Late(ImageGenerator):
    """Finds out its size with its first image, and counts its images in a note."""

    def __init__(self) -> None:
        self.name, self.parameters, self.image_size = "Late", 1, 64
        self.made = 0

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        self.image_size = 8
        self.made += len(requests)
        self.notes = (f"made {self.made}",)
        return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)


@pytest.mark.parametrize("warmup", [0, 2])
def test_what_shows_only_in_the_images_is_recorded(tmp_path: Path, warmup: int) -> None:
    journal = Journal(tmp_path / "column", {"BATCH_SIZE": "2"})
    requests = [Request(index, "x", index) for index in range(4)]
    generate_images(Late, requests, journal, Plan(2, warmup, "cpu"), Progress(io.StringIO()))
    snapshot = journal.read()
    assert snapshot.faults == ()
    assert [batch.indices for batch in snapshot.batches] == [(0, 1), (2, 3)]
    assert snapshot.loaded is not None
    assert snapshot.loaded.image_size == 8
    assert snapshot.loaded.notes == (f"made {2 * warmup + 4}",)
    assert (snapshot.loaded.first_call_s is None) == (warmup == 0)
