"""Pipelines that Gemma reads the prompts of, through the program."""

from __future__ import annotations

from zoo_gemma import ENTRIES
from zoo_promises import ZooPromises


class TestGemma(ZooPromises):
    entries = ENTRIES
