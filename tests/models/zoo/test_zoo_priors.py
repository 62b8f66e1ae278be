"""Pipelines with a prior, through the program."""

from __future__ import annotations

from zoo_priors import ENTRIES
from zoo_promises import ZooPromises


class TestPriors(ZooPromises):
    entries = ENTRIES
