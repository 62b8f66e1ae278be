"""Precision, recall, density and coverage: whether images lie among the real ones, and the real ones among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.extractors.precision import float64_device
from metrics.features import cached_features, choose_extractor, halves_of
from metrics.intervals import groups_of
from metrics.neighbours import MOST_IMAGES, squared_distances, squared_distances_to_others
from metrics.replicates import jackknife_interval

NEIGHBOURS = 5
GROUPS = 10
# So many nearest are kept that five of them are left without one group of ten; else the farthest kept one stands in.
_NEAREST_KEPT = 40
ROWS = {
    "precision": ("Precision (higher = better)", "Precision"),
    "recall": ("Recall (higher = better)", "Recall"),
    "density": ("Density (higher = better)", "Density"),
    "coverage": ("Coverage (higher = better)", "Coverage"),
}


@dataclass(frozen=True)
class ManifoldEstimate:
    """The four values, and those without each group of either side."""

    values: dict[str, float]
    replicates: dict[str, dict[str, tuple[float, ...]]]


def manifold_scores(
    real_ND: Tensor, generated_MD: Tensor, device: str = "cpu", k: int = NEIGHBOURS
) -> ManifoldEstimate:
    """Return precision, recall, density and coverage; an image's ball reaches to its k-th nearest of its own kind.

    Replicates leave one of ten groups of one side out. float64; distances are made a few rows at a time.

    Raises:
        ValueError: a side has no more than k images.
    Source: Kynkäänniemi et al. 2019, "Improved precision and recall metric"; Naeem et al. 2020, "Reliable fidelity and
    diversity metrics for generative models", equations 3 to 6.
    """
    if min(len(real_ND), len(generated_MD)) <= k:
        raise ValueError(
            f"found {len(generated_MD)} images against {len(real_ND)}; {k} neighbours need at least {k + 1}"
        )
    real, made = real_ND.to(device, torch.float64), generated_MD.to(device, torch.float64)
    groups_real, groups_made = (groups_of(len(side), GROUPS).to(device) for side in (real, made))
    radii_real, radii_made = _radii(real, groups_real, k), _radii(made, groups_made, k)
    variants = _Variants(len(real), len(made), groups_real, groups_made)
    for start, squared_nM in squared_distances(real, made):
        rows = slice(start, start + len(squared_nM))
        for number in range(variants.count):
            keep_n, keep_M = variants.real[number, rows], variants.made[number]
            # Radii of a side are those without the group that this variant leaves out of it.
            radius_n = radii_real[variants.group_real[number], rows]
            radius_M = radii_made[variants.group_made[number]]
            in_real = (squared_nM < radius_n[:, None]) & keep_n[:, None]
            variants.hits[number] += in_real.sum(dim=0)
            among_made = (squared_nM < radius_M[None, :]) & keep_M[None, :]
            variants.recalled[number] += (among_made.any(dim=1) & keep_n).sum()
            covered = (squared_nM.masked_fill(~keep_M[None, :], torch.inf).amin(dim=1) < radius_n) & keep_n
            variants.covered[number] += covered.sum()
    return variants.estimate(k)


class _Variants:
    """Counts for all images (0), without each group of the real ones (1..G), and of the generated ones (G+1..2G)."""

    def __init__(self, reals: int, mades: int, groups_real: Tensor, groups_made: Tensor) -> None:
        device = groups_real.device
        real_groups, made_groups = int(groups_real.max()) + 1, int(groups_made.max()) + 1
        enough = min(reals, mades) > 2 * GROUPS
        self.split = (real_groups, made_groups) if enough else (0, 0)
        self.count = 1 + sum(self.split)
        self.real = torch.ones(self.count, reals, dtype=torch.bool, device=device)
        self.made = torch.ones(self.count, mades, dtype=torch.bool, device=device)
        self.group_real, self.group_made = [0] * self.count, [0] * self.count
        for group in range(self.split[0]):
            self.real[1 + group] = groups_real != group
            self.group_real[1 + group] = 1 + group
        for group in range(self.split[1]):
            number = 1 + self.split[0] + group
            self.made[number] = groups_made != group
            self.group_made[number] = 1 + group
        self.hits = torch.zeros(self.count, mades, dtype=torch.int64, device=device)
        self.recalled = torch.zeros(self.count, dtype=torch.int64, device=device)
        self.covered = torch.zeros(self.count, dtype=torch.int64, device=device)

    def estimate(self, k: int) -> ManifoldEstimate:
        reals, mades = self.real.sum(dim=1).double(), self.made.sum(dim=1).double()
        hits = self.hits * self.made
        all_of = {
            "precision": ((hits > 0).sum(dim=1) / mades).tolist(),
            "recall": (self.recalled / reals).tolist(),
            "density": (hits.sum(dim=1) / (k * mades)).tolist(),
            "coverage": (self.covered / reals).tolist(),
        }
        first = 1 + self.split[0]
        replicates = {
            key: {"reference": tuple(values[1:first]), "generated": tuple(values[first:])} if first > 1 else {}
            for key, values in all_of.items()
        }
        return ManifoldEstimate({key: values[0] for key, values in all_of.items()}, replicates)


def _radii(x_ND: Tensor, groups_N: Tensor, k: int) -> Tensor:
    """Return `radii_GN`: squared distances to the k-th nearest other, first among all, then without each group."""
    count = len(x_ND)
    kept = min(_NEAREST_KEPT, count - 1)
    groups = int(groups_N.max()) + 1
    radii_GN = torch.empty(1 + groups, count, dtype=x_ND.dtype, device=x_ND.device)
    for start, squared_nN in squared_distances_to_others(x_ND):
        near = squared_nN.topk(kept, dim=1, largest=False)
        theirs = groups_N[near.indices]
        for number in range(1 + groups):
            present = torch.ones_like(theirs, dtype=torch.bool) if number == 0 else theirs != number - 1
            place = (present.cumsum(dim=1) < k).sum(dim=1, keepdim=True).clamp(max=kept - 1)
            radii_GN[number, start : start + len(squared_nN)] = near.values.gather(1, place)[:, 0]
    return radii_GN


class Manifold:
    """The metric `prdc`: four rows, five neighbours, over the features that `choose_extractor` finds.

    The reference leaves out the images that the floor is made of, which are as many as were generated.
    """

    key = "prdc"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        generated, reference = comparison.generated, comparison.reference_images()
        if min(len(generated), len(reference)) <= NEIGHBOURS:
            raise MetricUnavailable(
                f"{len(generated)} generated and {len(reference)} reference images; {NEIGHBOURS} neighbours need at "
                f"least {NEIGHBOURS + 1} of each"
            )
        extractor, device = choose_extractor(reference, self._scoring), float64_device(self._scoring.device)
        real_ND = _at_most(cached_features(reference, extractor, self._scoring))
        made_MD = _at_most(cached_features(generated, extractor, self._scoring))
        # These values depend on how many real images there are, so that generated and real ones meet the same ones.
        halves = halves_of(len(real_ND), len(made_MD))
        floors: ManifoldEstimate | None = None
        if halves is not None and min(map(len, halves)) > NEIGHBOURS:
            held_out_ND, real_ND = real_ND[halves[0]], real_ND[halves[1]]
            floors = manifold_scores(real_ND, held_out_ND, device)
        estimate = manifold_scores(real_ND, made_MD, device)
        return [
            Score(
                key=key,
                label=label,
                short=short,
                value=estimate.values[key],
                better="higher",
                n_generated=len(made_MD),
                n_reference=len(real_ND),
                identity=f"{extractor.identity}, {NEIGHBOURS} neighbours",
                interval=_interval(key, estimate),
                replicates=estimate.replicates[key],
                floor=None if floors is None else floors.values[key],
                floor_count=len(halves[0]) if halves and floors else 0,
                floor_interval=None if floors is None else _interval(key, floors),
                decimals=3,
            )
            for key, (label, short) in ROWS.items()
        ]


def _interval(key: str, estimate: ManifoldEstimate) -> tuple[float, float] | None:
    """Return the jackknife's interval, cut off where a share ends."""
    interval = jackknife_interval(estimate.values[key], estimate.replicates[key])
    if interval is None or key == "density":
        return interval
    return max(interval[0], 0.0), min(interval[1], 1.0)


def _at_most(features_ND: Tensor) -> Tensor:
    if len(features_ND) <= MOST_IMAGES:
        return features_ND
    order = torch.randperm(len(features_ND), generator=torch.Generator().manual_seed(0))
    return features_ND[order[:MOST_IMAGES]]
