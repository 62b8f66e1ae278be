"""Pipelines of flow matching behind T5 and CLIP, through the program."""

from __future__ import annotations

from zoo_flow import ENTRIES
from zoo_promises import ZooPromises


class TestFlow(ZooPromises):
    entries = ENTRIES
