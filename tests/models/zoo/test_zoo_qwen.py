"""Pipelines that Qwen2.5-VL reads the prompts of, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_qwen import ENTRIES


class TestQwen(ZooPromises):
    entries = ENTRIES
