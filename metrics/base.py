"""What a metric is: it compares images on disk and returns scores that carry their identity and their uncertainty."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

FidProtocol = Literal["clean", "torch-fidelity"]
FeatureDType = Literal["float32", "tf32", "bfloat16"]
# Opens a progress task: `with open_task(name, total) as report: report(done)`.
OpenTask = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
DINOV2_MODEL = "facebook/dinov2-large"
CLIP_MODEL = "openai/clip-vit-large-patch14-336"


@contextmanager
def no_progress(name: str, total: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG001 (it is an OpenTask)
    """Show no progress."""
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
    """The images to score, and what they are compared with.

    reference: the real images whose distribution the generated ones should have; may be empty.
    targets: for each generated image, in their order, the real image of the same request, or None where that request
    has none. The place alone makes a pair; captions are not compared.
    statistics: a file with the mean and covariance of the reference's features, used instead of `reference`.
    training: the images that a fine-tuned model was trained on, where they are known.
    unpaired: why there are no pairs at all ("asked for a class, not for a caption"); empty where there may be some.
    exact_targets: each target is the one right image of its request, whatever the captions say. Otherwise that is
    so only where a caption leaves nothing open.
    """

    generated: ImageSet
    reference: ImageSet
    targets: tuple[Path | None, ...] | None = None
    statistics: Path | None = None
    training: ImageSet | None = None
    unpaired: str = ""
    exact_targets: bool = False

    def reference_images(self) -> ImageSet:
        """Return `reference`, for metrics that need images of it.

        Raises:
            MetricUnavailable: there are none.
        """
        if self.statistics is not None:
            raise MetricUnavailable("the reference is statistics alone, without images")
        if not len(self.reference):
            raise MetricUnavailable("no reference images")
        return self.reference

    def pairs(self) -> list[tuple[int, Path]]:
        """Return the place of each generated image that has a target, with that target.

        Raises:
            MetricUnavailable: there are no pairs, and why.
        """
        if self.unpaired:
            raise MetricUnavailable(self.unpaired)
        if self.targets is None:
            self.reference_images()
            raise MetricUnavailable("it is not known which real image belongs to which generated one")
        found = [
            (place, target)
            for place, (_, target) in enumerate(zip(self.generated.paths, self.targets, strict=True))
            if target is not None
        ]
        if not found:
            raise MetricUnavailable("none of the prompts has a reference image")
        return found


class Helpers(Protocol):
    """Other processes that extract features for this one."""

    @property
    def count(self) -> int:
        """How many there are beside this process."""

    def ask(self, works: Sequence[Callable[[str], None]]) -> Callable[[Callable[[], None]], tuple[str, ...]]:
        """Have each process run one of these: at most `count`, which can be pickled and take that process's device.

        The returned function waits for all of them, and returns for each "" or in one line why it failed. It takes what
        it calls a few times a second while it waits; that may raise, which ends the waiting.

        Raises:
            OSError: they cannot be reached; the returned function raises it, too.
        """


@dataclass(frozen=True)
class Scoring:
    """Where and how metrics run: all that they know of the run's settings.

    cache: the folder in which features are kept for the next run.
    batch_size: images at once through an extractor; 0: what suits the device.
    fid_protocol: how images are resized for the Inception.
    feature_dtype: arithmetic of the extractors; part of their identity.
    dinov2_model, clip_model: a hub id or a local folder.
    progress: opens the task that shows how many images are done.
    helpers: other processes that extract features, too; None: there are none.
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
    helpers: Helpers | None = field(default=None, compare=False)  # an extractor is the same with and without them

    @property
    def images_at_once(self) -> int:
        return self.batch_size or (256 if self.device.startswith("cuda") else 32)


@dataclass(frozen=True)
class Score:
    """One row of the table for one model.

    label: the row's name with its direction, "FID Score (lower = better)".
    short: the name in the winners' line, "FID".
    interval: 95 %, or None where none is known (docs/measuring.md has the reason).
    replicates: for each sample that the score depends on ("generated", "reference"), the scores without each of its
    groups, in order. Two models' replicates without the same group give the interval of their difference.
    identity: extractor, protocol, precision. Scores with different identities are never compared.
    n_reference: 0 for scores that need no reference.
    floor: the same score for `floor_count` real images in the place of generated ones; `floor_meaning` says in words
    which images. floor_interval: its 95 % interval, or None where none is known.
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
    floor_interval: tuple[float, float] | None = None
    decimals: int = 1
    unit: str = ""


class MetricUnavailable(Exception):
    """A metric cannot score this comparison on this machine; the text is the reason that the table shows."""


class Metric(Protocol):
    """One entry of METRICS."""

    key: str

    def score(self, comparison: Comparison) -> list[Score]:
        """Return one or several rows. Images are streamed, never held all at once.

        Raises:
            MetricUnavailable: it cannot score this comparison; shown as n/a with the reason.
            ValueError, OSError: something that the user can repair.
        """
        ...
