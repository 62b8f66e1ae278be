"""Prompt fidelity: the share of the parts that captions ask for which the attribute network sees in the pictures."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.attributes import PARTS, asked_attributes
from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.features import cached_features
from metrics.intervals import proportion_interval
from metrics.robots import RobotFeatures


@dataclass(frozen=True)
class PartsFound:
    """Of the `asked` parts that the captions of `images` pictures name, `found` were seen."""

    found: int
    asked: int
    images: int

    @property
    def percent(self) -> float:
        return 100 * self.found / self.asked


def count_parts(images: ImageSet, extractor: RobotFeatures, scoring: Scoring) -> PartsFound | None:
    """Return how many asked parts are seen in the set, or None where no caption names one.

    A picture whose caption names only some parts (a class name: colour and head) is judged on those alone.
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
    found = sum(
        int(seen_A[PARTS.index(part)]) == option
        for seen_A, (_, asked) in zip(seen_NA, judged, strict=True)
        for part, option in asked.items()
    )
    return PartsFound(found, sum(len(asked) for _, asked in judged), len(judged))


class PromptFidelity:
    """The metric `fidelity`; its baseline is the score of the reference pictures on their own captions.

    The interval is Wilson's at as many trials as pictures, as if all parts of a picture stood and fell together:
    parts of one picture are not independent, so this is rather too wide than too narrow.
    """

    key = "fidelity"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        if not any(asked_attributes(caption, self._scoring.assets) for caption in comparison.generated.captions):
            raise MetricUnavailable("captions name no robot parts")
        extractor = RobotFeatures(self._scoring.assets, self._scoring.device)
        generated = count_parts(comparison.generated, extractor, self._scoring)
        assert generated is not None
        real = count_parts(comparison.reference, extractor, self._scoring)
        low, high = proportion_interval(generated.found / generated.asked, generated.images)
        return [
            Score(
                key=self.key,
                label="Prompt Fidelity % (higher = better)",
                short="Prompt Fidelity",
                value=generated.percent,
                better="higher",
                n_generated=generated.images,
                n_reference=0,
                identity=extractor.identity,
                interval=(100 * low, 100 * high),
                baseline=real.percent if real else None,
                unit="%",
            )
        ]
