"""Precision, recall, density, coverage against prdc and against replicates written out; memorisation."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from metrics.intervals import groups_of
from metrics.manifold import MOST_IMAGES, ROWS, _at_most, manifold_scores
from metrics.neighbours import nearest_distances
from metrics.replicates import jackknife_interval


def _features(count: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return scale * torch.randn(count, 16, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.mark.parametrize(
    ("real", "made"), [((300, 1), (200, 2)), ((120, 3), (700, 4, 0.7, 0.2)), ((600, 5), (600, 6, 1.3))]
)
def test_the_four_values_are_prdcs(real: tuple[float, ...], made: tuple[float, ...]) -> None:
    from prdc import compute_prdc

    real_ND, made_ND = _features(*real), _features(*made)  # type: ignore[arg-type]
    theirs = compute_prdc(real_ND.double().numpy(), made_ND.double().numpy(), nearest_k=5)
    ours = manifold_scores(real_ND, made_ND).values
    assert set(ours) == set(ROWS)
    for key, value in ours.items():
        assert value == pytest.approx(float(theirs[key]), abs=1e-12), key


def test_a_replicate_is_the_score_without_that_group() -> None:
    real_ND, made_ND = _features(90, 1), _features(70, 2, 0.8)
    replicates = manifold_scores(real_ND, made_ND).replicates
    for group in (0, 3, 9):
        kept = groups_of(90, 10) != group
        expected = manifold_scores(real_ND[kept], made_ND).values
        kept_made = groups_of(70, 10) != group
        other = manifold_scores(real_ND, made_ND[kept_made]).values
        for key in ROWS:
            assert replicates[key]["reference"][group] == pytest.approx(expected[key]), key
            assert replicates[key]["generated"][group] == pytest.approx(other[key]), key


def test_few_images_have_a_value_and_no_replicates() -> None:
    estimate = manifold_scores(_features(8, 1), _features(7, 2))
    assert estimate.replicates["precision"] == {}
    with pytest.raises(ValueError, match="at least 6"):
        manifold_scores(_features(8, 1), _features(5, 2))


def test_each_value_moves_where_it_must() -> None:
    real = torch.cat([_features(300, 1), _features(300, 2, shift=6)])
    one_mode, too_wide = _features(600, 3), torch.cat([_features(300, 4, 2.5), _features(300, 5, 2.5, 6)])
    whole = torch.cat([_features(300, 6), _features(300, 7, shift=6)])
    as_real, dropped, wide = (manifold_scores(real, made).values for made in (whole, one_mode, too_wide))
    assert dropped["recall"] < as_real["recall"] - 0.3
    assert dropped["coverage"] < as_real["coverage"] - 0.3
    assert dropped["precision"] > as_real["precision"] - 0.05
    assert wide["precision"] < as_real["precision"] - 0.3
    assert wide["density"] < as_real["density"] - 0.3


def test_of_very_many_images_as_many_are_drawn() -> None:
    assert len(_at_most(torch.zeros(MOST_IMAGES + 5, 1))) == MOST_IMAGES
    assert torch.equal(_at_most(torch.arange(7.0)), torch.arange(7.0))


def test_nearest_distances_are_those_of_all_pairs() -> None:
    x, y = _features(30, 1).double(), _features(40, 2).double()
    assert torch.allclose(nearest_distances(x, y), torch.cdist(x, y).square().amin(dim=1))


def test_copies_of_training_images_are_told_from_new_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from metrics import METRICS
    from metrics.base import Comparison, ImageSet, MetricUnavailable, Scoring

    rows = {
        "training": _features(400, 1), "held out": _features(400, 2),
        "copies": _features(400, 1)[:50] + 0.01, "new": _features(200, 4),
    }  # fmt: skip

    class Known:
        identity = "known"

    monkeypatch.setattr("metrics.memorisation.choose_extractor", lambda *_: Known())
    monkeypatch.setattr("metrics.memorisation.cached_features", lambda images, *_: rows[images.name])

    def images(name: str) -> ImageSet:
        return ImageSet(name, (Path(name),) * len(rows[name]))

    metric = METRICS["memorisation"](Scoring("cpu", tmp_path, tmp_path))
    (copied,) = metric.score(Comparison(images("copies"), images("held out"), training=images("training")))
    (fresh,) = metric.score(Comparison(images("new"), images("held out"), training=images("training")))
    assert copied.value == 100
    assert fresh.value < 4
    assert fresh.interval is not None
    assert fresh.interval[0] < 1 < fresh.interval[1]
    with pytest.raises(MetricUnavailable, match="no training images are known"):
        metric.score(Comparison(images("new"), images("held out")))


def test_intervals_cover_what_the_estimates_are_on_average() -> None:
    estimates = [manifold_scores(_features(150, 2 * i), _features(100, 2 * i + 1, 1.2, 0.2)) for i in range(200)]
    for key in ROWS:
        mean = sum(estimate.values[key] for estimate in estimates) / len(estimates)
        intervals = [jackknife_interval(mine.values[key], mine.replicates[key]) for mine in estimates]
        covered = sum(interval is not None and interval[0] < mean < interval[1] for interval in intervals)
        assert covered >= 0.9 * len(estimates), key
