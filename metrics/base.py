"""What a metric is: a function from folders of images to scores that carry their identity and their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol


@dataclass(frozen=True)
class ImageSet:
    """Images on disk in a fixed order, with what each was asked to show.

    captions: as many as paths, or empty where nothing was asked. For generated images it is what the model was
    really asked (a class-conditional model's caption is its class name), for references their own caption.
    """

    name: str
    paths: tuple[Path, ...]
    captions: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class Comparison:
    """What is scored against what.

    reference: the real pictures whose distribution counts.
    targets: one picture for each generated one, the real picture of that request's caption, or None. A pair counts
    only where the generated image was asked for just the target's caption.
    """

    generated: ImageSet
    reference: ImageSet
    targets: ImageSet | None = None


@dataclass(frozen=True)
class Scoring:
    """Where and how metrics run: all that they learn of the run. `cache` keeps reference features."""

    device: str
    assets: Path
    cache: Path
    batch_size: int = 32
    inception_weights: Path | None = None


@dataclass(frozen=True)
class Score:
    """One row of the table for one model.

    label: the row's name with its direction, "FID Score (lower = better)".
    short: the name in the winners' line, "FID".
    interval: 95 %, or None where none is known (the reason stands in `identity`'s documentation).
    identity: extractor, protocol, precision: scores with different identities are never compared.
    n_reference: 0 for scores that need no reference.
    baseline: the same score on real pictures, where that is meaningful.
    """

    key: str
    label: str
    short: str
    value: float
    better: Literal["lower", "higher"]
    n_generated: int
    n_reference: int
    identity: str
    interval: tuple[float, float] | None = None
    baseline: float | None = None
    decimals: int = 1
    unit: str = ""


class MetricUnavailable(Exception):
    """Raised by a metric that cannot score this comparison; its text is the reason that the table shows."""


class Metric(Protocol):
    """One entry of METRICS. `score` may give several rows; it streams the images and never holds all of them.

    Raises MetricUnavailable (shown as n/a with the reason), or ValueError/OSError for what the user can mend.
    """

    key: str

    def score(self, comparison: Comparison) -> list[Score]: ...
