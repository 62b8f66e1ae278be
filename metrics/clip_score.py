"""CLIPScore: how well an image fits what it was asked to show, by CLIP."""

from __future__ import annotations

from torch import Tensor

from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.extractors.clip import CLIPFeatures
from metrics.features import cached_features, open_extractor
from metrics.intervals import mean_interval, mean_replicates


class CLIPScore:
    """The metric `clipscore`: 100 times the cosine between an image and what it was asked to show, at least 0.

    Source: Hessel et al. 2021, "CLIPScore", with the weight 100, as in torchmetrics, instead of 2.5.
    """

    key = "clipscore"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        generated, reference = comparison.generated, comparison.reference
        if not generated.captions:
            raise MetricUnavailable("what the images were asked to show is not known")
        extractor = open_extractor("clip", self._scoring)
        assert isinstance(extractor, CLIPFeatures)
        values_N = self._values(generated, extractor)
        real_N = self._values(reference, extractor) if reference.captions else None
        return [
            Score(
                key=self.key,
                label="CLIPScore (higher = better)",
                short="CLIPScore",
                value=float(values_N.mean()),
                better="higher",
                n_generated=len(generated),
                n_reference=0,
                identity=extractor.identity,
                interval=mean_interval(values_N),
                replicates=mean_replicates(values_N),
                floor=None if real_N is None else float(real_N.mean()),
                floor_count=len(reference),
                floor_interval=None if real_N is None else mean_interval(real_N),
                floor_meaning="real images with their own captions score",
                decimals=2,
            )
        ]

    def _values(self, images: ImageSet, extractor: CLIPFeatures) -> Tensor:
        images_ND = cached_features(images, extractor, self._scoring)
        distinct = list(dict.fromkeys(images.captions))
        place = {caption: index for index, caption in enumerate(distinct)}
        captions_ND = extractor.embed_captions(distinct)[[place[caption] for caption in images.captions]]
        return 100 * (images_ND * captions_ND).sum(dim=1).clamp(min=0)
