"""Says how often a configuration that is worse by the margin is called equal, and how many images find one that is not.

    python -m scripts.measuring.simulate_equal_quality --output docs/measurements/equal-quality-simulation.json

A run has configurations from the most expensive to the cheapest, each with a true score. Their observed scores have the
spread and the correlation of a real run's: that of --results, or of the run that MEASURED is of. The best observed one
and the rule are those of `benchmark.report.equal_quality`. A run is wrong where it calls a configuration equal whose
true score is worse than that of the truly best one by the margin or more.

Last, the kernel distance itself is computed, on features of which the true distances are known: its estimate is no mean
of independent values, as the simulated scores are.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmark.report.equal_quality import FLOOR_HALF_WIDTHS, Judgement, judge_all, margin_of
from benchmark.report.quality_verdict import deciding_key, value_of
from benchmark.report.results import read_results
from metrics.base import Score
from metrics.replicates import score_difference, student_t_975
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.simulate_verdicts import SHAPES, Draw

Array = NDArray[np.float64]
BAR = 0.05
KID_GROUPS, FID_GROUPS = 20, 10
# True scores above that of the best, in margins, from the most expensive configuration to the cheapest.
CASES: dict[str, tuple[float, ...]] = {
    "one, worse by the margin": (0, 1),
    "three, worse by the margin": (0, 1, 1, 1),
    "seven, worse by the margin": (0, 1, 1, 1, 1, 1, 1, 1),
    "one equal, three worse by the margin": (0, 0, 1, 1, 1),
    "four best ones, three worse by the margin": (0, 0, 0, 0, 1, 1, 1),
    "three, worse by 1.5 margins": (0, 1.5, 1.5, 1.5),
    "worse and worse": (0, 0.25, 0.5, 1, 2),
}
SHAPE_NAMES = ("normal", "heavy tails (t, 3 degrees)", "skewed (exponential)")
CORRELATIONS = (0.0, 0.5, 0.9)
# Of the variance of a floor of 256 images against 1,744, what comes from the 256.
FLOOR_SHARE = 1744 / 2000
POWER_CASES = ((0.0, 0.0), (0.0, 0.25), (0.0, 0.5), (0.0, 0.0, 0.0, 0.0))
IMAGES = (64, 128, 256, 512, 1024, 2048)


@dataclass(frozen=True)
class Noise:
    """How observed scores vary.

    generated, reference: standard errors of a score that come from the generated and from the reference images.
    correlation, reference_correlation: of two configurations' parts. floor: half-width of the floor's interval.
    uneven: how many times noisier every configuration but the first is.
    """

    generated: float
    correlation: float
    reference: float
    reference_correlation: float
    floor: float
    images: int = 256
    groups: int = KID_GROUPS
    uneven: float = 1.0

    @property
    def margin(self) -> float:
        return FLOOR_HALF_WIDTHS * self.floor

    def at(self, images: int) -> Noise:
        """Return the noise with another number of images; the floor's as if all of it came from them."""
        factor = math.sqrt(self.images / images)
        return replace(self, generated=self.generated * factor, floor=self.floor * factor, images=images)


# KID of robots, of the embedded SDXL and PixArt at 1, 2, 4 and 10 steps, 256 images against 2,000.
MEASURED = Noise(0.0044, 0.71, 0.0018, 0.48, 0.0062)


def measured_noise(path: Path) -> Noise:
    """Return the noise of a run's deciding scores.

    Raises:
        OSError, ValueError: it cannot be read, or has fewer than two scores with replicates and a floor.
    """
    run = read_results(path)
    key, _ = deciding_key(run.models)
    scores = [score for model in run.models if (score := value_of(model, key)) is not None and score.replicates]
    margin = margin_of(scores[0].floor_interval) if scores else None
    if len(scores) < 2 or margin is None:
        raise ValueError(f"{path}: two columns with intervals and a floor with one are needed")
    errors, correlations = {}, {}
    for sample in ("generated", "reference"):
        deviations = [np.array(score.replicates[sample]) - np.mean(score.replicates[sample]) for score in scores]
        groups = len(deviations[0])
        errors[sample] = math.sqrt(statistics.fmean((groups - 1) / groups * float(d @ d) for d in deviations))
        pairs = [float(np.corrcoef(one, other)[0, 1]) for one, other in itertools.combinations(deviations, 2)]
        correlations[sample] = statistics.median(pairs)
    return Noise(
        errors["generated"], correlations["generated"], errors["reference"], correlations["reference"],
        margin / FLOOR_HALF_WIDTHS, scores[0].n_generated, len(scores[0].replicates["generated"]),
    )  # fmt: skip


