"""What a run found for one column: what it is, its rounds, its bulk and its scores."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmark.measure.findings import Findings, MachineState
from benchmark.report.host_throughput import HostThroughput
from metrics.base import Score

# A 95th percentile of fewer timed batches than this is little else than the longest of them.
PERCENTILE_FROM = 20


@dataclass(frozen=True)
class Round:
    """The timed batches of one round, which a fresh process made; of more than one where the first was interrupted.

    number: from 0. processes: their identities, the first one first.
    latencies_s: seconds per image, one for each timed batch, at least one. images: how many requests they were for.
    complete: every request that is to be timed was.
    equal, compared: of how many images the pixels are those of the recorded image, and how many could be compared;
    0 and 0 in the round whose images were kept.
    load_s, first_call_s, warmup_s: of the first process; warmup_s of all untimed calls, the first one too.
    sessions: which runs of the program made its timed calls; more than one where the first was interrupted.
    warmup_agreed: the untimed calls took the same time in the end, in each of the processes.
    findings: of the passes that followed the timed batches. states: of the machine, at the start and at the end of each
    process, in that order.
    """

    number: int
    processes: tuple[str, ...]
    latencies_s: tuple[float, ...]
    images: int
    complete: bool
    equal: int
    compared: int
    load_s: float
    first_call_s: float
    warmup_s: float
    warmup_agreed: bool
    sessions: tuple[str, ...] = ()
    findings: Findings = field(default_factory=Findings)
    states: tuple[MachineState, ...] = ()

    @property
    def mean_latency_s(self) -> float:
        return statistics.fmean(self.latencies_s)

    @property
    def other_processes(self) -> tuple[str, ...]:
        """Processes that are not of this run and had the card in use; with one, the round decides nothing."""
        return tuple(dict.fromkeys(name for state in self.states for name in state.other_processes))

    @property
    def counts(self) -> bool:
        """Whether it takes part in statistics and verdicts: it is complete, and nothing else had the card in use."""
        return self.complete and not self.other_processes


@dataclass(frozen=True)
class CardRound:
    """The timed batches of one round on another card of the host than the column's own; fields as those of `Round`."""

    number: int
    latencies_s: tuple[float, ...]
    complete: bool
    states: tuple[MachineState, ...] = ()

    @property
    def mean_latency_s(self) -> float:
        return statistics.fmean(self.latencies_s)

    @property
    def counts(self) -> bool:
        """Whether it takes part in the comparison of cards: it is complete, and nothing else had the card in use."""
        return self.complete and not any(state.other_processes for state in self.states)


@dataclass(frozen=True)
class Card:
    """Another card of the host on which the column's requests were timed too.

    rounds: ascending by number, at least one, each with a timed batch.
    """

    uuid: str
    rounds: tuple[CardRound, ...]


@dataclass(frozen=True)
class Bulk:
    """The images beyond the timed ones, made for quality alone.

    batch_sizes: in the order of use; more than one where memory ran out.
    images, seconds: how many images the recorded calls gave, and how long these calls took. images_per_s: of both.
    trials: (batch size, seconds per image) of the search for the size; empty where it was given.
    """

    batch_sizes: tuple[int, ...]
    images: int
    seconds: float
    images_per_s: float
    trials: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class ModelResult:
    """One column. Latency per image is batch seconds / batch size.

    rounds: ascending by number, at least one, each with a timed batch.
    timed_images: how many requests each round is to time. images: how many there are, timed and bulk.
    bulk: None where all images are timed ones.
    looks: of how many rounds each earlier verdict on this column was formed, in that order.
    baseline: the column that this one is paired with, the same model without its LoRA; "" for all others.
    class_conditional: it is asked for classes, not for prompts, and is left out of paired rows.
    family, options, axes: the column's key; option and axis names to their values as text.
    model: the model's name, the title without what tells its columns apart; columns of one model are its
    configurations. is_default: of these, the one that winner lines compare with other models.
    unscored: metric name to the reason why it has no value.
    warnings: what is wrong with the images themselves, whatever they score.
    host_throughput: of all processes of one host together; None where images were never made by several at once.
    made_by: how many of the images each rank made, by the name of its host and that of its writer; without those whose
    host is not known. cards: other cards of the host that were timed too. No other figure has anything of them.
    """

    name: str
    mode: str
    parameters: int
    image_size: int
    batch_size: int
    images: int
    timed_images: int
    rounds: tuple[Round, ...]
    peak_memory_bytes: int | None
    notes: tuple[str, ...]
    folder: str
    bulk: Bulk | None = None
    looks: tuple[int, ...] = ()
    scores: tuple[Score, ...] = ()
    unscored: Mapping[str, str] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    baseline: str = ""
    class_conditional: bool = False
    family: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    axes: Mapping[str, str] = field(default_factory=dict)
    model: str = ""
    is_default: bool = True
    host_throughput: HostThroughput | None = None
    made_by: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    cards: tuple[Card, ...] = ()

    @property
    def undisturbed_rounds(self) -> tuple[Round, ...]:
        """The rounds in which nothing else had the card in use; all of them where there is no such round."""
        return tuple(found for found in self.rounds if not found.other_processes) or self.rounds

    @property
    def latencies_s(self) -> tuple[float, ...]:
        """Seconds per image, one for each timed batch of every undisturbed round."""
        return tuple(seconds for found in self.undisturbed_rounds for seconds in found.latencies_s)

    @property
    def mean_latency_s(self) -> float:
        return statistics.fmean(self.latencies_s)

    @property
    def std_latency_s(self) -> float | None:
        """Sample standard deviation over timed batches; None for a single one."""
        return statistics.stdev(self.latencies_s) if len(self.latencies_s) > 1 else None

    @property
    def median_latency_s(self) -> float:
        return statistics.median(self.latencies_s)

    @property
    def p95_latency_s(self) -> float | None:
        """95th percentile, interpolated between batches; None of fewer than PERCENTILE_FROM."""
        if len(self.latencies_s) < PERCENTILE_FROM:
            return None
        return statistics.quantiles(self.latencies_s, n=20, method="inclusive")[-1]

    @property
    def round_spread(self) -> float | None:
        """Sample standard deviation of the means of the rounds that count / their mean; None of fewer than two."""
        means = [found.mean_latency_s for found in self.rounds if found.counts]
        return statistics.stdev(means) / statistics.fmean(means) if len(means) > 1 else None

    @property
    def load_s(self) -> float:
        """Seconds that loading took in the first round."""
        return self.rounds[0].load_s

    @property
    def first_call_s(self) -> float:
        """Seconds of the first round's first call; in compiled mode it compiles."""
        return self.rounds[0].first_call_s

    @property
    def warmup_s(self) -> float:
        """Seconds of all untimed calls of the first round."""
        return self.rounds[0].warmup_s

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
