"""Kernel distances between two sets of features, unbiased at any number of images: KID and CMMD."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.extractors.precision import float64_device
from metrics.features import FeatureExtractor, cached_features, choose_extractor, halves_of, open_extractor
from metrics.intervals import groups_of
from metrics.replicates import MINIMUM_SAMPLES, jackknife_interval

# From `products_NM` x·y and the squares |x|² and |y|² to the kernel of each pair.
Kernel = Callable[[Tensor, Tensor, Tensor], Tensor]
_COLUMNS = 8192


def cubic_kernel(dimension: int) -> Kernel:
    """Return (x·y / D + 1)³, KID's. Source: Bińkowski et al. 2018, "Demystifying MMD GANs"."""
    return lambda products, _, __: (products / dimension + 1) ** 3


def gaussian_kernel(sigma: float) -> Kernel:
    """Return exp(-|x - y|² / 2 sigma²), CMMD's with sigma = 10. Source: Jayasumana et al. 2024, "Rethinking FID"."""
    return lambda products, x_squares_N1, y_squares_M: torch.exp(
        (2 * products - x_squares_N1 - y_squares_M) / (2 * sigma**2)
    )


@dataclass(frozen=True)
class KernelDistanceEstimate:
    """The squared maximum mean discrepancy, with its 95 % interval where there are samples enough for one."""

    value: float
    interval: tuple[float, float] | None
    replicates: dict[str, tuple[float, ...]]


def kernel_distance(
    x_ND: Tensor, y_MD: Tensor, device: str = "cpu", kernel: Kernel | None = None
) -> KernelDistanceEstimate:
    """Return the unbiased squared MMD over all pairs, and not over random subsets; the kernel is KID's unless given.

    The interval is a delete-group jackknife's, each sample in up to 20 groups. Sums are kept by pair of
    groups, so that a replicate costs no further kernel. float64 throughout.

    Raises:
        ValueError: fewer than two samples on a side.
    Source: Gretton et al. 2012, "A kernel two-sample test", lemma 6.
    """
    if min(len(x_ND), len(y_MD)) < 2:
        raise ValueError(f"found {len(x_ND)} images against {len(y_MD)}; the kernel distance needs at least 2 of each")
    kernel = kernel or cubic_kernel(x_ND.shape[1])
    within_x, within_y = _sums_within(x_ND, device, kernel), _sums_within(y_MD, device, kernel)
    between = _sums_by_groups(x_ND, y_MD, device, kernel)
    sizes_x, sizes_y = groups_of(len(x_ND)).bincount(), groups_of(len(y_MD)).bincount()

    value = float(_discrepancy(within_x.sum(), within_y.sum(), between.sum(), sizes_x.sum(), sizes_y.sum()))
    if min(len(x_ND), len(y_MD)) < MINIMUM_SAMPLES:
        return KernelDistanceEstimate(value, None, {})
    without_x = _discrepancy(
        _sums_without(within_x), within_y.sum(), between.sum() - between.sum(1), sizes_x.sum() - sizes_x, sizes_y.sum()
    )
    without_y = _discrepancy(
        within_x.sum(), _sums_without(within_y), between.sum() - between.sum(0), sizes_x.sum(), sizes_y.sum() - sizes_y
    )
    replicates = {"generated": tuple(without_x.tolist()), "reference": tuple(without_y.tolist())}
    return KernelDistanceEstimate(value, jackknife_interval(value, replicates), replicates)


def _sums_by_groups(x_ND: Tensor, y_MD: Tensor, device: str, kernel: Kernel) -> Tensor:
    """Return `sums_GH` of the kernel over all pairs, by the groups that x and y are in; a part of it at a time."""
    groups_x, groups_y = groups_of(len(x_ND)), groups_of(len(y_MD))
    sums_GH = torch.zeros(int(groups_x.max()) + 1, int(groups_y.max()) + 1, dtype=torch.float64)
    for start in range(0, len(y_MD), _COLUMNS):
        some_y = y_MD[start : start + _COLUMNS].to(device, torch.float64)
        squares_M = some_y.square().sum(1)
        theirs = groups_y[start : start + _COLUMNS]
        for group in range(len(sums_GH)):
            some_x = x_ND[groups_x == group].to(device, torch.float64)
            values_NM = kernel(some_x @ some_y.T, some_x.square().sum(1, keepdim=True), squares_M)
            sums_GH[group].index_add_(0, theirs, values_NM.sum(0).cpu())
    return sums_GH


