"""The kernel distance against its definition, torch-fidelity, and the laws of an unbiased estimate."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from metrics.base import Comparison, ImageSet, Score, Scoring
from metrics.features import halves_of
from metrics.intervals import groups_of
from metrics.kernel import CLIPDistance, KernelDistance, gaussian_kernel, kernel_distance


def _features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 12, generator=torch.Generator().manual_seed(seed)) + shift


def test_two_against_two_is_the_definition_written_out() -> None:
    (a, b), (c, d) = _features(2, 0).double(), _features(2, 1).double()

    def k(x: Tensor, y: Tensor) -> float:
        return float((x @ y / 12 + 1) ** 3)

    expected = k(a, b) + k(c, d) - (k(a, c) + k(a, d) + k(b, c) + k(b, d)) / 2
    estimate = kernel_distance(torch.stack([a, b]), torch.stack([c, d]))
    assert estimate.value == pytest.approx(expected, rel=1e-12)
    assert estimate.interval is None


@pytest.mark.parametrize("count", [37, 200])
def test_it_agrees_with_torch_fidelity_whose_subset_is_the_sample(count: int) -> None:
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    x, y = _features(count, 0).double(), _features(count, 1, 0.3).double()
    theirs = kid_features_to_metric(x, y, kid_subsets=1, kid_subset_size=count, verbose=False)[KEY_METRIC_KID_MEAN]
    assert kernel_distance(x, y).value == pytest.approx(theirs, rel=1e-5)


def test_it_is_unbiased_at_few_samples() -> None:
    trials = torch.tensor([kernel_distance(_features(6, 2 * i), _features(9, 2 * i + 1)).value for i in range(400)])
    assert abs(float(trials.mean())) < 3 * float(trials.std()) / 400**0.5


def test_the_interval_covers_the_truth_in_nine_of_ten_trials() -> None:
    truth = kernel_distance(_features(6000, 991), _features(6000, 992, 0.3)).value
    estimates = [kernel_distance(_features(60, 2 * i), _features(90, 2 * i + 1, 0.3)) for i in range(200)]
    covered = sum(e.interval is not None and e.interval[0] < truth < e.interval[1] for e in estimates)
    assert covered >= 0.9 * 200


def test_a_replicate_is_the_distance_without_that_group() -> None:
    x, y = _features(40, 0).double(), _features(30, 1, 0.5).double()

    def replicates(one: Tensor, other: Tensor) -> Tensor:
        kept = [groups_of(len(one)) != group for group in range(20)]
        return torch.tensor([kernel_distance(one[keep], other).value for keep in kept], dtype=torch.float64)

    variance = sum(19 / 20 * r.sub(r.mean()).square().sum() for r in (replicates(x, y), replicates(y, x)))
    estimate = kernel_distance(x, y)
    assert estimate.interval is not None
    half_width = 2.093 * float(variance) ** 0.5  # Student's t with 19 degrees of freedom
    assert estimate.interval[1] - estimate.value == pytest.approx(half_width, rel=1e-3)


def test_it_does_not_depend_on_which_side_is_which() -> None:
    x, y = _features(33, 0), _features(50, 1, 0.2)
    assert kernel_distance(x, y).value == pytest.approx(kernel_distance(y, x).value, rel=1e-12)


def test_one_sample_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        kernel_distance(torch.zeros(1, 4), torch.zeros(5, 4))


def test_a_gaussian_kernel_is_unbiased_too_and_covers_the_truth() -> None:
    kernel = gaussian_kernel(2.0)
    same = torch.tensor(
        [kernel_distance(_features(6, 2 * i), _features(9, 2 * i + 1), kernel=kernel).value for i in range(400)]
    )
    assert abs(float(same.mean())) < 3 * float(same.std()) / 400**0.5
    truth = kernel_distance(_features(6000, 991), _features(6000, 992, 0.3), kernel=kernel).value
    estimates = [
        kernel_distance(_features(60, 2 * i), _features(90, 2 * i + 1, 0.3), kernel=kernel).interval for i in range(200)
    ]
    assert sum(interval is not None and interval[0] < truth < interval[1] for interval in estimates) >= 180


def test_many_columns_are_summed_in_parts_to_the_same_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernel_distance(_features(50, 0), _features(70, 1, 0.2))
    monkeypatch.setattr("metrics.kernel._COLUMNS", 16)
    parts = kernel_distance(_features(50, 0), _features(70, 1, 0.2))
    assert parts.value == pytest.approx(whole.value, rel=1e-10)
    assert parts.replicates["reference"] == pytest.approx(whole.replicates["reference"], rel=1e-9)


def test_the_order_of_a_folder_does_not_widen_the_interval() -> None:
    """Twenty kinds in turn would put one kind into each of twenty groups."""
    kinds = 4 * torch.randn(20, 12, generator=torch.Generator().manual_seed(7))
    in_turn = kinds.repeat(20, 1) + _features(400, 3)
    other = kinds.repeat(20, 1) + _features(400, 4)
    widths = []
    for order in (torch.arange(400), torch.randperm(400, generator=torch.Generator().manual_seed(1))):
        interval = kernel_distance(in_turn[order], other[order]).interval
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert 0.4 < widths[0] / widths[1] < 2.5


def _scores_of(
    kind: type[KernelDistance],
    reference_ND: Tensor,
    generated_MD: Tensor,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Score]:
    rows = {"real": reference_ND, "made": generated_MD}

    class Known:
        identity = kernel_label = kernel_short = "known"

    monkeypatch.setattr("metrics.kernel.cached_features", lambda images, *_: rows[images.name])
    metric = kind(Scoring("cpu", folder, folder))
    monkeypatch.setattr(metric, "extractor", lambda _: Known())
    made, real = (
        ImageSet(name, tuple(folder / f"{at}.png" for at in range(len(rows[name])))) for name in ("made", "real")
    )
    return metric.score(Comparison(made, real))


def test_the_floors_interval_is_that_of_the_distance_between_two_parts_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference_ND, generated_ND = _features(60, 0), _features(20, 1, 0.5)
    (found,) = _scores_of(KernelDistance, reference_ND, generated_ND, tmp_path, monkeypatch)
    one, other = halves_of(60, 20) or pytest.fail("60 images have two parts")
    expected = kernel_distance(reference_ND[one], reference_ND[other])
    assert expected.interval is not None
    assert (found.floor, found.floor_interval) == (expected.value, expected.interval)
    (thousand,) = _scores_of(CLIPDistance, reference_ND, generated_ND, tmp_path, monkeypatch)
    alike = kernel_distance(reference_ND[one], reference_ND[other], kernel=gaussian_kernel(10.0))
    assert alike.interval is not None
    assert thousand.floor_interval == (1000 * alike.interval[0], 1000 * alike.interval[1])


def test_a_floor_of_too_few_images_has_no_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (few,) = _scores_of(KernelDistance, _features(9, 0), _features(4, 1), tmp_path, monkeypatch)
    assert few.floor is not None
    assert few.floor_interval is None
    (none,) = _scores_of(KernelDistance, _features(3, 0), _features(4, 1), tmp_path, monkeypatch)
    assert (none.floor, none.floor_interval) == (None, None)
