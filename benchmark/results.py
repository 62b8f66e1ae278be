"""What a run found: one result for each column, raw latencies kept, and the whole as JSON and CSV."""

from __future__ import annotations

import csv
import datetime
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.journal import Journal
from metrics.base import Score

if TYPE_CHECKING:
    from benchmark.machine import Machine
    from benchmark.reference import Reference
    from benchmark.settings import Settings

SCHEMA_VERSION = 1
PROTOCOL = "from prompts to uint8 images on the device, synchronised; latency per image = batch seconds / batch size"


@dataclass(frozen=True)
class ModelResult:
    """One column. Latency per image is batch seconds / batch size; `latencies_s` has one entry for each timed batch.

    baseline: the column that this one is paired with, the same model without its adapter; "" for all others.
    error: why this model has no (or not all) images; empty if all went well. unscored: metric name to the reason
    why it has no value. warnings: what is wrong with the pictures themselves, whatever they score.
    """

    name: str
    mode: str
    parameters: int
    image_size: int
    batch_size: int
    images: int
    latencies_s: tuple[float, ...]
    left_out_batches: int
    load_s: float
    first_call_s: float | None
    warmup_s: float
    peak_memory_bytes: int | None
    notes: tuple[str, ...]
    folder: str
    scores: tuple[Score, ...] = ()
    unscored: Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()
    error: str = ""
    baseline: str = ""

    @property
    def mean_latency_s(self) -> float:
        return statistics.fmean(self.latencies_s)

    @property
    def std_latency_s(self) -> float:
        """Sample standard deviation over batches; NaN for a single one."""
        return statistics.stdev(self.latencies_s) if len(self.latencies_s) > 1 else math.nan

    @property
    def throughput_per_s(self) -> float:
        """Images per second of timed generation."""
        return 1.0 / self.mean_latency_s

    @property
    def efficiency(self) -> float:
        """Images per second per million parameters."""
        return self.throughput_per_s / (self.parameters / 1e6)

    def score(self, key: str) -> Score | None:
        """Return the row `key`, or None where it has no value."""
        return next((score for score in self.scores if score.key == key), None)


@dataclass(frozen=True)
class RunResult:
    """A whole run. `quality` says why no model has quality figures ("random weights"), or is empty."""

    models: tuple[ModelResult, ...]
    failures: Mapping[str, str]
    dataset: str
    dataset_note: str
    num_samples: int
    device: str
    dtype: str
    weights: str
    versions: Mapping[str, str]
    settings: Mapping[str, str]
    started: str
    protocol: str
    no_quality: str = ""
    interrupted: bool = False


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
        note += (
            "; their own pictures are among the references, so that a model may be nearer than other real pictures are"
        )
    note += left_out
    unreadable = reference.without_picture()
    if unreadable:
        note += (
            f"; {unreadable} of {len(reference.rows)} rows have no picture that decodes (input/manifest.jsonl says why)"
        )
    return RunResult(
        models=tuple(models), failures=failures, dataset=reference.name, dataset_note=note,
        num_samples=settings.num_samples, device=machine.name, dtype=machine.dtype, weights=settings.weights,
        versions=machine.versions, settings={name.upper(): str(value) for name, value in settings},
        started=started.isoformat(timespec="seconds"),
        protocol=f"{PROTOCOL}; batch size {settings.batch_size}, {settings.warmup} warm-up calls",
        no_quality="random weights" if settings.weights == "random" else "", interrupted=interrupted,
    )  # fmt: skip


def write_json(run: RunResult, path: Path) -> None:
    """Write everything, raw latencies too, with `schema_version`; numbers that are not finite become null."""
    content = {"schema_version": SCHEMA_VERSION, **asdict(run)}
    for column, model in zip(content["models"], run.models, strict=True):
        column["latency_s"] = {
            "mean": model.mean_latency_s, "std": model.std_latency_s,
            "min": min(model.latencies_s), "max": max(model.latencies_s),
        }  # fmt: skip
        column["throughput_per_s"] = model.throughput_per_s
        column["efficiency_per_s_per_million_parameters"] = model.efficiency
    path.write_text(json.dumps(_finite(content), indent=1) + "\n")


def write_csv(run: RunResult, path: Path) -> None:
    """Write one line per model, with units in the columns' names and one column per score."""
    keys = list(dict.fromkeys(score.key for model in run.models for score in model.scores))
    rows = []
    for model in run.models:
        row: dict[str, object] = {
            "model": model.name, "mode": model.mode, "parameters": model.parameters, "images": model.images,
            "batch_size": model.batch_size, "image_size_px": model.image_size, "mean_latency_s": model.mean_latency_s,
            "std_latency_s": model.std_latency_s, "min_latency_s": min(model.latencies_s),
            "max_latency_s": max(model.latencies_s), "throughput_per_s": model.throughput_per_s,
            "peak_memory_bytes": model.peak_memory_bytes, "load_s": model.load_s, "first_call_s": model.first_call_s,
        }  # fmt: skip
        for key in keys:
            score = model.score(key)
            row[key] = "" if score is None else score.value
        rows.append(row)
    with path.open("w", newline="") as file:
        if rows:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


def _finite(value: object) -> object:
    """JSON has no NaN: a number that is not finite is written as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
