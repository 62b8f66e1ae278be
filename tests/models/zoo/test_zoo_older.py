"""Pipelines of older kinds, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_older import ENTRIES


class TestOlder(ZooPromises):
    entries = ENTRIES
