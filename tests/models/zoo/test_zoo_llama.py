"""Pipelines that Llama, Mistral and their kin read the prompts of, through the program."""

from __future__ import annotations

from zoo_llama import ENTRIES
from zoo_promises import ZooPromises


class TestLlama(ZooPromises):
    entries = ENTRIES
