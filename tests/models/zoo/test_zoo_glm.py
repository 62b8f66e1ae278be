"""Pipelines that GLM reads the prompts of, through the program."""

from __future__ import annotations

from zoo_glm import ENTRIES
from zoo_promises import ZooPromises


class TestGlm(ZooPromises):
    entries = ENTRIES