def draw_scores(truth: Sequence[float], noise: Noise, draw: Draw, random: np.random.Generator) -> list[Score]:
    """Return the observed scores of one run, with their replicates. truth: the true scores."""
    parts = {
        "generated": (noise.generated, max(0.0, noise.correlation)),
        "reference": (noise.reference, max(0.0, noise.reference_correlation)),
    }
    values_C, replicates = np.array(truth, dtype=np.float64), {}
    for sample, (error, correlation) in parts.items():
        shared_G, own_CG = draw(random, (noise.groups,)), draw(random, (len(truth), noise.groups))
        shared_G, own_CG = _centred(shared_G, draw), _centred(own_CG, draw)
        groups_CG = math.sqrt(correlation) * shared_G + math.sqrt(1 - correlation) * own_CG
        groups_CG = groups_CG * error * math.sqrt(noise.groups)
        groups_CG[1:] *= noise.uneven
        means_C = groups_CG.mean(axis=1)
        values_C = values_C + means_C
        replicates[sample] = (means_C[:, None] - groups_CG) / (noise.groups - 1)
    return [
        Score(
            "kid", "", "", float(value), "lower", noise.images, 0, "",
            replicates={sample: tuple((value + found_CG[at]).tolist()) for sample, found_CG in replicates.items()},
        )
        for at, value in enumerate(values_C)
    ]  # fmt: skip


def _centred(values: Array, draw: Draw) -> Array:
    """Return draws of mean 0: an exponential's is 1."""
    return values - 1.0 if draw is SHAPES["skewed (exponential)"] else values


def judge_run(scores: Sequence[Score], margin: float) -> tuple[int | None, dict[int, Judgement]]:
    """Return which configuration is the answer, and what was decided of the best one and of each that is cheaper.

    None: no one is; what is cheaper than the best one is worse, or it is undecided.
    """
    best = min(range(len(scores)), key=lambda at: scores[at].value)
    asked = range(len(scores) - 1, best - 1, -1)
    differences = {
        str(at): {
            str(other): score_difference(scores[at], scores[other]) for other in range(len(scores)) if other != at
        }
        for at in asked
    }
    found = judge_all(differences, str(best), margin, scores[0].n_generated)
    judged = {int(name): each for name, each in found.items()}
    return next((at for at, each in judged.items() if each.outcome == "EQUAL"), None), judged


def estimate_margin(noise: Noise, random: np.random.Generator) -> float:
    """Return the margin that a run's own floor gives: a jackknife's, as wide as it should be on average only."""
    degrees = noise.groups - 1
    squares = [share * random.chisquare(degrees) / degrees for share in (FLOOR_SHARE, 1 - FLOOR_SHARE)]
    return noise.margin * math.sqrt(sum(squares))


def error_rate(
    case: Sequence[float], noise: Noise, draw: Draw, runs: int, random: np.random.Generator, estimated: bool = False
) -> dict[str, float]:
    """Return in what share of runs one that is worse by the margin is the answer, and is called equal.

    estimated: each run takes its margin from its own floor; worse by the margin is worse by what that is on average.
    """
    truth = [noise.margin * worse for worse in case]
    chosen = called = 0
    for _ in range(runs):
        margin = estimate_margin(noise, random) if estimated else noise.margin
        answer, judged = judge_run(draw_scores(truth, noise, draw, random), margin)
        chosen += answer is not None and case[answer] >= 1
        called += any(found.outcome == "EQUAL" and case[at] >= 1 for at, found in judged.items())
    return {"chosen": chosen / runs, "called_equal": called / runs}


def power(case: Sequence[float], noise: Noise, margin: float, runs: int, random: np.random.Generator) -> float:
    """Return in what share of runs a configuration other than the most expensive one is the answer.

    Where the best observed one is not the most expensive one, it is cheaper than that, too.
    """
    truth = [margin * worse for worse in case]
    found = 0
    for _ in range(runs):
        found += (judge_run(draw_scores(truth, noise, SHAPES["normal"], random), margin)[0] or 0) > 0
    return found / runs


