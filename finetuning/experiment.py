"""Before and after a fine-tuning: images of held-out captions by the base and by the LoRA, and their scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.console.progress import Progress
from benchmark.run.bulk import make_images
from benchmark.run.journal import Journal
from metrics.base import Comparison, ImageSet, Score, Scoring
from metrics.scoring import open_metrics, score_all
from models.base import ImageGenerator, Request

TARGET_METRICS = ("fid", "kid", "match", "clipscore", "fidelity", "prdc", "memorisation")
DRIFT_METRICS = ("fid", "kid", "clipscore", "fidelity")


@dataclass(frozen=True)
class Domain:
    """Captions to generate from, the real image of each, and the training images (none outside the target)."""

    name: str
    real: ImageSet
    training: ImageSet | None = None

    def first(self, count: int) -> Domain:
        """Return the domain with only its first captions."""
        return replace(self, real=first_images(self.real, count))


@dataclass(frozen=True)
class Scored:
    """Scores by key, and the reason of each metric without one."""

    scores: dict[str, Score]
    unscored: dict[str, str]


class Experiment:
    """Generates at a strength of the LoRA (0: the base) and scores; images are kept, so that a second run goes on.

    load: returns the generator at a strength. identity: everything that decides the images, for their fingerprint.
    """

    def __init__(
        self,
        load: Callable[[float], ImageGenerator],
        folder: Path,
        identity: dict[str, str],
        batch_size: int,
        device: str,
        scoring: Scoring,
        seed: int,
        progress: Progress,
    ) -> None:
        self._load, self._folder, self._identity = load, folder, identity
        self._batch_size, self._device = batch_size, device
        self._scoring, self._seed, self._progress = scoring, seed, progress

    def generate(self, domains: Sequence[Domain], strength: float) -> list[ImageSet]:
        """Return the images of the domains' captions at this strength; those that are there are not made again."""
        kept: list[ImageGenerator] = []

        def load() -> ImageGenerator:
            if not kept:
                kept.append(self._load(strength))
            return kept[0]

        made = []
        for domain in domains:
            folder = self._folder / f"{domain.name}-{strength:g}"
            journal = Journal(folder, self._identity | {"strength": f"{strength:g}", "captions": domain.real.name})
            captions = domain.real.captions
            requests = [Request(number, caption, self._seed + number) for number, caption in enumerate(captions)]
            make_images(load, requests, journal, self._batch_size, self._device, self._progress)
            paths = tuple(journal.image_path(number) for number in range(len(captions)))
            made.append(ImageSet(f"{domain.name} at {strength:g}", paths, captions))
        return made

    def score(self, made: ImageSet, domain: Domain, metrics: Sequence[str]) -> Scored:
        """Return the scores of images of the domain's captions against its real ones."""
        return self._compare(Comparison(made, domain.real, domain.real.paths, training=domain.training), metrics)

    def _compare(self, comparison: Comparison, metrics: Sequence[str]) -> Scored:
        scored = score_all(open_metrics(metrics, self._scoring), comparison)
        return Scored({score.key: score for score in scored.scores}, dict(scored.unscored))

    def kernel_distance(self, made: ImageSet, domain: Domain) -> Score:
        """Return KID (or KD) to the domain's real images; it is unbiased, so that few captions are enough.

        Raises:
            ValueError: it cannot be computed; the text says why.
        """
        scored = self._compare(Comparison(made, domain.real), ("kid",))
        if "kid" not in scored.scores:
            raise ValueError(f"no distance of {made.name}: {scored.unscored.get('kid')}")
        return scored.scores["kid"]

    def floor_images(self, domain: Domain) -> ImageSet:
        """Return as many training images as the domain has captions; none is of a held-out caption."""
        assert domain.training is not None
        return spread(domain.training, len(domain.real))

    def floor(self, domain: Domain) -> Scored:
        """Return the scores of as many training images, in the place of generated ones.

        They are real, and none is of a held-out caption: a model whose images are as good as real ones scores this.
        """
        return self._compare(Comparison(self.floor_images(domain), domain.real), ("fid", "kid", "prdc"))


def first_images(images: ImageSet, count: int) -> ImageSet:
    """Return the first of the images with their captions."""
    return ImageSet(images.name, images.paths[:count], images.captions[:count])


def spread(images: ImageSet, most: int) -> ImageSet:
    """Return at most `most` of the images, spread evenly: a folder may be sorted."""
    count = min(most, len(images))
    chosen = [number * len(images) // count for number in range(count)]
    captions = tuple(images.captions[place] for place in chosen) if images.captions else ()
    return ImageSet(images.name, tuple(images.paths[place] for place in chosen), captions)


def way_to_floor(before: float, after: float, floor: float) -> float | None:
    """Return the share of the way from `before` to `floor`, 1 at the floor; None where `before` is not above it."""
    return (before - after) / (before - floor) if before > floor else None
