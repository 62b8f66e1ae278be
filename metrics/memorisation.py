"""Memorisation: the share of a fine-tuned model's images that are closer to a training image than real ones are."""

from __future__ import annotations

import torch

from metrics.base import Comparison, MetricUnavailable, Score, Scoring
from metrics.extractors.precision import float64_device
from metrics.features import cached_features, choose_extractor
from metrics.intervals import mean_replicates
from metrics.neighbours import nearest_distances
from metrics.replicates import proportion_interval

HELD_OUT_SHARE = 0.01


class Memorisation:
    """The metric `memorisation`: the share of images closer to a training image than 99 % of held-out real images are.

    Images that owe nothing to the training set would score 1 %.
    """

    key = "memorisation"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        training = comparison.training
        if training is None:
            raise MetricUnavailable("no training images are known that are not also references")
        reference = comparison.reference_images()
        least = int(1 / HELD_OUT_SHARE)
        if len(reference) < least:
            raise MetricUnavailable(f"{len(reference)} held-out images; a share of 1 % needs at least {least}")
        extractor, device = choose_extractor(reference, self._scoring), float64_device(self._scoring.device)
        sets = (comparison.generated, reference, training)
        made_ND, held_out_ND, training_ND = (cached_features(images, extractor, self._scoring) for images in sets)
        limit = torch.quantile(nearest_distances(held_out_ND, training_ND, device), HELD_OUT_SHARE)
        copied_N = (nearest_distances(made_ND, training_ND, device) < limit).double()
        low, high = proportion_interval(float(copied_N.mean()), len(copied_N))
        return [
            Score(
                key=self.key,
                label="Memorised % (lower = better)",
                short="Memorised",
                value=100 * float(copied_N.mean()),
                better="lower",
                n_generated=len(copied_N),
                n_reference=len(reference),
                identity=f"{extractor.identity}; {len(training)} training images",
                interval=(100 * low, 100 * high),
                replicates={of: tuple(100 * v for v in vs) for of, vs in mean_replicates(copied_N).items()},
                floor=100 * HELD_OUT_SHARE,
                floor_count=len(reference),
                floor_meaning="held-out real images score",
                unit="%",
            )
        ]
