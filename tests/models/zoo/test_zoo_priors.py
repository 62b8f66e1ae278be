"""Pipelines with a prior, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_priors import ENTRIES


class TestPriors(ZooPromises):
    entries = ENTRIES
