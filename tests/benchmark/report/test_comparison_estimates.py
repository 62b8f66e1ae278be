"""The intervals by which two runs are compared: Welch's, the jackknife's, Newcombe's, against what is known."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from comparison_cases import GROUPS, kid
from scipy.stats import ttest_ind

from benchmark.report.comparison.estimates import Estimate, compare_latencies, compare_scores
from metrics.replicates import difference_interval, proportion_interval

OLD_S, NEW_S = [1.0, 1.02, 0.97, 1.01], [1.10, 1.07, 1.05, 1.12, 1.2]


def test_the_interval_of_two_runs_is_welchs_of_the_logs_of_round_means() -> None:
    found = compare_latencies(OLD_S, NEW_S)
    assert found is not None
    test = ttest_ind(list(map(math.log, NEW_S)), list(map(math.log, OLD_S)), equal_var=False)
    assert found.interval(0.95) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert found.interval(0.99) == pytest.approx(tuple(test.confidence_interval(0.99)))
    assert found.ratios() == pytest.approx(tuple(map(math.exp, test.confidence_interval(0.95))))
    greater = ttest_ind(list(map(math.log, NEW_S)), list(map(math.log, OLD_S)), equal_var=False, alternative="greater")
    assert found.chance_within(0.0) == pytest.approx(greater.pvalue)


def test_fewer_than_three_rounds_on_either_side_have_no_interval() -> None:
    assert compare_latencies([1.0, 1.1], NEW_S) is None
    assert compare_latencies(OLD_S, [1.0, 1.1]) is None


def test_rounds_that_are_all_the_same_have_an_interval_without_width() -> None:
    found = compare_latencies([1.0] * 3, [1.05] * 3)
    assert found is not None
    assert found.ratios() == pytest.approx((1.05, 1.05))
    assert (found.chance_within(math.log(1.03)), found.chance_within(math.log(1.06))) == (0.0, 1.0)


def test_a_tie_lies_within_three_percent_a_win_excludes_no_change_and_all_else_is_undecided() -> None:
    def outcome(value: float, error: float) -> str:
        return Estimate(value, error, error, 10).outcome_of_ratio()

    assert [outcome(0.0, 0.001), outcome(0.01, 0.001), outcome(0.05, 0.01), outcome(0.05, 0.05)] == [
        "TIE", "TIE", "WIN", "UNDECIDED",
    ]  # fmt: skip
    assert Estimate(0.0, 0.0, 0.0, 10).outcome_of_difference(0.0) == "TIE", "identical images, and a score of 0"
    assert Estimate(0.02, 0.0, 0.0, 10).outcome_of_difference(1.0) == "TIE"
    assert Estimate(-0.04, 0.0, 0.0, 10).outcome_of_difference(1.0) == "WIN"


def test_scores_of_the_same_requests_have_the_interval_of_paired_replicates() -> None:
    old, new = kid(0.01, seed=1), kid(0.011, seed=2)
    found = compare_scores(old, new, same_requests=True)
    assert found is not None
    estimate, pairing = found
    assert pairing == "paired"
    assert estimate.interval(0.95) == pytest.approx(difference_interval(new, old))


def test_the_same_images_differ_by_nothing_and_the_interval_has_no_width() -> None:
    score = kid(0.01)
    found = compare_scores(score, score, same_requests=True)
    assert found is not None
    assert found[0].interval(0.95) == (0.0, 0.0)
    assert found[0].outcome_of_difference(score.value) == "TIE"


def test_of_other_seeds_the_variances_of_the_images_add_and_the_references_stay_paired() -> None:
    old, new = kid(0.01, seed=1), kid(0.01, seed=1)
    found = compare_scores(old, new, same_requests=False)
    assert found is not None
    estimate, pairing = found
    assert pairing == "reference paired"
    values = old.replicates["generated"]
    mean = sum(values) / GROUPS
    variance = (GROUPS - 1) / GROUPS * sum((value - mean) ** 2 for value in values)
    assert estimate.below == pytest.approx(math.sqrt(2 * variance)), "the reference's part is the same, and cancels"
    assert estimate.degrees == GROUPS - 1


def test_scores_without_a_reference_and_of_other_seeds_are_unpaired() -> None:
    means = [
        replace(kid(0.5, seed=seed), replicates={"generated": kid(0.5, seed=seed).replicates["generated"]})
        for seed in (1, 2)
    ]
    found = compare_scores(means[0], means[1], same_requests=False)
    assert found is not None
    assert found[1] == "unpaired"


def test_shares_have_newcombes_interval_of_their_difference() -> None:
    """56 of 70 against 48 of 80, the example of the paper: 0.0524 to 0.3339."""
    one = kid(56 / 70, replicates={}, interval=proportion_interval(56 / 70, 70))
    other = kid(48 / 80, replicates={}, interval=proportion_interval(48 / 80, 80))
    found = compare_scores(other, one, same_requests=True)
    assert found is not None
    assert found[1] == "unpaired"
    assert found[0].interval(0.95) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found[0].reversed().interval(0.95) == pytest.approx((-0.3339, -0.0524), abs=5e-5)


def test_scores_of_which_no_interval_is_known_have_none() -> None:
    bare = kid(0.01, replicates={}, interval=None)
    assert compare_scores(bare, kid(0.02), same_requests=True) is None
    broken = kid(0.01, replicates={"generated": (math.nan,) * GROUPS}, interval=None)
    assert compare_scores(broken, broken, same_requests=True) is None


def test_equal_runs_of_which_one_is_disturbed_more_differ_in_at_most_five_percent() -> None:
    draw = random.Random(0)
    cases = 2000
    wins = 0
    for _ in range(cases):
        old, new = ([math.exp(draw.gauss(0, spread)) for _ in range(count)] for spread, count in ((0.05, 4), (0.2, 6)))
        found = compare_latencies(old, new)
        assert found is not None
        wins += found.outcome_of_ratio() == "WIN"
    assert wins <= 0.06 * cases
