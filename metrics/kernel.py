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
    x_ND, y_MD = x_ND.to(device, torch.float64), y_MD.to(device, torch.float64)
    within_x, within_y, between = _sums_within(x_ND), _sums_within(y_MD), _sums_by_groups(x_ND, y_MD)
    sizes_x, sizes_y = _groups(x_ND).bincount().cpu(), _groups(y_MD).bincount().cpu()

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


def _groups(samples: Tensor) -> Tensor:
    """Return the number of each sample's group."""
    return torch.arange(len(samples), device=samples.device) % min(_GROUPS, len(samples))


def _sum_by_group(values_N: Tensor) -> Tensor:
    return values_N.new_zeros(min(_GROUPS, len(values_N))).index_add(0, _groups(values_N), values_N)


def _sums_by_groups(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """Return `sums_GH` of the kernel (x·y / D + 1)³ over all pairs, by the groups that x and y are in."""
    groups_x = _groups(x_ND)
    rows = []
    for group in range(int(groups_x.max()) + 1):  # one group's kernel at a time is held
        kernel = (x_ND[groups_x == group] @ y_MD.T / x_ND.shape[1] + 1) ** 3
        rows.append(_sum_by_group(kernel.sum(0)))
    return torch.stack(rows).cpu()


def _sums_within(x_ND: Tensor) -> Tensor:
    """Return `sums_GG` of the kernel over ordered pairs of distinct samples, by the groups that the two are in."""
    with_itself_N = (x_ND.square().sum(1) / x_ND.shape[1] + 1) ** 3
    return _sums_by_groups(x_ND, x_ND) - _sum_by_group(with_itself_N).cpu().diag()


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
