"""The Fréchet distance against closed forms, its invariances, and two independent implementations."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metrics.base import Comparison, ImageSet, Score, Scoring
from metrics.entries import write_entry
from metrics.features import halves_of
from metrics.frechet import (
    Floor,
    FrechetDistance,
    Gaussian,
    fit_gaussian,
    floor_of,
    frechet_distance,
    read_statistics,
    replicates_of,
    root_of_covariance,
    write_statistics,
)
from metrics.intervals import groups_of
from metrics.replicates import jackknife_interval


def _features(count: int, dimension: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=generator) / dimension**0.5
    return (scale * torch.randn(count, dimension, generator=generator) @ mixing + shift).to(torch.float32)


def _distance(one_ND: Tensor, other_MD: Tensor) -> float:
    return frechet_distance(fit_gaussian(one_ND), fit_gaussian(other_MD))


def _traces(*sets: Tensor) -> float:
    return sum(float(features_ND.to(torch.float64).var(dim=0).sum()) for features_ND in sets)


def test_gaussians_with_commuting_covariances_have_the_closed_form() -> None:
    generator = torch.Generator().manual_seed(0)
    rotation, _ = torch.linalg.qr(torch.randn(16, 16, generator=generator, dtype=torch.float64))
    variances = torch.rand(2, 16, generator=generator, dtype=torch.float64)
    means = torch.randn(2, 16, generator=generator, dtype=torch.float64)
    one, other = (
        Gaussian(mean, rotation @ variance.diag() @ rotation.T) for mean, variance in zip(means, variances, strict=True)
    )
    closed = (means[0] - means[1]).square().sum() + (variances[0].sqrt() - variances[1].sqrt()).square().sum()
    assert frechet_distance(one, other) == pytest.approx(float(closed), rel=1e-12)


def test_samples_of_one_dimension_have_the_closed_form() -> None:
    one, other = torch.tensor([[0.0], [2.0], [4.0]]), torch.tensor([[1.0], [2.0]])
    spread = 2.0 - 0.5**0.5
    assert _distance(one, other) == pytest.approx((2.0 - 1.5) ** 2 + spread**2, rel=1e-12)


@pytest.mark.parametrize("count", [20, 64, 300])
def test_a_set_is_at_distance_zero_from_itself(count: int) -> None:
    features = _features(count, 64, 1)
    assert abs(_distance(features, features)) < 1e-9 * _traces(features)


@pytest.mark.parametrize(("count", "other_count"), [(20, 300), (300, 20), (20, 30), (300, 400)])
def test_translation_rotation_and_scaling_laws_and_symmetry(count: int, other_count: int) -> None:
    one, other = _features(count, 64, 1), _features(other_count, 64, 2, 1.3, 0.2)
    distance = _distance(one, other)
    unit = 1e-6 * _traces(one, other)
    assert _distance(other, one) == pytest.approx(distance, abs=1e-9 * _traces(one, other))
    assert _distance(one, one + 0.5) == pytest.approx(64 * 0.25, rel=1e-5)
    rotation, _ = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(3), dtype=torch.float64))
    assert _distance(one.double() @ rotation, other.double() @ rotation) == pytest.approx(distance, abs=unit)
    assert _distance(3 * one, 3 * other) == pytest.approx(9 * distance, abs=9 * unit)


def test_few_samples_and_their_full_covariance_give_one_distance() -> None:
    few, many = _features(40, 64, 1), _features(300, 64, 2)
    centred = few.to(torch.float64) - few.to(torch.float64).mean(0)
    by_covariance = Gaussian(few.to(torch.float64).mean(0), centred.T @ centred / 39)
    assert fit_gaussian(few).covariance_DD is None
    assert fit_gaussian(many).root_ND is None
    forms = [frechet_distance(by_covariance, fit_gaussian(many)), frechet_distance(fit_gaussian(many), by_covariance)]
    forms += [frechet_distance(fit_gaussian(many), fit_gaussian(few))]
    assert forms == pytest.approx([_distance(few, many)] * 3, abs=1e-5 * _traces(few, many))


def test_the_root_of_a_covariance_gives_it_back() -> None:
    covariance_DD = _features(50, 20, 1).double().T.cov()
    root_DD = root_of_covariance(covariance_DD)
    assert torch.allclose(root_DD.T @ root_DD, covariance_DD, atol=1e-12)


@pytest.mark.parametrize(("count", "other_count"), [(40, 300), (300, 500)])
def test_it_agrees_with_torch_fidelity_and_torchmetrics_on_the_same_features(count: int, other_count: int) -> None:
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torchmetrics.image.fid import _compute_fid

    one, other = _features(count, 64, 1).double(), _features(other_count, 64, 2, 1.5, 0.1).double()
    ours = _distance(one, other)
    unit = 1e-5 * _traces(one, other)
    statistics = [fid_features_to_statistics(features) for features in (one, other)]
    assert ours == pytest.approx(fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID], abs=unit)
    theirs = _compute_fid(one.mean(0), one.T.cov(), other.mean(0), other.T.cov())
    assert ours == pytest.approx(float(theirs), abs=unit)


def test_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        fit_gaussian(torch.zeros(1, 4))


def test_many_samples_are_summed_in_chunks_to_the_same_covariance() -> None:
    features = _features(9000, 8, 5, shift=100.0)
    covariance_DD = fit_gaussian(features).covariance_DD
    assert covariance_DD is not None
    assert torch.allclose(covariance_DD, features.to(torch.float64).T.cov(), rtol=1e-9, atol=1e-9)


def _score(folder: Path, one: Tensor, other: Tensor, monkeypatch: pytest.MonkeyPatch) -> Score:
    rows = {"one": one, "other": other}

    class Known:
        identity = distance_label = distance_short = "known"

    monkeypatch.setattr("metrics.frechet.cached_features", lambda images, *_: rows[images.name])
    metric = FrechetDistance(Scoring("cpu", folder, folder))
    monkeypatch.setattr(metric, "extractor", lambda _: Known())
    sets = []
    for name, features in rows.items():
        paths = [folder / f"{name}{i}.png" for i in range(len(features))]
        for path in paths:
            path.write_bytes(path.name.encode())
        sets.append(ImageSet(name, tuple(paths)))
    (score,) = metric.score(Comparison(*sets))
    return score


def test_the_floors_interval_is_the_jackknifes_of_two_parts_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = _features(90, 8, 1)
    found = _score(tmp_path, _features(30, 8, 0), other, monkeypatch)
    halves = halves_of(90, 30)
    assert halves is not None
    parts = [other[half] for half in halves]

    def without(side: int, group: int) -> float:
        kept = [part[groups_of(len(part), 10) != group] if at == side else part for at, part in enumerate(parts)]
        return _distance(*kept)

    replicates = {str(side): [without(side, group) for group in range(10)] for side in (0, 1)}
    expected = jackknife_interval(_distance(*parts), replicates)
    assert found.floor == pytest.approx(_distance(*parts), rel=1e-9)
    assert found.floor_interval == pytest.approx(expected, rel=1e-6)
    assert found.floor_count == 30


def test_a_floor_of_few_images_has_a_value_and_no_interval_and_one_of_none_has_neither() -> None:
    few = floor_of(_features(30, 8, 0), 12)
    assert few.value is not None
    assert (few.interval, few.count) == (None, 12)
    assert floor_of(_features(3, 8, 0), 12) == Floor()


def test_columns_of_as_many_images_share_a_floor_and_others_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"one": _features(30, 8, 0), "two": _features(30, 8, 1), "few": _features(20, 8, 2)}
    real, asked = _features(90, 8, 3), []

    class Known:
        identity = distance_label = distance_short = "known"

    def count(reference_ND: Tensor, size: int, device: str) -> Floor:
        asked.append(size)
        return floor_of(reference_ND, size, device)

    monkeypatch.setattr("metrics.frechet.floor_of", count)
    monkeypatch.setattr("metrics.frechet.cached_features", lambda images, *_: rows.get(images.name, real))
    monkeypatch.setattr("metrics.frechet.cached_gaussian", lambda *_: fit_gaussian(real))
    metric = FrechetDistance(Scoring("cpu", tmp_path, tmp_path))
    monkeypatch.setattr(metric, "extractor", lambda _: Known())
    reference = ImageSet("real", tuple(tmp_path / f"{at}.png" for at in range(90)))
    scores = [
        metric.score(Comparison(ImageSet(name, reference.paths[: len(rows[name])]), reference))[0] for name in rows
    ]
    assert asked == [30, 20]
    assert scores[0].floor == scores[1].floor != scores[2].floor


@pytest.mark.parametrize(("count", "other_count"), [(45, 200), (150, 300)])
def test_replicates_are_the_distances_without_a_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, other_count: int
) -> None:
    one, other = _features(count, 64, 1), _features(other_count, 64, 2, 1.2, 0.1)
    score = _score(tmp_path, one, other, monkeypatch)
    kept, kept_other = groups_of(count, 10) != 4, groups_of(other_count, 10) != 7
    unit = 1e-6 * _traces(one, other)
    assert score.replicates["generated"][4] == pytest.approx(_distance(one[kept], other), abs=unit)
    assert score.replicates["reference"][7] == pytest.approx(_distance(one, other[kept_other]), abs=unit)
    # Another process finds the reference's statistics, and the score is the same.
    assert score.value == pytest.approx(_score(tmp_path, one, other, monkeypatch).value, rel=1e-12)


def test_the_interval_covers_what_the_estimate_is_on_average() -> None:
    """At this N, bias and all: that is what two models' estimates have in common."""
    other = _features(600, 8, 99, 1.2, 0.1)
    real = fit_gaussian(other)

    def sample(seed: int) -> Tensor:
        return torch.randn(100, 8, generator=torch.Generator().manual_seed(seed))

    mean = sum(_distance(sample(seed), other) for seed in range(300)) / 300
    covered = 0
    for seed in range(300, 500):
        mine = fit_gaussian(sample(seed))
        replicates = {
            "generated": replicates_of(sample(seed), mine, lambda without: frechet_distance(real, without)),
            "reference": replicates_of(other, real, lambda without, mine=mine: frechet_distance(mine, without)),
        }
        interval = jackknife_interval(frechet_distance(mine, real), replicates)
        assert interval is not None
        covered += interval[0] < mean < interval[1]
    assert covered >= 0.9 * 200


