"""Pipelines that Qwen3 reads the prompts of, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_qwen3 import ENTRIES


class TestQwen3(ZooPromises):
    entries = ENTRIES
