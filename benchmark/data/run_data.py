"""A run's data: prompts from DATASET, references from there or from REFERENCE, without what a LoRA was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from benchmark.data.arrangement import adopt_arrangement
from benchmark.data.captioned import keep_captioned, tell_captions
from benchmark.data.held_out import Kept, is_seen, keep_unseen, training_images
from benchmark.data.manifest_lines import Row
from benchmark.data.preparation import PreparedRows, prepare_rows, tell
from benchmark.data.prompts import PromptSet
from benchmark.data.reference import Reference
from benchmark.data.sources import is_same, open_prompts, open_reference
from benchmark.data.sources.base import CaptionedImages, Surveyed
from metrics.base import ImageSet, OpenTask, no_progress
from models.base import TrainingData


@dataclass(frozen=True)
class Sources:
    """Where a run's data come from; nothing is read or written yet.

    prompts: DATASET; captioned images give prompts, and the reference too where `reference` is None. So do rows that
    are on disk already: they are read where they lie. reference: REFERENCE, images or statistics.
    """

    prompts: CaptionedImages | PreparedRows | PromptSet
    reference: CaptionedImages | Reference | None = None

    @property
    def name(self) -> str:
        """The name of the prompts' data set."""
        return self.prompts.name

    def inputs(self, output: Path, rows: int, references: int) -> tuple[tuple[Path, int], ...]:
        """Return the folders in OUTPUT_DIR that images are written into, each with its number of rows.

        rows, references: as of `prepare_data`.
        """
        found = []
        if not isinstance(self.prompts, PromptSet | PreparedRows):
            count = max(rows, references) if self.reference is None else rows
            found.append((output / self.prompts.name / "input", count))
        if references and self.reference is not None and not isinstance(self.reference, Reference):
            found.append((output / self.reference.name / "input", references))
        return tuple(found)

    def adopted(self, output: Path) -> Sources:
        """Return the data sets arranged as fine-tuning prepared them in OUTPUT_DIR. Call it before FRESH=1 deletes."""
        prompts, reference = self.prompts, self.reference
        if not isinstance(prompts, PromptSet | PreparedRows):
            prompts = adopt_arrangement(prompts, output / prompts.name)
        if reference is not None and not isinstance(reference, Reference):
            reference = adopt_arrangement(reference, output / reference.name)
        return Sources(prompts, reference)


def open_sources(
    dataset: str, reference: str, *, assets: Path, seed: int, image_column: str = "", caption_column: str = ""
) -> Sources:
    """Return what DATASET and REFERENCE stand for. A REFERENCE that is DATASET itself is none of its own.

    The columns are DATASET's; IMAGE_COLUMN is REFERENCE's where DATASET is prompts without images.

    Raises:
        ValueError: a name stands for nothing that can be used there, or both data sets would be in one folder.
        OSError: a path does not exist or cannot be read.
    """
    prompts = open_prompts(
        dataset, assets=assets, seed=seed, image_column=image_column, caption_column=caption_column
    )  # fmt: skip
    is_text = isinstance(prompts, PromptSet)
    if not reference:
        if is_text and image_column:
            raise ValueError(f"IMAGE_COLUMN={image_column}: DATASET={dataset} holds no images; leave it out")
        return Sources(prompts)
    if not is_text and is_same(dataset, reference):
        return Sources(prompts)
    images = open_reference(reference, assets=assets, seed=seed, image_column=image_column if is_text else "")
    if images.identity == prompts.identity:  # one by another name
        return Sources(prompts)
    if images.name == prompts.name and not is_text and not isinstance(images, Reference):
        raise ValueError(
            f"DATASET={dataset} and REFERENCE={reference} are two data sets called {images.name}, whose images would "
            "be in one folder of OUTPUT_DIR: rename one of them"
        )
    return Sources(prompts, images)


@dataclass(frozen=True)
class Data:
    """The prompts and references of a run.

    reference: None where there are no reference images. digest: of what was left out of the prompts, "" where nothing
    was; note: for the report's footer. left_out: for each column with a LoRA, its training images among the rows.
    leaks: for each column whose training images could not be left out, what its scores must be read with.
    """

    prompts: PromptSet
    reference: Reference | None = None
    left_out: Mapping[str, ImageSet] = field(default_factory=dict)
    digest: str = ""
    note: str = ""
    leaks: Mapping[str, str] = field(default_factory=dict)