def test_statistics_are_written_and_read_as_others_do(tmp_path: Path) -> None:
    features = _features(300, 16, 1)
    write_statistics(tmp_path / "mine.npz", features)
    content = np.load(tmp_path / "mine.npz")
    assert np.allclose(content["mu"], features.double().mean(0))
    assert np.allclose(content["sigma"], np.cov(features.double().numpy(), rowvar=False))
    np.savez(tmp_path / "theirs.npz", mu=content["mu"], sigma=content["sigma"].astype(np.float32), other=np.zeros(3))
    read = read_statistics(tmp_path / "theirs.npz", 16)
    assert frechet_distance(read, fit_gaussian(features)) == pytest.approx(0, abs=1e-4 * _traces(features))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"mu": np.zeros(4), "sigma": np.eye(4)}, "statistics of 4 features, and the extractor gives 16"),
        ({"mu": np.zeros(16)}, "expected mu and sigma"),
        ({"mu": np.full(16, np.nan), "sigma": np.eye(16)}, "not finite"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path: Path, content: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "wrong.npz", **content)
    with pytest.raises(ValueError, match=message):
        read_statistics(tmp_path / "wrong.npz", 16)
    with pytest.raises(OSError, match="no file"):
        read_statistics(tmp_path / "nowhere.npz", 16)


