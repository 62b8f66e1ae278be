"""Pipelines whose tensors are not 0..1, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_pixels import ENTRIES


class TestPixels(ZooPromises):
    entries = ENTRIES
