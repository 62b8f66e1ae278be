"""The Fréchet distance against closed forms, its invariances, and two independent implementations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metrics.frechet import Gaussian, fit_gaussian, frechet_distance, root_of_covariance


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
        Gaussian(mean, root_of_covariance(rotation @ variance.diag() @ rotation.T))
        for mean, variance in zip(means, variances, strict=True)
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
    by_covariance = Gaussian(few.to(torch.float64).mean(0), root_of_covariance(centred.T @ centred / 39))
    form = frechet_distance(by_covariance, fit_gaussian(many))
    assert form == pytest.approx(_distance(few, many), abs=1e-6 * _traces(few, many))


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
    root = fit_gaussian(features).root_RD
    assert torch.allclose(root.T @ root, features.to(torch.float64).T.cov(), rtol=1e-9, atol=1e-9)
