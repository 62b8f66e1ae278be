"""The kernel distance between two sets of features, unbiased at any number of images: KID over Inception's features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.features import cached_features, choose_extractor, split_reference
from metrics.intervals import MINIMUM_SAMPLES, jackknife_interval
from metrics.precision import float64_device

_GROUPS = 20


@dataclass(frozen=True)
class KernelDistanceEstimate:
    """The squared maximum mean discrepancy, with its 95 % interval where there are samples enough for one."""

    value: float
    interval: tuple[float, float] | None


def kernel_distance(x_ND: Tensor, y_MD: Tensor, device: str = "cpu") -> KernelDistanceEstimate:
    """Return the unbiased squared MMD under the kernel (x·y / D + 1)³, over all pairs and not over random subsets.

    The interval is a delete-group jackknife's, each sample in up to 20 interleaved groups (a folder may be sorted).
    Sums are kept by pair of groups, so that a replicate costs no further kernel. float64 throughout.

    Raises:
        ValueError: fewer than two samples on a side.
    Source: Bińkowski et al. 2018, "Demystifying MMD GANs", equation 4; Gretton et al. 2012, lemma 6.
    """
    if min(len(x_ND), len(y_MD)) < 2:
        raise ValueError(f"found {len(x_ND)} images against {len(y_MD)}; the kernel distance needs at least 2 of each")
    xs, ys = _interleave(x_ND, device), _interleave(y_MD, device)
    within_x, within_y = _within_sums(xs), _within_sums(ys)
    between = torch.tensor([[float(_kernel(x, y).sum()) for y in ys] for x in xs], dtype=torch.float64)
    sizes_x, sizes_y = (torch.tensor([len(group) for group in groups], dtype=torch.float64) for groups in (xs, ys))

    value = float(_discrepancy(within_x.sum(), within_y.sum(), between.sum(), sizes_x.sum(), sizes_y.sum()))
    if min(len(x_ND), len(y_MD)) < MINIMUM_SAMPLES:
        return KernelDistanceEstimate(value, None)
    without_x = _discrepancy(
        _sums_without(within_x), within_y.sum(), between.sum() - between.sum(1), sizes_x.sum() - sizes_x, sizes_y.sum()
    )
    without_y = _discrepancy(
        within_x.sum(), _sums_without(within_y), between.sum() - between.sum(0), sizes_x.sum(), sizes_y.sum() - sizes_y
    )
    return KernelDistanceEstimate(value, jackknife_interval(value, (without_x, without_y)))


def _interleave(features_ND: Tensor, device: str) -> list[Tensor]:
    features_ND = features_ND.to(device, torch.float64)
    groups = min(_GROUPS, len(features_ND))
    return [features_ND[start::groups] for start in range(groups)]


def _kernel(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    return (x_ND @ y_MD.T / x_ND.shape[1] + 1) ** 3


def _within_sums(groups: list[Tensor]) -> Tensor:
    """Return `sums_GG` of the kernel over ordered pairs of distinct samples, by the groups that the two are in."""
    sums_GG = torch.zeros(len(groups), len(groups), dtype=torch.float64)
    for i, one in enumerate(groups):
        for j in range(i + 1):
            kernel = _kernel(one, groups[j])
            sums_GG[i, j] = sums_GG[j, i] = float(kernel.sum() - kernel.trace() if i == j else kernel.sum())
    return sums_GG


def _sums_without(sums_GG: Tensor) -> Tensor:
    """Return, for each group, the sum over pairs in which it has no part."""
    return sums_GG.sum() - 2 * sums_GG.sum(0) + sums_GG.diagonal()


def _discrepancy(xx: Tensor, yy: Tensor, xy: Tensor, count_x: Tensor, count_y: Tensor) -> Tensor:
    return xx / (count_x * (count_x - 1)) + yy / (count_y * (count_y - 1)) - 2 * xy / (count_x * count_y)


class KernelDistance:
    """The metric `kid`: with few images it is to be believed before the Fréchet distance, whose bias it has not."""

    key = "kid"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        generated, reference = comparison.generated, comparison.reference
        if min(len(generated), len(reference)) < 2:
            raise MetricUnavailable(f"{len(generated)} images against {len(reference)}; pairs need at least 2 of each")
        extractor = choose_extractor(reference, self._scoring)
        reference_ND = cached_features(reference, extractor, self._scoring)
        generated_ND = cached_features(generated, extractor, self._scoring)
        device = float64_device(self._scoring.device)
        estimate = kernel_distance(generated_ND, reference_ND, device)
        halves = split_reference(reference_ND, len(generated))
        return [
            Score(
                key=self.key,
                label=extractor.kernel_label,
                short=extractor.kernel_short,
                value=estimate.value,
                better="lower",
                n_generated=len(generated),
                n_reference=len(reference),
                identity=extractor.identity,
                interval=estimate.interval,
                baseline=halves and kernel_distance(*halves, device).value,
                decimals=4,
            )
        ]
