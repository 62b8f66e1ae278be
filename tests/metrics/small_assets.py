"""Assets with an attribute network of random weights, for tests of the extractor that robots have."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from metrics.extractors.attribute_network import AttributeNetwork, save_attribute_network
from metrics.robots.grammar import load_grammar

ASSETS = Path(__file__).parents[2] / "assets"


def write_assets(folder: Path) -> Path:
    """Write the assets into a folder that is not there yet, and return it."""
    (folder / "robots").mkdir(parents=True)
    shutil.copy(ASSETS / "robots" / "parts.json", folder / "robots")
    torch.manual_seed(0)
    network = AttributeNetwork((8, 8, 8, 8, 8), 16, load_grammar(folder).sizes)
    save_attribute_network(network, folder / "attributes")
    return folder
