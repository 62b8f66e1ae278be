"""Pipelines whose tensors are not 0..1, through the program."""

from __future__ import annotations

from zoo_pixels import ENTRIES
from zoo_promises import ZooPromises


class TestPixels(ZooPromises):
    entries = ENTRIES
