"""Prompt fidelity with an attribute network that is rigged to see one robot everywhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.extractors.attribute_network import AttributeNetwork, save_attribute_network
from metrics.robots.grammar import load_grammar

ASSETS = Path(__file__).parents[2] / "assets"
SEEN = (1, 2, 3, 4, 5, 6, 7)


@pytest.fixture
def scoring(tmp_path: Path) -> Scoring:
    """Return a scoring whose attribute network sees the robot `SEEN` in every image."""
    assets = tmp_path / "assets"
    (assets / "robots").mkdir(parents=True)
    shutil.copy(ASSETS / "robots" / "parts.json", assets / "robots")
    sizes = load_grammar(assets).sizes
    network = AttributeNetwork((8, 8, 8, 8, 8), 8, sizes)
    with torch.no_grad():
        network.heads.weight.zero_()
        network.heads.bias.zero_()
        for start, option in zip((sum(sizes[:part]) for part in range(7)), SEEN, strict=True):
            network.heads.bias[start + option] = 1
    save_attribute_network(network, assets / "attributes")
    return Scoring(device="cpu", assets=assets, cache=tmp_path / "cache")


def _images(folder: Path, name: str, captions: list[str]) -> ImageSet:
    paths = []
    for index in range(len(captions)):
        paths.append(folder / f"{name}{index}.png")
        Image.new("RGB", (64, 64), (index, 0, 0)).save(paths[-1])
    return ImageSet(name, tuple(paths), tuple(captions))


def test_fidelity_is_the_share_of_asked_parts_that_are_seen(tmp_path: Path, scoring: Scoring) -> None:
    grammar = load_grammar(scoring.assets)
    right, two_wrong = grammar.caption(SEEN), grammar.caption((0, 2, 3, 4, 5, 6, 0))
    reference = _images(tmp_path, "reference", [right] * 3)
    generated = _images(tmp_path, "generated", [right, two_wrong])
    (score,) = METRICS["fidelity"](scoring).score(Comparison(generated, reference))
    assert score.value == pytest.approx(100 * 12 / 14)
    assert (score.floor, score.better, score.n_generated) == (100.0, "higher", 2)
    assert score.label == "Prompt Fidelity % (higher = better)"
    assert score.interval is not None
    assert score.interval[0] < score.value < score.interval[1]


def test_a_class_name_is_judged_on_colour_and_head_alone(tmp_path: Path, scoring: Scoring) -> None:
    name = load_grammar(scoring.assets).class_names[10 * SEEN[0] + 0]  # the colour is right, the head is not
    generated = _images(tmp_path, "generated", [name])
    (score,) = METRICS["fidelity"](scoring).score(Comparison(generated, ImageSet("reference", ())))
    assert score.value == pytest.approx(50)
    assert score.floor is None


def test_captions_of_other_things_have_no_fidelity(tmp_path: Path, scoring: Scoring) -> None:
    generated = _images(tmp_path, "generated", ["a painting by Monet"])
    with pytest.raises(MetricUnavailable, match="captions name no robot parts"):
        METRICS["fidelity"](scoring).score(Comparison(generated, generated))