def _sums_within(x_ND: Tensor, device: str, kernel: Kernel) -> Tensor:
    """Return `sums_GG` of the kernel over ordered pairs of distinct samples, by the groups that the two are in."""
    groups = groups_of(len(x_ND))
    with_itself_G = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    for start in range(0, len(x_ND), _COLUMNS):
        squares_N = x_ND[start : start + _COLUMNS].to(device, torch.float64).square().sum(1)
        with_itself_G.index_add_(0, groups[start : start + _COLUMNS], kernel(squares_N, squares_N, squares_N).cpu())
    return _sums_by_groups(x_ND, x_ND, device, kernel) - with_itself_G.diag()


def _sums_without(sums_GG: Tensor) -> Tensor:
    """Return, for each group, the sum over pairs in which it has no part."""
    return sums_GG.sum() - 2 * sums_GG.sum(0) + sums_GG.diagonal()


def _discrepancy(xx: Tensor, yy: Tensor, xy: Tensor, count_x: Tensor, count_y: Tensor) -> Tensor:
    return xx / (count_x * (count_x - 1)) + yy / (count_y * (count_y - 1)) - 2 * xy / (count_x * count_y)


def _scaled(interval: tuple[float, float] | None, scale: float) -> tuple[float, float] | None:
    return interval and (scale * interval[0], scale * interval[1])


class KernelDistance:
    """The metric `kid`: unbiased, so that with few images it is more reliable than the Fréchet distance."""

    key = "kid"
    scale = 1.0

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def extractor(self, reference: ImageSet) -> FeatureExtractor:
        return choose_extractor(reference, self._scoring)

    def kernel(self, dimension: int) -> Kernel:
        return cubic_kernel(dimension)

    def score(self, comparison: Comparison) -> list[Score]:
        generated, reference = comparison.generated, comparison.reference_images()
        if min(len(generated), len(reference)) < 2:
            raise MetricUnavailable(
                f"{len(generated)} generated and {len(reference)} reference images; at least 2 of each are needed"
            )
        extractor, device = self.extractor(reference), float64_device(self._scoring.device)
        reference_ND = cached_features(reference, extractor, self._scoring)
        generated_ND = cached_features(generated, extractor, self._scoring)
        kernel, scale = self.kernel(reference_ND.shape[1]), self.scale
        estimate = kernel_distance(generated_ND, reference_ND, device, kernel)
        halves = halves_of(len(reference), len(generated))
        floor = None
        if halves is not None:
            floor = kernel_distance(reference_ND[halves[0]], reference_ND[halves[1]], device, kernel)
        return [
            Score(
                key=self.key,
                label=extractor.kernel_label,
                short=extractor.kernel_short,
                value=scale * estimate.value,
                better="lower",
                n_generated=len(generated),
                n_reference=len(reference),
                identity=extractor.identity,
                interval=_scaled(estimate.interval, scale),
                replicates={of: tuple(scale * value for value in values) for of, values in estimate.replicates.items()},
                floor=None if floor is None else scale * floor.value,
                floor_interval=None if floor is None else _scaled(floor.interval, scale),
                floor_count=len(halves[0]) if halves else 0,
                decimals=4,
            )
        ]


class CLIPDistance(KernelDistance):
    """The metric `cmmd`: 1000 times the squared MMD of CLIP's embeddings under a Gaussian kernel with sigma = 10."""

    key = "cmmd"
    scale = 1000.0

    def extractor(self, reference: ImageSet) -> FeatureExtractor:  # noqa: ARG002 (any images will do)
        return open_extractor("clip", self._scoring)

    def kernel(self, dimension: int) -> Kernel:  # noqa: ARG002 (it has a scale of its own)
        return gaussian_kernel(10.0)
