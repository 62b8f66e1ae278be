"""Robots: rows are fixed, distinct, of held-out pairs, and drawn as their captions say."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.sources.robots import Robots, draw_robot, load_art
from metrics.robots.grammar import asked_attributes, load_grammar

ASSETS = Path(__file__).resolve().parents[3] / "assets"


def test_a_row_depends_on_seed_and_number_alone() -> None:
    robots = Robots(ASSETS, seed=3)
    late = next(robots.examples(start=7))
    first = list(itertools.islice(robots.examples(), 8))
    assert late.caption == first[7].caption
    assert np.array_equal(np.asarray(late.image), np.asarray(first[7].image))
    assert [Robots(ASSETS, seed=4).attributes(row) for row in range(8)] != [robots.attributes(row) for row in range(8)]


def test_no_robot_comes_twice() -> None:
    robots = Robots(ASSETS, seed=0)
    assert len({robots.attributes(row) for row in range(20_000)}) == 20_000
    assert len(robots) == 4_000_000


def test_rows_hold_held_out_pairs_alone_and_every_option_equally() -> None:
    robots = Robots(ASSETS, seed=0)
    grammar = load_grammar(ASSETS)
    rows = np.array([robots.attributes(row) for row in range(10_000)])
    assert all(grammar.is_held_out(row) for row in rows.tolist())
    for part, size in enumerate(grammar.sizes):
        counts = np.bincount(rows[:, part], minlength=size)
        expected = len(rows) / size
        # 5 standard deviations of a binomial count
        assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_caption_label_and_image_agree() -> None:
    robots = Robots(ASSETS, seed=1)
    for row in range(20):
        example = robots.example(row)
        attributes = robots.attributes(row)
        named = asked_attributes(example.caption, ASSETS)
        assert example.label == 10 * named["colour"] + named["head"]
        assert np.array_equal(np.asarray(draw_robot(example.caption, ASSETS)), np.asarray(example.image))
        assert example.caption.startswith(robots.label_names[example.label])
        assert attributes[0] == named["colour"]


def test_identity_names_seed_and_parts() -> None:
    assert Robots(ASSETS, seed=5).identity.startswith("robots seed=5 parts=")
    assert len(Robots(ASSETS).label_names) == 100


def test_a_caption_without_every_part_has_no_exact_image() -> None:
    with pytest.raises(ValueError, match="names no body, eyes"):
        draw_robot("a blue robot with a box head", ASSETS)


def test_images_are_64_px_rgb() -> None:
    image = load_art(ASSETS).draw((0, 1, 2, 3, 4, 5, 6))
    assert image.size == (64, 64)
    assert image.mode == "RGB"
