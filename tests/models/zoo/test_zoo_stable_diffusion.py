"""Stable Diffusion 1 and XL, and their kin, through the program."""

from __future__ import annotations

from zoo_promises import ZooPromises
from zoo_stable_diffusion import ENTRIES


class TestStableDiffusion(ZooPromises):
    entries = ENTRIES
