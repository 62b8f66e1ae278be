"""A column's journal as a result without scores, and a run as a whole."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence

from benchmark.data.reference import Reference
from benchmark.measure.machine import Machine
from benchmark.report.results import ModelResult, RunResult
from benchmark.run.journal import Journal
from benchmark.settings.fields import Settings

PROTOCOL = "from prompts to uint8 images on the device, synchronised; latency per image = batch seconds / batch size"


def timed_latencies(journal: Journal, count: int, batch_size: int) -> tuple[list[float], int]:
    """Return seconds per image for each timed batch of requests 0..count-1, and how many batches were left out.

    Left out are a cold first call, and a last batch of another size, unless there is nothing else.
    """
    batches = [batch for batch in journal.batches() if batch.start < count]
    usual = [batch for batch in batches if batch.size == batch_size and not batch.cold]
    kept = usual or [batch for batch in batches if not batch.cold] or batches
    return [batch.seconds / batch.size for batch in kept], len(batches) - len(kept)


def summarize(journal: Journal, count: int, batch_size: int, mode: str, title: str) -> ModelResult | None:
    """Return what `journal` holds of requests 0..count-1 as a result without scores; None if it holds no image."""
    latencies_s, left_out = timed_latencies(journal, count, batch_size)
    loaded = journal.loaded()
    if not latencies_s or loaded is None:
        return None
    batches = [batch for batch in journal.batches() if batch.start < count]
    images = sum(min(batch.stop, count) - batch.start for batch in batches)
    cold_s = next((batch.seconds for batch in batches if batch.cold), None)
    return ModelResult(
        name=title, mode=mode, parameters=loaded.parameters, image_size=loaded.image_size, batch_size=batch_size,
        images=images, latencies_s=tuple(latencies_s), left_out_batches=left_out, load_s=loaded.load_s,
        first_call_s=cold_s if loaded.first_call_s is None else loaded.first_call_s,
        warmup_s=loaded.warmup_s, peak_memory_bytes=loaded.peak_memory_bytes,
        notes=loaded.notes, folder=str(journal.folder),
    )  # fmt: skip


def describe_run(
    settings: Settings, machine: Machine, reference: Reference, models: Sequence[ModelResult],
    failures: Mapping[str, str], started: datetime.datetime, interrupted: bool, left_out: str = "",
) -> RunResult:  # fmt: skip
    """Return the run as it is reported: its columns, and all that their figures must be read with."""
    cycles = reference.cycles(settings.num_samples)
    note = f"; each caption was used up to {cycles} times, with new seeds" if cycles > 1 else ""
    if settings.weights != "random":
        note += "; their own images are among the references, so that a model may be nearer than other real images are"
    note += left_out
    unreadable = reference.without_picture()
    if unreadable:
        note += (
            f"; {unreadable} of {len(reference.rows)} rows have no image that decodes (input/manifest.jsonl says why)"
        )
    return RunResult(
        models=tuple(models), failures=failures, dataset=reference.name, dataset_note=note,
        num_samples=settings.num_samples, device=machine.name, dtype=machine.dtype, weights=settings.weights,
        versions=machine.versions, settings={name.upper(): str(value) for name, value in settings},
        started=started.isoformat(timespec="seconds"),
        protocol=f"{PROTOCOL}; batch size {settings.batch_size}, {settings.warmup} warm-up calls",
        no_quality="random weights" if settings.weights == "random" else "", interrupted=interrupted,
    )  # fmt: skip
