"""Transformers that attend to the words of T5 or BERT, through the program."""

from __future__ import annotations

from zoo_diffusion_transformers import ENTRIES
from zoo_promises import ZooPromises


class TestDiffusionTransformers(ZooPromises):
    entries = ENTRIES
