"""Pipelines of older kinds, through the program."""

from __future__ import annotations

from zoo_older import ENTRIES
from zoo_promises import ZooPromises


class TestOlder(ZooPromises):
    entries = ENTRIES