def estimator_error(runs: int, images: int, references: int, seed: int) -> dict[str, Any]:
    """Return how often the kernel distance calls a set of features equal that is worse by exactly the margin.

    Sets are drawn with replacement from three populations, so that the expected distances are those of the populations.
    """
    import torch

    from metrics.kernel import cubic_kernel, kernel_distance

    generator = torch.Generator().manual_seed(seed)
    populations = _populations(torch, generator)
    kernel = cubic_kernel(populations[0].shape[1])

    def expected(one: Any, other: Any) -> float:
        squares_one, squares_other = one.square().sum(1, keepdim=True), other.square().sum(1)
        return float(kernel(one @ other.T, squares_one, squares_other).mean())

    real, good, worse = populations
    true = [expected(made, made) - 2 * expected(made, real) for made in (good, worse)]
    margin = true[1] - true[0]
    half_widths, called = [], 0
    for _ in range(runs):
        of_real, of_good, of_worse = (
            population[torch.randint(len(population), (count,), generator=generator)]
            for population, count in zip(populations, (references, images, images), strict=True)
        )
        scores = []
        for made in (of_good, of_worse):
            estimate = kernel_distance(made, of_real)
            scores.append(
                Score("kid", "", "", estimate.value, "lower", images, references, "", replicates=estimate.replicates)
            )
        difference = score_difference(scores[1], scores[0])
        assert difference is not None
        half_widths.append((difference.interval()[1] - difference.interval()[0]) / 2)
        called += judge_run(scores, margin)[0] == 1
    return {
        "runs": runs, "images": images, "references": references, "margin": margin,
        "half_width": statistics.fmean(half_widths), "called_equal": called / runs,
    }  # fmt: skip


def _populations(torch: Any, generator: Any, count: int = 3000, dimension: int = 64) -> list[Any]:
    """Return features of real images, of a good and of a worse model: never below 0 and skewed, as a network's are."""
    mixing = torch.randn(16, dimension, generator=generator, dtype=torch.float64) / 4
    found = []
    for shift, scale in ((0.0, 1.0), (0.02, 1.0), (0.12, 0.94)):
        latent = torch.randn(count, 16, generator=generator, dtype=torch.float64) * scale + shift
        found.append((latent @ mixing).clamp(min=0))
    return found


def main(given: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each case [%(default)s]")
    parser.add_argument("--results", type=Path, help="a results.json whose scores' spread is taken [a tiny sweep's]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args(given)
    runs = arguments.runs
    if runs < 1:
        raise ValueError(f"--runs {runs}: expected 1 or more")
    if arguments.tiny:
        runs = min(runs, 50)
    noise = MEASURED if arguments.results is None else measured_noise(arguments.results)
    random = np.random.default_rng(arguments.seed)
    about = describe_run(__file__)
    figures: dict[str, Any] = {"runs": runs, "bar": BAR, "noise": asdict(noise), "margin": noise.margin, "errors": []}
    kinds = {"as measured": noise, "as measured, 10 groups": replace(noise, groups=FID_GROUPS)}
    kinds |= {f"correlation {each}": replace(noise, correlation=each) for each in CORRELATIONS}
    kinds["the worse are twice as noisy"] = replace(noise, correlation=0.0, uneven=2.0)
    for (kind, of_kind), name in itertools.product(
        kinds.items(), SHAPE_NAMES if not arguments.tiny else SHAPE_NAMES[:1]
    ):
        rates = {case: error_rate(worse, of_kind, SHAPES[name], runs, random) for case, worse in CASES.items()}
        figures["errors"].append({"noise": kind, "shape": name, "cases": rates})
        worst = max(rates, key=lambda case: rates[case]["called_equal"])
        print(
            f"{kind}, {name}: called equal in at most {100 * rates[worst]['called_equal']:.2f} % ({worst})", flush=True
        )
        write_report(arguments.output, about, figures)
    figures["estimated_margin"] = {
        case: error_rate(worse, noise, SHAPES["normal"], runs, random, estimated=True) for case, worse in CASES.items()
    }
    for case, rates in figures["estimated_margin"].items():
        print(
            f"margin of each run's own floor: called equal in {100 * rates['called_equal']:.2f} % ({case})", flush=True
        )
    figures["power"] = [
        {
            "case": case, "images": images, "margin": kind,
            "found": power(case, noise.at(images), margin, runs, random),
        }
        for case in (POWER_CASES if not arguments.tiny else POWER_CASES[:1])
        for images in IMAGES
        for kind, margin in (("of 256 images", noise.at(256).margin), ("auto", noise.at(images).margin))
    ]  # fmt: skip
    for row in figures["power"]:
        print(
            f"{row['case']}, N={row['images']}, margin {row['margin']}: found in {100 * row['found']:.0f} %", flush=True
        )
    write_report(arguments.output, about, figures)
    sizes = ((40, 60),) if arguments.tiny else ((256, 512), (64, 512))
    figures["kernel_distance"] = [estimator_error(runs, *size, arguments.seed) for size in sizes]
    for row in figures["kernel_distance"]:
        print(f"kernel distance, N={row['images']}: called equal in {100 * row['called_equal']:.2f} %", flush=True)
    print(f"about {student_t_975(noise.groups - 1):.2f} standard errors are the half-width of an interval")
    write_report(arguments.output, about, figures)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