def test_a_covariance_with_the_rounding_of_float32_is_taken_and_a_wrong_one_is_not(tmp_path: Path) -> None:
    sigma = np.cov(np.random.default_rng(0).normal(size=(16, 9)))  # of 9 samples: half of its eigenvalues are 0
    np.savez(tmp_path / "rounded.npz", mu=np.zeros(16), sigma=sigma.astype(np.float32))
    read = read_statistics(tmp_path / "rounded.npz", 16)
    assert read.covariance_DD is not None
    assert torch.equal(read.covariance_DD, read.covariance_DD.T)
    first = np.diag([1.0] + [0.0] * 15)
    wrong = {"a negative variance": sigma - 0.01 * first, "not symmetric": sigma + 0.01 * np.roll(first, 1, axis=1)}
    for words, matrix in wrong.items():
        np.savez(tmp_path / "wrong.npz", mu=np.zeros(16), sigma=matrix)
        with pytest.raises(ValueError, match=words):
            read_statistics(tmp_path / "wrong.npz", 16)


@pytest.mark.parametrize("damage", ["flipped", "other shapes", "float32", "not finite"])
def test_damaged_statistics_in_the_cache_are_computed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    one, other = _features(45, 8, 1), _features(100, 8, 2)
    first = _score(tmp_path, one, other, monkeypatch).value
    (entry,) = tmp_path.glob("features/*.statistics")
    if damage == "flipped":
        content = bytearray(entry.read_bytes())
        content[-9] ^= 1
        entry.write_bytes(content)
    else:
        mu, sigma = torch.zeros(8, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
        write_entry(
            entry,
            {
                "other shapes": {"mu": mu[:7], "sigma": sigma},
                "float32": {"mu": mu.float(), "sigma": sigma.float()},
                "not finite": {"mu": mu / 0, "sigma": sigma},
            }[damage],
        )
    assert _score(tmp_path, one, other, monkeypatch).value == pytest.approx(first, rel=1e-12)
    assert f"{entry} is damaged (" in capsys.readouterr().err


def test_statistics_that_cannot_be_written_leave_the_former_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.npz"
    write_statistics(path, _features(30, 4, 1))
    former = path.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"mine\.npz"):
        write_statistics(path, _features(30, 4, 2))
    assert path.read_bytes() == former
    assert list(tmp_path.iterdir()) == [path]


def test_features_of_two_precisions_are_not_compared(tmp_path: Path) -> None:
    features = _features(50, 16, 1)
    one, other = (fit_gaussian(features, identity=f"inception, clean, {dtype}") for dtype in ("fp32", "bf16"))
    with pytest.raises(ValueError, match="two kinds cannot be compared"):
        frechet_distance(one, other)
    write_statistics(tmp_path / "mine.npz", features, one.identity)
    kept = read_statistics(tmp_path / "mine.npz", 16)
    assert frechet_distance(one, kept) == pytest.approx(0, abs=1e-5 * _traces(features))
    with pytest.raises(ValueError, match=r"fp32.* and .*bf16|bf16.* and .*fp32"):
        frechet_distance(other, kept)
