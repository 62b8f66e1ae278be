"""Pipelines that Qwen3-VL reads the prompts of, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_qwen3_vl import ENTRIES


class TestQwen3VL(ZooPromises):
    entries = ENTRIES
