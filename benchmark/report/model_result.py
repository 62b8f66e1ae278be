"""What a run found for one column: what it is, its timed batches and its scores."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from metrics.base import Score


@dataclass(frozen=True)
class ModelResult:
    """One column. Latency per image is batch seconds / batch size; `latencies_s` has one entry for each timed batch.

    baseline: the column that this one is paired with, the same model without its LoRA; "" for all others.
    class_conditional: it is asked for classes, not for prompts, and is left out of paired rows.
    family, options, axes: the column's key; option and axis names to their values as text.
    unscored: metric name to the reason why it has no value.
    warnings: what is wrong with the images themselves, whatever they score.
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
    unscored: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    baseline: str = ""
    class_conditional: bool = False
    family: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)

    @property
    def mean_latency_s(self) -> float:
        return statistics.fmean(self.latencies_s)

    @property
    def std_latency_s(self) -> float | None:
        """Sample standard deviation over batches; None for a single one."""
        return statistics.stdev(self.latencies_s) if len(self.latencies_s) > 1 else None

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
