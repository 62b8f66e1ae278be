"""The Fréchet distance between two sets of features, each taken for a Gaussian: FID over Inception's features."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from files.opening import array_shapes, load_arrays
from files.writing import write_atomically
from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.entries import entry_of, read_entry, write_entry
from metrics.extractors.precision import float64_device
from metrics.features import FeatureExtractor, cached_features, choose_extractor, halves_of, open_extractor
from metrics.inputs import read_features
from metrics.intervals import groups_of
from metrics.replicates import jackknife_interval

FID_DIMENSION = 2048
_CHUNK = 4096
# A replicate costs a decomposition, so that there are fewer than of the metrics whose sums are kept.
GROUPS = 10
LEAST_IN_GROUPS = 2 * GROUPS
# As a share of the largest entry or eigenvalue: others keep their statistics in float32.
MOST_ROUNDING = 1e-4


@dataclass(frozen=True)
class Gaussian:
    """Mean and covariance of a feature set, float64; of N <= D samples the covariance is root_NDᵀ root_ND.

    identity: of the extractor, where it is known.
    """

    mean_D: Tensor
    covariance_DD: Tensor | None = None
    root_ND: Tensor | None = None
    identity: str = ""

    @cached_property
    def root_RD(self) -> Tensor:
        """A matrix whose product with itself, transposed first, is the covariance; made once."""
        if self.root_ND is not None:
            return self.root_ND
        assert self.covariance_DD is not None
        return root_of_covariance(self.covariance_DD)

    @property
    def trace(self) -> Tensor:
        if self.root_ND is not None:
            return self.root_ND.square().sum()
        assert self.covariance_DD is not None
        return self.covariance_DD.diagonal().sum()


def fit_gaussian(features_ND: Tensor, device: str = "cpu", identity: str = "") -> Gaussian:
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
        root_ND = (features_ND.to(device, torch.float64) - mean_D) / math.sqrt(count - 1)
        return Gaussian(mean_D, root_ND=root_ND, identity=identity)
    covariance_DD = torch.zeros(dimension, dimension, dtype=torch.float64, device=device)
    for chunk in _chunks(features_ND):
        centred = chunk.to(device, torch.float64) - mean_D
        covariance_DD.addmm_(centred.T, centred, alpha=1 / (count - 1))
    return Gaussian(mean_D, covariance_DD, identity=identity)


def _chunks(features_ND: Tensor) -> Iterator[Tensor]:
    """Yield the rows a few at a time: only these are held in float64."""
    for start in range(0, len(features_ND), _CHUNK):
        yield features_ND[start : start + _CHUNK]


def frechet_distance(one: Gaussian, other: Gaussian) -> float:
    """Return |m1 - m2|² + tr S1 + tr S2 - 2 tr (S1 S2)^½, the squared distance, in float64.

    The last trace is the sum of the roots of the eigenvalues of S1 S2, found by shape. Both of few samples, S = Xᵀ X:
    singular values of X1 X2ᵀ. One of few: the eigenvalues of X1 S2 X1ᵀ, as small as the samples are few. Both of many:
    those of the symmetric R S2 Rᵀ with Rᵀ R = S1, whose R `one` keeps: what is compared with many stands first.

    Raises:
        ValueError: the features are of two extractors, protocols or precisions.
    Source: Dowson and Landau 1982, "The Fréchet distance between multivariate normal distributions".
    """
    if one.identity and other.identity and one.identity != other.identity:
        raise ValueError(f"features of two kinds cannot be compared: [{one.identity}] and [{other.identity}]")
    between_means = (one.mean_D - other.mean_D).square().sum()
    return float(between_means + one.trace + other.trace - 2 * _trace_of_root(one, other))


def _trace_of_root(one: Gaussian, other: Gaussian) -> Tensor:
    if one.root_ND is not None and other.root_ND is not None:
        singular_values: Tensor = torch.linalg.svdvals(one.root_ND @ other.root_ND.T)
        return singular_values.sum()
    if one.root_ND is None and other.root_ND is not None:
        one, other = other, one
    assert other.covariance_DD is not None
    product = one.root_RD @ other.covariance_DD @ one.root_RD.T
    eigenvalues: Tensor = torch.linalg.eigvalsh((product + product.T) / 2)
    return eigenvalues.clamp(min=0).sqrt().sum()


def root_of_covariance(covariance_DD: Tensor) -> Tensor:
    """Return `root_DD` with root_DDᵀ root_DD = covariance_DD; eigenvalues that rounding made negative count as 0."""
    eigenvalues_D, eigenvectors_DD = torch.linalg.eigh(covariance_DD)
    root_DD: Tensor = eigenvalues_D.clamp(min=0).sqrt()[:, None] * eigenvectors_DD.T
    return root_DD


def cached_gaussian(images: ImageSet, extractor: FeatureExtractor, scoring: Scoring) -> Gaussian:
    """Return the Gaussian of a set, from the cache where this extractor has seen the same images before."""
    entry = entry_of(images, extractor.identity, scoring, "statistics")
    device = float64_device(scoring.device)
    if (kept := read_entry(entry, check_statistics)) is not None:
        return Gaussian(kept["mu"].to(device), kept["sigma"].to(device), identity=extractor.identity)
    gaussian = fit_gaussian(cached_features(images, extractor, scoring), device, extractor.identity)
    if gaussian.covariance_DD is not None:
        write_entry(entry, {"mu": gaussian.mean_D, "sigma": gaussian.covariance_DD})
    return gaussian


def check_statistics(tensors: Mapping[str, Tensor]) -> None:
    """Raise ValueError where an entry of the cache holds no mean with its covariance."""
    mu_D, sigma_DD = tensors["mu"], tensors["sigma"]
    if mu_D.dim() != 1 or sigma_DD.shape != (len(mu_D), len(mu_D)):
        raise ValueError(f"mu of {tuple(mu_D.shape)} with sigma of {tuple(sigma_DD.shape)}")
    if not all(tensor.dtype == torch.float64 and tensor.isfinite().all() for tensor in (mu_D, sigma_DD)):
        raise ValueError("numbers that are not float64, or not finite")


def read_statistics(path: Path, dimension: int, device: str = "cpu", extractor: str = "the extractor") -> Gaussian:
    """Read `mu` and `sigma` from an .npz file, as clean-fid, pytorch-fid and the ADM evaluator write them.

    Of an .npy file with features, (N, D), they are computed.

    Files of ours also hold the identity of their extractor. extractor: the name of the one that gives `dimension`
    features, for the error.

    Raises:
        OSError: there is no such file.
        ValueError: it holds something else, features of another dimension, or what no covariance can be.
    """
    if not path.is_file():
        raise OSError(f"no file {path}; expected statistics, an .npz file with mu and sigma")
    if path.suffix.lower() == ".npy":
        features_ND = read_features(path)
        _check_dimension(path, features_ND.shape[1], dimension, extractor)
        return fit_gaussian(torch.from_numpy(features_ND), device)
    try:
        declared = array_shapes(path)  # before anything is read: a small file can declare gigabytes
        features = declared.get("mu", (dimension,))
        if len(features) == 1:
            _check_dimension(path, features[0], dimension, extractor)
        content = load_arrays(path, {"mu": (dimension,), "sigma": (dimension, dimension)}, optional=("identity",))
    except ValueError as error:
        raise ValueError(f"{error}; expected mu and sigma of the features of {extractor}") from error
    mu_D, sigma_DD = (torch.from_numpy(content[name].astype(np.float64)).to(device) for name in ("mu", "sigma"))
    if not (mu_D.isfinite().all() and sigma_DD.isfinite().all()):
        raise ValueError(f"{path} holds numbers that are not finite; make it again")
    _check_covariance(sigma_DD, path)
    return Gaussian(mu_D, (sigma_DD + sigma_DD.T) / 2, identity=str(content.get("identity", "")))


def _check_dimension(path: Path, found: int, expected: int, extractor: str) -> None:
    if found != expected:
        missing = " (these are as many as the FID Inception's, which is not here)" if found == FID_DIMENSION else ""
        raise ValueError(f"{path} holds statistics of {found} features{missing}, and {extractor} gives {expected}")


def _check_covariance(sigma_DD: Tensor, path: Path) -> None:
    """Raise ValueError where a matrix is no covariance, beyond what the rounding of float32 can do to one."""
    largest = float(sigma_DD.abs().max())
    if float((sigma_DD - sigma_DD.T).abs().max()) > MOST_ROUNDING * largest:
        raise ValueError(f"{path} holds a sigma that is not symmetric, as a covariance is; make it again")
    least = float(sigma_DD.diagonal().min())
    if least >= -MOST_ROUNDING * largest:
        eigenvalues_D = torch.linalg.eigvalsh(sigma_DD)
        least, largest = float(eigenvalues_D[0]), float(eigenvalues_D.abs().max())
    if least < -MOST_ROUNDING * largest:
        raise ValueError(f"{path} holds a sigma with a negative variance ({least:.4g}): no covariance; make it again")


def write_statistics(path: Path, features_ND: Tensor, identity: str = "") -> None:
    """Write `mu` and `sigma` of features as an .npz file that other tools read, whole or not at all.

    Raises:
        OSError: it cannot be written; the error names `path`.
        ValueError: there is one sample, which has no covariance.
    """
    gaussian = fit_gaussian(features_ND)
    sigma_DD = gaussian.covariance_DD
    if sigma_DD is None:
        assert gaussian.root_ND is not None
        sigma_DD = gaussian.root_ND.T @ gaussian.root_ND
    arrays = {"mu": gaussian.mean_D.numpy(), "sigma": sigma_DD.numpy(), "identity": np.array(identity)}
    with write_atomically(path) as partial, partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def replicates_of(
    features_ND: Tensor, whole: Gaussian, distance: Callable[[Gaussian], float], groups: int = GROUPS
) -> tuple[float, ...]:
    """Return the distances without each of the groups of a set; none where a group would be a single image.

    whole: the Gaussian of all of `features_ND`.
    """
    if len(features_ND) < LEAST_IN_GROUPS:
        return ()
    groups_N = groups_of(len(features_ND), groups)
    return tuple(distance(_without(whole, features_ND, groups_N == group)) for group in range(groups))


def _without(whole: Gaussian, features_ND: Tensor, left_out_N: Tensor) -> Gaussian:
    """Return the Gaussian of a set without some of its samples; where it is one of many, from these alone."""
    count, few = len(features_ND), int(left_out_N.sum())
    device = str(whole.mean_D.device)
    if whole.covariance_DD is None or count - few <= features_ND.shape[1]:
        return fit_gaussian(features_ND[~left_out_N], device)
    centred_GD = features_ND[left_out_N].to(device, torch.float64) - whole.mean_D
    shift_D = -centred_GD.sum(dim=0) / (count - few)
    # Sums of products about the old mean, less the group's; then about the new mean.
    scatter_DD = (count - 1) * whole.covariance_DD - centred_GD.T @ centred_GD
    scatter_DD -= (count - few) * torch.outer(shift_D, shift_D)
    return Gaussian(whole.mean_D + shift_D, scatter_DD / (count - few - 1))


@dataclass(frozen=True)
class Floor:
    """What `count` real images score against the others of the reference; nothing where these are too few."""

    value: float | None = None
    interval: tuple[float, float] | None = None
    count: int = 0


def floor_of(reference_ND: Tensor, size: int, device: str = "cpu") -> Floor:
    """Return the distance between `size` real images, or half of them, and the rest, with its jackknife's interval."""
    halves = halves_of(len(reference_ND), size)
    if halves is None:
        return Floor()
    one_ND, other_ND = (reference_ND[half] for half in halves)
    one, other = fit_gaussian(one_ND, device), fit_gaussian(other_ND, device)
    value = frechet_distance(one, other)
    replicates = {
        "generated": replicates_of(one_ND, one, lambda g: frechet_distance(other, g)),
        "reference": replicates_of(other_ND, other, lambda g: frechet_distance(one, g)),
    }
    return Floor(value, jackknife_interval(value, replicates), len(one_ND))


