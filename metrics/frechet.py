"""The Fréchet distance between two sets of features, each taken for a Gaussian: FID over Inception's features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.features import cached_features, choose_extractor, split_reference
from metrics.precision import float64_device

_CHUNK = 4096


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of a feature set, float64; the covariance as root_RDᵀ root_RD with R <= max(N, D)."""

    mean_D: Tensor
    root_RD: Tensor


def fit_gaussian(features_ND: Tensor, device: str = "cpu") -> Gaussian:
    """Return the Gaussian with the features' mean and unbiased covariance (divisor N - 1).

    Raises:
        ValueError: fewer than two samples, which have no covariance.
    """
    count, dimension = features_ND.shape
    if count < 2:
        raise ValueError(f"found {count} images; a covariance needs at least 2")
    mean_D = torch.zeros(dimension, dtype=torch.float64, device=device)
    for chunk in _chunks(features_ND):
        mean_D += chunk.to(device, torch.float64).sum(dim=0) / count
    if count <= dimension:
        return Gaussian(mean_D, (features_ND.to(device, torch.float64) - mean_D) / math.sqrt(count - 1))
    covariance_DD = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for chunk in _chunks(features_ND):
        centred = chunk.to(device, torch.float64) - mean_D
        covariance_DD.addmm_(centred.T, centred, alpha=1 / (count - 1))
    return Gaussian(mean_D, root_of_covariance(covariance_DD))


def _chunks(features_ND: Tensor) -> Iterator[Tensor]:
    """Yield the rows a few at a time: only these are held in float64."""
    for start in range(0, len(features_ND), _CHUNK):
        yield features_ND[start : start + _CHUNK]


def root_of_covariance(covariance_DD: Tensor) -> Tensor:
    """Return `root_DD` with root_DDᵀ root_DD = covariance_DD; eigenvalues that rounding made negative count as 0."""
    eigenvalues_D, eigenvectors_DD = torch.linalg.eigh(covariance_DD)
    root_DD: Tensor = eigenvalues_D.clamp(min=0).sqrt()[:, None] * eigenvectors_DD.T
    return root_DD


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^½, the squared distance, in float64.

    With S = Rᵀ R the eigenvalues of S1 S2 are the squares of the singular values of R1 R2ᵀ, so that nothing is squared
    and then rooted, and few samples make a small matrix.

    Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    between_means = (one.mean_D - other.mean_D).square().sum()
    traces = one.root_RD.square().sum() + other.root_RD.square().sum()
    cross = torch.linalg.svdvals(one.root_RD @ other.root_RD.T).sum()
    return float(between_means + traces - 2 * cross)


class FrechetDistance:
    """The metric `fid`: no interval, since its bias at small N is larger than the spread that resampling would show."""

    key = "fid"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        generated, reference = comparison.generated, comparison.reference
        if min(len(generated), len(reference)) < 2:
            raise MetricUnavailable(f"{len(generated)} images against {len(reference)}; a covariance needs at least 2")
        extractor = choose_extractor(reference, self._scoring)
        reference_ND = cached_features(reference, extractor, self._scoring)
        generated_ND = cached_features(generated, extractor, self._scoring)
        device = float64_device(self._scoring.device)
        halves = split_reference(reference_ND, len(generated))
        return [
            Score(
                key=self.key,
                label=extractor.distance_label,
                short=extractor.distance_short,
                value=frechet_distance(fit_gaussian(generated_ND, device), fit_gaussian(reference_ND, device)),
                better="lower",
                n_generated=len(generated),
                n_reference=len(reference),
                identity=extractor.identity,
                baseline=halves and frechet_distance(fit_gaussian(halves[0], device), fit_gaussian(halves[1], device)),
            )
        ]
