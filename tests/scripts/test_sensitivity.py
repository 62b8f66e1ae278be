"""The metrics see what they must: robots spoiled in seven ways, against other robots."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.data.preparation import prepare_reference
from benchmark.data.sources import open_dataset
from metrics import METRICS
from metrics.base import Comparison, ImageSet, Score, Scoring
from scripts.measuring.measure_sensitivity import SPOILED, make_sets

ROOT = Path(__file__).parents[2]
COUNT, REFERENCES = 384, 1000
HALF, COPIES = "half of the classes missing", "each of 48 images 8 times"


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, ImageSet], ImageSet, Scoring]:
    folder = tmp_path_factory.mktemp("robots")
    dataset = open_dataset("robots", assets=ROOT / "assets", seed=42)
    prepared = prepare_reference(dataset, folder, REFERENCES + 3 * COUNT)
    (folder / "spoiled").mkdir()
    made = make_sets(prepared.rows[REFERENCES:], COUNT, folder / "spoiled")
    return made, prepared.images(REFERENCES), Scoring("cpu", ROOT / "assets", folder / "cache")


@pytest.fixture(scope="module")
def scores(sets: tuple[dict[str, ImageSet], ImageSet, Scoring]) -> dict[str, dict[str, Score]]:
    made, reference, scoring = sets
    return {
        name: {
            s.key: s
            for key in ("fid", "kid", "prdc")
            for s in METRICS[key](scoring).score(Comparison(images, reference))
        }
        for name, images in made.items()
    }


def test_real_robots_score_the_floor(scores: dict[str, dict[str, Score]]) -> None:
    for key, score in scores["real"].items():
        assert score.floor is not None
        assert score.interval is not None
        low, high = score.interval
        assert low <= score.floor <= high or abs(score.value - score.floor) < 0.05 * abs(score.floor), key


@pytest.mark.parametrize("name", [*SPOILED, HALF, COPIES])
def test_each_spoiled_set_is_farther_from_the_real_ones(scores: dict[str, dict[str, Score]], name: str) -> None:
    assert scores[name]["fid"].value > scores["real"]["fid"].value
    assert scores[name]["kid"].value > scores["real"]["kid"].value


def test_what_is_missing_lowers_recall_and_coverage(scores: dict[str, dict[str, Score]]) -> None:
    for name in (HALF, COPIES):
        for key in ("recall", "coverage"):
            assert scores[name][key].value < scores["real"][key].value, (name, key)
        assert scores[name]["precision"].value > scores["real"]["precision"].value - 0.02
    assert scores[COPIES]["recall"].value < 0.1


def test_spoiled_images_lower_recall(scores: dict[str, dict[str, Score]]) -> None:
    """Precision need not fall: the network is sure of the parts that it still sees."""
    for name in SPOILED:
        assert scores[name]["recall"].value < scores["real"]["recall"].value, name
