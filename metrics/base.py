"""What a metric is: a function from folders of images to scores that carry their identity and their uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

FidProtocol = Literal["clean", "torch-fidelity"]
FeatureDType = Literal["float32", "tf32", "bfloat16"]
# From what is counted and how many there are to a block in which its result is told of how many are done.
OpenTask = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
DINOV2_MODEL = "facebook/dinov2-large"
CLIP_MODEL = "openai/clip-vit-large-patch14-336"


@contextmanager
def no_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001 (it is an OpenTask)
    """Tell nobody."""
    yield lambda _: None


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

    reference: the real images whose distribution counts.
    targets: one image for each generated one, the real image of that request's caption, or None. A pair counts
    only where the generated image was asked for just the target's caption.
    statistics: a file with mean and covariance of the reference's features, in the place of its images.
    training: what a fine-tuned model was trained on, where that is known.
    paired: each generated image has its target, whatever was asked.
    """

    generated: ImageSet
    reference: ImageSet
    targets: ImageSet | None = None
    statistics: Path | None = None
    training: ImageSet | None = None
    paired: bool = False


@dataclass(frozen=True)
class Scoring:
    """Where and how metrics run: all that they learn of the run. `cache` keeps reference features.

    batch_size: images at once through an extractor; 0: what suits the device.
    fid_protocol: how images come to the Inception's size. feature_dtype: arithmetic of the extractors, part of their
    identity. dinov2_model, clip_model: a hub id or a local folder. progress: is told of images on their way.
    """

    device: str
    assets: Path
    cache: Path
    batch_size: int = 0
    inception_weights: Path | None = None
    fid_protocol: FidProtocol = "clean"
    feature_dtype: FeatureDType = "float32"
    dinov2_model: str = DINOV2_MODEL
    clip_model: str = CLIP_MODEL
    progress: OpenTask = no_progress

    @property
    def images_at_once(self) -> int:
        return self.batch_size or (256 if self.device.startswith("cuda") else 32)


@dataclass(frozen=True)
class Score:
    """One row of the table for one model.

    label: the row's name with its direction, "FID Score (lower = better)".
    short: the name in the winners' line, "FID".
    interval: 95 %, or None where none is known (docs/measuring.md has the reason).
    replicates: for each sample that the score depends on ("generated", "reference") the scores without one of its
    groups, in order. Two models' replicates without the same group give the interval of their difference.
    identity: extractor, protocol, precision: scores with different identities are never compared.
    n_reference: 0 for scores that need no reference.
    floor: the same score between real images, `floor_count` against others of the reference; what it is of is in
    `floor_meaning`.
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
    replicates: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    floor: float | None = None
    floor_count: int = 0
    floor_meaning: str = "real images score"
    decimals: int = 1
    unit: str = ""


def add_rows(scores: list[Score], made: Iterable[Score]) -> None:
    """Add what a metric made, but for rows that are there already: two metrics may come to use the same features."""
    labels = {score.label for score in scores}
    scores += [score for score in made if score.label not in labels]


class MetricUnavailable(Exception):
    """Raised by a metric that cannot score this comparison; its text is the reason that the table shows."""


class Metric(Protocol):
    """One entry of METRICS. `score` may give several rows; it streams the images and never holds all of them.

    Raises MetricUnavailable (shown as n/a with the reason), or ValueError/OSError for what the user can fix.
    """

    key: str

    def score(self, comparison: Comparison) -> list[Score]: ...
