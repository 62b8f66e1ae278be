"""Caption match: shares in closed form, and what is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring
from metrics.matching import match_shares
from metrics.robots.grammar import load_grammar

REAL = torch.tensor([[0.0, 0.0], [10.0, 0.0], [20.0, 0.0], [30.0, 0.0]])
CAPTIONS = ["a", "b", "c", "d"]
ASSETS = Path(__file__).parents[2] / "assets"


def test_exact_images_match_and_reversed_ones_do_not() -> None:
    assert match_shares(REAL, REAL, CAPTIONS).tolist() == [1, 1, 1, 1]
    # The first asked shows the last: all three others are nearer; the second shows
    # the third: the first is farther than the own one, the last as far.
    reversed_shares = match_shares(REAL.flip(0), REAL, CAPTIONS)
    assert reversed_shares.tolist() == pytest.approx([0, 0.5, 0.5, 0])


def test_images_that_know_nothing_score_a_half() -> None:
    generator = torch.Generator().manual_seed(0)
    made, real = (torch.randn(600, 8, generator=generator) for _ in range(2))
    shares = match_shares(made, real, [str(i) for i in range(600)])
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.04)


def test_a_tie_counts_half_and_the_own_caption_is_no_other() -> None:
    real = torch.tensor([[0.0, 0.0], [0.0, 0.0], [5.0, 0.0]])
    assert match_shares(torch.zeros(3, 2), real, ["a", "b", "c"]).tolist() == pytest.approx([0.75, 0.75, 0.0])
    assert match_shares(torch.zeros(3, 2), real, ["a", "a", "c"]).tolist() == pytest.approx([1.0, 1.0, 0.0])
    with pytest.raises(ValueError, match="one caption"):
        match_shares(real, real, ["a", "a", "a"])


def test_what_was_asked_for_a_class_has_no_match(tmp_path: Path) -> None:
    metric = METRICS["match"](Scoring("cpu", tmp_path, tmp_path))
    images = ImageSet("x", (tmp_path / "a.png",), ("a class",))
    targets = ImageSet("y", (tmp_path / "b.png",), ("a caption",))
    with pytest.raises(MetricUnavailable, match="class"):
        metric.score(Comparison(images, targets, targets.paths, unpaired="asked for a class, not for a caption"))
    with pytest.raises(MetricUnavailable, match="not known which real image"):
        metric.score(Comparison(images, targets))


def test_an_image_matches_the_target_at_its_place(tmp_path: Path) -> None:
    paths = []
    for place, colour in enumerate(("red", "green", "blue")):
        paths.append(tmp_path / f"{place}.png")
        Image.new("RGB", (64, 64), colour).save(paths[-1])
    captions = load_grammar(ASSETS).class_names[:3]
    images = ImageSet("x", tuple(paths), captions)
    metric = METRICS["match"](Scoring("cpu", ASSETS, tmp_path / "cache"))
    (own,) = metric.score(Comparison(images, images, tuple(paths)))
    assert (own.value, own.n_generated) == (100, 3)
    (shifted,) = metric.score(Comparison(images, images, (paths[1], paths[2], paths[0])))
    assert shifted.value < 50
    (two,) = metric.score(Comparison(images, images, (paths[0], None, paths[2])))
    assert (two.value, two.n_generated) == (100, 2)
