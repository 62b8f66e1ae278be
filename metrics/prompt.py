"""Prompt fidelity: of the parts that the captions ask for, the share that the attribute network sees in the images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.extractors.robots import RobotFeatures
from metrics.features import cached_features, open_extractor
from metrics.intervals import mean_replicates
from metrics.replicates import proportion_interval
from metrics.robots.grammar import PARTS, asked_attributes


@dataclass(frozen=True)
class PartsFound:
    """For each image: how many parts its caption names, `asked_N`, and how many of these were seen, `found_N`."""

    found_N: Tensor
    asked_N: Tensor

    @property
    def percent(self) -> float:
        return 100 * float(self.found_N.sum() / self.asked_N.sum())

    def replicates(self) -> dict[str, tuple[float, ...]]:
        """Return the percentages without each group of images, or none where there are too few."""
        found, asked = mean_replicates(self.found_N), mean_replicates(self.asked_N)
        return {of: tuple(100 * f / a for f, a in zip(found[of], asked[of], strict=True)) for of in found}


def count_parts(images: ImageSet, extractor: RobotFeatures, scoring: Scoring) -> PartsFound | None:
    """Return how many of the parts asked for are seen in the set, or None where no caption names one.

    An image whose caption names only some parts (a class name: colour and head) is judged on those alone.
    """
    judged = [
        (path, asked)
        for path, caption in zip(images.paths, images.captions, strict=False)
        if (asked := asked_attributes(caption, scoring.assets))
    ]
    if not judged:
        return None
    features_ND = cached_features(ImageSet(images.name, tuple(path for path, _ in judged)), extractor, scoring)
    seen_NA = extractor.see_parts(features_ND)
    found = [
        sum(int(seen_A[PARTS.index(part)]) == option for part, option in asked.items())
        for seen_A, (_, asked) in zip(seen_NA, judged, strict=True)
    ]
    return PartsFound(torch.tensor(found).double(), torch.tensor([len(asked) for _, asked in judged]).double())


class PromptFidelity:
    """The metric `fidelity`; its floor is the score of the reference images on their own captions.

    The interval is Wilson's with as many trials as images, as if an image had either all of its parts or none. The
    parts of one image are not independent, so this errs on the wide side.
    """

    key = "fidelity"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        if not any(asked_attributes(caption, self._scoring.assets) for caption in comparison.generated.captions):
            raise MetricUnavailable("captions name no robot parts")
        extractor = open_extractor("robots", self._scoring)
        assert isinstance(extractor, RobotFeatures)
        generated = count_parts(comparison.generated, extractor, self._scoring)
        assert generated is not None
        real = count_parts(comparison.reference, extractor, self._scoring)
        low, high = proportion_interval(generated.percent / 100, len(generated.found_N))
        return [
            Score(
                key=self.key,
                label="Prompt Fidelity % (higher = better)",
                short="Prompt Fidelity",
                value=generated.percent,
                better="higher",
                n_generated=len(generated.found_N),
                n_reference=0,
                identity=extractor.identity,
                interval=(100 * low, 100 * high),
                replicates=generated.replicates(),
                floor=real.percent if real else None,
                floor_count=len(real.found_N) if real else 0,
                unit="%",
            )
        ]
