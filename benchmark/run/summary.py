"""From what a column's folder holds to its result, and from the results to the run as it is reported."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from benchmark.data.run_data import Data
from benchmark.measure.machine import Machine
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.verdicts import decide
from benchmark.run.columns import Column
from benchmark.run.journal import Snapshot
from benchmark.settings.fields import Settings

PROTOCOL = "from prompts to uint8 images on the device, synchronised; latency per image = batch seconds / batch size"


def timed_latencies(snapshot: Snapshot, count: int, batch_size: int) -> tuple[list[float], int]:
    """Return seconds per image for each timed batch of requests 0..count-1, and how many batches were left out.

    Left out are a cold first call, and a last batch of another size, unless there is nothing else.
    """
    batches = [batch for batch in snapshot.batches if batch.start < count]
    usual = [batch for batch in batches if batch.size == batch_size and not batch.cold]
    kept = usual or [batch for batch in batches if not batch.cold] or batches
    return [batch.seconds / batch.size for batch in kept], len(batches) - len(kept)


def summarize(snapshot: Snapshot, column: Column) -> ModelResult | None:
    """Return what a column's folder holds of its requests as a result without scores; None if it holds no image."""
    count, batch_size = column.settings.num_samples, column.settings.batch_size
    latencies_s, left_out = timed_latencies(snapshot, count, batch_size)
    loaded = snapshot.loaded
    if not latencies_s or loaded is None:
        return None
    cold_s = next((batch.seconds for batch in snapshot.batches if batch.start < count and batch.cold), None)
    return ModelResult(
        name=column.title, mode=column.mode, parameters=loaded.parameters, image_size=loaded.image_size,
        batch_size=batch_size, images=len(snapshot.asked(count)), latencies_s=tuple(latencies_s),
        left_out_batches=left_out, load_s=loaded.load_s,
        first_call_s=cold_s if loaded.first_call_s is None else loaded.first_call_s,
        warmup_s=loaded.warmup_s, peak_memory_bytes=loaded.peak_memory_bytes,
        notes=loaded.notes, folder=str(snapshot.folder), baseline=column.baseline,
        class_conditional=loaded.class_conditional, family=column.key.family, options=column.key.options,
        axes=column.key.axes,
    )  # fmt: skip


def describe_run(
    settings: Settings, machine: Machine, data: Data, models: Sequence[ModelResult],
    failures: Mapping[str, str], started: datetime.datetime, interrupted: bool,
) -> RunResult:  # fmt: skip
    """Return the run as it is reported: its columns, and all that their figures must be read with."""
    return RunResult(
        models=tuple(models), failures=dict(failures), dataset=data.prompts.name, dataset_note=_note(settings, data),
        num_samples=settings.num_samples, device=machine.name, dtype=machine.dtype, weights=settings.weights,
        versions=machine.versions, settings={name.upper(): str(value) for name, value in settings},
        started=started.isoformat(timespec="seconds"),
        protocol=f"{PROTOCOL}; batch size {settings.batch_size}, {settings.warmup} warm-up calls",
        no_quality="random weights" if settings.weights == "random" else "", interrupted=interrupted,
        verdicts=decide(models),
    )  # fmt: skip


def _note(settings: Settings, data: Data) -> str:
    """Return what the footer says of the data behind the number of requests."""
    cycles = data.prompts.cycles(settings.num_samples)
    notes = [f"each prompt was used up to {cycles} times, with new seeds"] if cycles > 1 else []
    reference = data.reference
    if settings.weights != "random":
        if reference is None:
            notes.append("no reference images")
        elif reference.belongs_to:
            notes.append(
                "the references include the images that these captions came from, so scores can fall below the floor"
            )
        else:
            notes.append(f"references: {reference.name}")
    if data.note:
        notes.append(data.note.removeprefix("; "))
    if reference is not None and (unreadable := reference.without_image()):
        notes.append(
            f"{unreadable} of {len(reference.rows)} rows have no image that decodes (input/manifest.jsonl says why)"
        )
    return "".join(f"; {note}" for note in notes)
