"""Caption match: whether an image is nearer to the real one of its own caption than to those of other captions."""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring
from metrics.extractors.precision import float64_device
from metrics.features import cached_features, choose_extractor
from metrics.intervals import mean_interval, mean_replicates
from metrics.neighbours import squared_distances


def match_shares(made_ND: Tensor, own_ND: Tensor, captions: list[str], device: str = "cpu") -> Tensor:
    """Return `shares_N`, float64: the share of real images of other captions that are farther away than the own one.

    Row i of `own_ND` is the real image of caption i. An image that is just as far counts half.

    Raises:
        ValueError: all captions are the same.
    """
    if len(set(captions)) < 2:
        raise ValueError("found one caption alone; a match needs images of other captions")
    numbers = {caption: number for number, caption in enumerate(dict.fromkeys(captions))}
    caption_N = torch.tensor([numbers[caption] for caption in captions], device=device)
    made_ND, own_ND = made_ND.to(device, torch.float64), own_ND.to(device, torch.float64)
    own_N = (made_ND - own_ND).square().sum(dim=1)
    shares = []
    for start, squared_nN in squared_distances(made_ND, own_ND):
        rows = slice(start, start + len(squared_nN))
        farther_nN = (squared_nN > own_N[rows, None]).double() + 0.5 * (squared_nN == own_N[rows, None])
        others_nN = caption_N[rows, None] != caption_N[None, :]
        shares.append((farther_nN * others_nN).sum(dim=1) / others_nN.sum(dim=1))
    return torch.cat(shares).cpu()


class CaptionMatch:
    """The metric `match`: images that have nothing to do with their captions score 50 %, and 100 % those that are
    closer to their own real image than to every other. It works for any captions, with FID's features.
    """

    key = "match"

    def __init__(self, scoring: Scoring) -> None:
        self._scoring = scoring

    def score(self, comparison: Comparison) -> list[Score]:
        generated, pairs = comparison.generated, comparison.pairs()
        if not generated.captions:
            raise MetricUnavailable("what the images were asked to show is not known")
        captions = [generated.captions[place] for place, _ in pairs]
        made = ImageSet(generated.name, tuple(generated.paths[place] for place, _ in pairs))
        own = ImageSet(comparison.reference.name, tuple(target for _, target in pairs))
        extractor, device = choose_extractor(comparison.reference, self._scoring), float64_device(self._scoring.device)
        made_ND, own_ND = (cached_features(images, extractor, self._scoring) for images in (made, own))
        try:
            shares_N = 100 * match_shares(made_ND, own_ND, captions, device)
        except ValueError as error:
            raise MetricUnavailable(str(error)) from error
        return [
            Score(
                key=self.key,
                label="Caption Match % (higher = better)",
                short="Caption Match",
                value=float(shares_N.mean()),
                better="higher",
                n_generated=len(made),
                n_reference=len(own),
                identity=f"own real image nearer than others'; {extractor.identity}",
                interval=mean_interval(shares_N),
                replicates=mean_replicates(shares_N),
                floor=50.0,
                floor_count=len(own),
                floor_meaning="chance",
                unit="%",
            )
        ]