class FrechetDistance:
    """The metric `fid`, over the features that `choose_extractor` finds.

    The interval is a delete-group jackknife's: it shows the spread of the estimate at this N. It does not remove the
    bias that the estimate has at this N.
    """

    key = "fid"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring
        self._floors: dict[tuple[ImageSet, str, int], Floor] = {}  # the same for all columns of a run

    def extractor(self, reference: ImageSet) -> FeatureExtractor:
        return choose_extractor(reference, self._scoring)

    def score(self, comparison: Comparison) -> list[Score]:
        generated, statistics = comparison.generated, comparison.statistics
        reference = comparison.reference_images() if statistics is None else ImageSet(statistics.name, ())
        if len(generated) < 2 or (len(reference) < 2 and statistics is None):
            against = "" if statistics is not None else f" and {len(reference)} reference"
            raise MetricUnavailable(f"{len(generated)} generated{against} images; a covariance needs at least 2")
        extractor = self.extractor(generated if statistics is not None else reference)
        device = float64_device(self._scoring.device)
        generated_ND = cached_features(generated, extractor, self._scoring)
        mine = fit_gaussian(generated_ND, device, extractor.identity)
        if statistics is not None:
            real = read_statistics(statistics, generated_ND.shape[1], device, extractor.name)
        else:
            real = cached_gaussian(reference, extractor, self._scoring)
        value = frechet_distance(mine, real)
        foreign = statistics is not None and not real.identity
        replicates = {"generated": replicates_of(generated_ND, mine, lambda g: frechet_distance(real, g))}
        floor = Floor()
        if statistics is None:
            reference_ND = cached_features(reference, extractor, self._scoring)
            replicates["reference"] = replicates_of(reference_ND, real, lambda g: frechet_distance(mine, g))
            asked = (reference, extractor.identity, len(generated))
            if asked not in self._floors:
                self._floors[asked] = floor_of(reference_ND, len(generated), device)
            floor = self._floors[asked]
        interval = jackknife_interval(value, replicates)
        return [
            Score(
                key=self.key,
                label=extractor.distance_label,
                short=extractor.distance_short,
                value=value,
                better="lower",
                n_generated=len(generated),
                n_reference=len(reference),
                identity=extractor.identity + ("; the statistics do not say what they are of" if foreign else ""),
                interval=interval,
                replicates=replicates if interval else {},
                floor=floor.value,
                floor_count=floor.count,
                floor_interval=floor.interval,
            )
        ]


class DINOv2Distance(FrechetDistance):
    """The metric `fd-dinov2`: the same distance over DINOv2's features."""

    key = "fd-dinov2"

    def extractor(self, reference: ImageSet) -> FeatureExtractor:  # noqa: ARG002 (any images will do)
        return open_extractor("dinov2", self._scoring)


class EfficientNetDistance(FrechetDistance):
    """The metric `fd-effnet`: the same distance over EfficientNet-Lite0's features."""

    key = "fd-effnet"

    def extractor(self, reference: ImageSet) -> FeatureExtractor:  # noqa: ARG002 (any images will do)
        return open_extractor("efficientnet", self._scoring)
