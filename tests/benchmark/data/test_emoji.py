"""Emoji: rows in a fixed order, split by concept, images where the index says."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np

from benchmark.data.decoding import content_digest
from benchmark.data.preparation import prepare_rows
from benchmark.data.sources.emoji import STYLES, Emoji

ASSETS = Path(__file__).resolve().parents[3] / "assets"


def test_rows_do_not_depend_on_where_reading_starts() -> None:
    emoji = Emoji(ASSETS)
    first = list(itertools.islice(emoji.examples(), 6))
    late = next(Emoji(ASSETS).examples(start=5))
    assert late.caption == first[5].caption
    assert np.array_equal(np.asarray(late.image), np.asarray(first[5].image))


def test_there_are_about_4200_images_in_three_styles() -> None:
    emoji = Emoji(ASSETS)
    captions = [emoji.caption(row) for row in range(len(emoji))]
    assert 4000 < len(emoji) < 4600
    assert {caption.rsplit(", ", 1)[1] for caption in captions} == {f"{style} style" for style in STYLES}
    assert "hedgehog, twemoji style" in captions


def test_a_concept_is_in_one_split_in_all_its_styles() -> None:
    emoji = Emoji(ASSETS)
    splits = defaultdict(set)
    for row in range(len(emoji)):
        splits[emoji.caption(row).rsplit(", ", 1)[0]].add(emoji.split(row))
    # Two concepts may share a name, never a split of one.
    assert sum(len(found) > 1 for found in splits.values()) <= 5
    share = np.mean([emoji.split(row) == "test" for row in range(len(emoji))])
    assert 0.07 < share < 0.13


def test_every_image_is_there() -> None:
    for example in Emoji(ASSETS).examples():
        assert example.image is not None
        assert example.image.size == (64, 64)
        assert example.label is not None


def test_the_reference_splits_by_concept_as_the_set_says(tmp_path: Path) -> None:
    emoji = Emoji(ASSETS)
    reference = prepare_rows(emoji, tmp_path, 300)
    assert [row.split for row in reference.rows] == [emoji.split(row) for row in range(300)]
    assert {row.split for row in reference.rows} == {"train", "test"}
    assert "split by concept" in reference.identity


def test_no_image_comes_twice_so_that_none_is_in_two_concepts_splits() -> None:
    emoji = Emoji(ASSETS)
    assert len({content_digest(emoji.image(row)) for row in range(len(emoji))}) == len(emoji)