def prepare_data(
    sources: Sources,
    output: Path,
    rows: int,
    references: int,
    training: Mapping[str, TrainingData] | None = None,
    open_task: OpenTask = no_progress,
    announce: Callable[[str], None] = tell,
    is_prepared: bool = False,
) -> Data:
    """Prepare `rows` prompts and `references` reference images that no LoRA was trained on; images go to OUTPUT_DIR.

    training: what each column with a LoRA was trained on, by the columns' titles. Where too few rows are left of a data
    set, nothing is left out, and the columns are marked. references: 0 for a run without scores. Rows without a caption
    are no prompts: they are left out and counted. `announce` is told what lies in a folder and is no row.
    is_prepared: another process of the run has just done all of it, and this one reads what it wrote.

    Raises:
        OSError, ValueError: as `prepare_rows`, or no row has a caption.
    """
    training = training or {}
    seen = tuple(training.values())
    prompts, reference = sources.prompts, sources.reference
    used = [prompts, *([reference] if references and reference is not None else [])]
    for source in used:
        if isinstance(source, Surveyed):
            announce(source.survey.summary(source.name))

    def preparer(
        dataset: CaptionedImages | PreparedRows, what: str, captions_needed: bool = True
    ) -> Callable[[int], PreparedRows]:
        def prepare(count: int) -> PreparedRows:
            if isinstance(dataset, PreparedRows):
                return dataset
            with open_task(f"{dataset.name} {what}", count) as report:
                return prepare_rows(
                    dataset, output / dataset.name, count, lambda done, _: report(done), announce, is_prepared
                )

        return partial(keep_captioned, prepare) if captions_needed else prepare

    if isinstance(prompts, PromptSet):
        all_prompts = _as_rows(prompts)
        asked = keep_unseen(lambda _: all_prompts, rows, seen, with_images=False)
    elif reference is None:
        kept = keep_unseen(preparer(prompts, "references"), max(rows, references), seen)
        return _told(_paired(kept, training), kept.rows, used)
    else:
        asked = keep_unseen(preparer(prompts, "prompts"), rows, seen, with_images=False)
    real = None
    if references and reference is not None and not isinstance(reference, Reference):
        real = keep_unseen(preparer(reference, "references", captions_needed=False), references, seen)
    statistics = reference if references and isinstance(reference, Reference) else None
    note = prompts.note if isinstance(prompts, PromptSet) else ""
    return _told(_apart(asked, real, statistics, training, note), asked.rows, used)


def _told(data: Data, rows: PreparedRows, used: Sequence[object]) -> Data:
    """Return the data with a note of what was left out of the folders and rows that they were read from."""
    left_out = [source.survey.note(source.name) for source in used if isinstance(source, Surveyed)]
    return replace(data, note="; ".join(filter(None, (data.note, *left_out, *tell_captions(rows)))))


def _as_rows(prompts: PromptSet) -> PreparedRows:
    rows = (Row(p.row, p.text, p.class_label, None, "train", metadata=p.metadata) for p in prompts.prompts)
    return PreparedRows(prompts.name, prompts.identity, prompts.label_names, tuple(rows), prompts.exhausted)


def _paired(kept: Kept, training: Mapping[str, TrainingData]) -> Data:
    """Return the data of one captioned data set: each prompt has its image among the references."""
    data = Data(kept.rows.prompts, kept.rows.reference)
    if kept.too_few is not None:
        return replace(data, leaks=_leaks([(kept, "reference rows")], training))
    if not kept.removed:
        return data
    images = [row for row in kept.removed if any(known.holds_image(row.digest) for known in training.values())]
    note = (
        f"{len(kept.removed)} of {len(kept.looked_at.rows)} rows, whose image ({len(images)}) or caption "
        f"{' and '.join(training)} was trained on, are left out of prompts and references, for every column"
    )
    left_out = {title: training_images(images, known) for title, known in training.items()}
    return replace(data, left_out=left_out, digest=_digest(training), note=note)


def _apart(
    asked: Kept, real: Kept | None, statistics: Reference | None, training: Mapping[str, TrainingData], note: str
) -> Data:
    """Return the data of prompts and of references that do not belong to them."""
    parts = [(asked, "prompts"), *([(real, "reference rows")] if real is not None else [])]
    reference = statistics if real is None else replace(real.rows.reference, belongs_to="")
    if any(kept.too_few is not None for kept, _ in parts):
        # What is left out of the one alone would leave the other's leak: nothing is, and the columns say so.
        whole = real.looked_at.reference if real is not None else None
        reference = statistics if whole is None else replace(whole, belongs_to="")
        return Data(asked.looked_at.prompts, reference, note=note, leaks=_leaks(parts, training))
    removed = [row for kept, _ in parts for row in kept.removed]
    if not removed:
        return Data(asked.rows.prompts, reference, note=note)
    counts = [f"{len(kept.removed)} of {len(kept.looked_at.rows)} {what}" for kept, what in parts if kept.removed]
    left = f"{' and '.join(counts)}, whose image or caption {' and '.join(training)} was trained on, are left out"
    note = "; ".join([*([note] if note else []), f"{left}, for every column"])
    left_out = {title: training_images(removed, known) for title, known in training.items()}
    return Data(asked.rows.prompts, reference, left_out, _digest(training) if asked.removed else "", note)


def _digest(training: Mapping[str, TrainingData]) -> str:
    known = sorted({digest for data in training.values() for digest in data.images | data.captions})
    return hashlib.sha256("".join(known).encode()).hexdigest()[:16]


def _leaks(parts: list[tuple[Kept, str]], training: Mapping[str, TrainingData]) -> dict[str, str]:
    """Return for each column that was trained on some of the rows what its scores must be read with."""
    leaks = {}
    for title, data in training.items():
        told = []
        for kept, what in parts:
            trained = sum(is_seen(row, (data,)) for row in kept.looked_at.rows)
            others = len(kept.looked_at.rows) - trained if kept.too_few is None else kept.too_few
            if trained:
                told.append(f"{trained} of the {len(kept.looked_at.rows)} {what}, and only {others} others are left")
        if told:
            leaks[title] = f"trained on {'; on '.join(told)}: its scores say nothing about new images"
    return leaks
