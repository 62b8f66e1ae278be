"""What a model shows only once it has made images: its real size, what its safety checker made black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from noise_model import time_slices

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
    snapshot = time_slices(tmp_path, Late(), range(0, 2), range(2, 4), batch_size=2, warmup=warmup, count=4)
    assert snapshot.faults == ()
    assert [batch.indices for batch in snapshot.batches] == [(0, 1), (2, 3)]
    assert snapshot.loaded is not None
    assert snapshot.loaded.image_size == 8
    assert len(snapshot.loaded.warmups_s) >= max(warmup, 1)
    assert snapshot.loaded.notes == (f"made {2 * len(snapshot.loaded.warmups_s) + 4}",)
