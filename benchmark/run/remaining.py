"""What a run has still to make, and how long that takes by the calls that its columns' folders record."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmark.run.columns import Column
from benchmark.run.journal_lines import Batch, Loaded, Measured, Timed
from benchmark.run.recorded import count_images, recorded_lines
from benchmark.run.slices import lacking_rounds, timed_slices

HOUR_S, MINUTE_S = 3600.0, 60.0


@dataclass(frozen=True)
class Remaining:
    """What a column lacks.

    images: to be made, timed or not. rounds: that lack a timed call. seconds: of all calls, warm-up and passes; None
    where no timed call of the column is recorded. load_s: of loading the model once.
    """

    column: Column
    images: int
    rounds: int
    seconds: float | None
    load_s: float = 0.0


def remaining(column: Column, folder: Path, fresh: bool = False) -> Remaining:
    """Return what a column lacks of its images and rounds. fresh: all that is there is made again."""
    own, lines = column.settings, recorded_lines(folder)
    timed = [line for line in lines if isinstance(line, Timed)]
    slices = timed_slices(own.timed_count(), own.batch_size)
    lacking = lacking_rounds(slices, () if fresh else timed, own.rounds)
    images = max(0, own.num_samples - (0 if fresh else count_images(folder)))
    calls_s = [line.seconds for line in timed if line.batch_size == own.batch_size]
    if not calls_s:
        return Remaining(column, images, len(lacking), None)
    bulk = [line for line in lines if isinstance(line, Batch) and line.purpose == "bulk"]
    loaded = [line for line in lines if isinstance(line, Loaded) and line.purpose == "timed"]
    image_s = fmean(calls_s) / own.batch_size
    if bulk:
        image_s = sum(line.seconds for line in bulk) / sum(line.size for line in bulk)
    timed_images = sum(len(indices) for indices in lacking.get(0, ()))
    calls = sum(len(slices) for slices in lacking.values())
    passes = [line for line in lines if isinstance(line, Measured) and line.name in own.pass_names()]
    passes_s = sum(_mean(line.seconds for line in passes if line.name == name) for name in own.pass_names())
    seconds = (
        calls * fmean(calls_s)
        + max(0, images - timed_images) * image_s
        + len(lacking) * _mean(line.warmup_s for line in loaded)
        + min(len(lacking), 2) * passes_s  # in the first and the last round
    )
    return Remaining(column, images, len(lacking), seconds, _mean(line.load_s for line in loaded))


def describe_remaining(columns: Sequence[Remaining]) -> str:
    """Return one line on what a run would still make, and how long that takes by what is recorded."""
    lacking = [column for column in columns if column.images or column.rounds]
    if not lacking:
        return "left to do: nothing"
    images, rounds = sum(column.images for column in lacking), sum(column.rounds for column in lacking)
    parts = [_counted(count, what) for count, what in ((images, "image"), (rounds, "timed round")) if count]
    line = f"left to do: {' and '.join(parts)}"
    known = [column for column in lacking if column.seconds is not None]
    if not known:
        return f"{line}; no column has records that tell how long that takes"
    line += f", {_duration(_seconds(known))} for the {_counted(len(known), 'column')} with records"
    unknown = len(lacking) - len(known)
    return f"{line}; {unknown:,} {'has' if unknown == 1 else 'have'} none" if unknown else line


def _seconds(known: Sequence[Remaining]) -> float:
    """Return the seconds of all calls, and of loading each model once a round for all columns that one load serves."""
    loads_s: dict[Hashable, float] = {}
    for each in known:
        key = _loaded_alike(each.column)
        loads_s[key] = max(loads_s.get(key, 0.0), each.rounds * each.load_s)
    return sum(each.seconds or 0.0 for each in known) + sum(loads_s.values())


def _loaded_alike(column: Column) -> Hashable:
    """Return what columns have in common that a worker of a round loads once."""
    options = column.loaded_options
    if options is None:
        return column.key.digest
    return (column.model.family.key, column.name, tuple(sorted(column.key.axes.items())), options)


def _mean(seconds: Iterable[float]) -> float:
    values = list(seconds)
    return fmean(values) if values else 0.0


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' * (count != 1)}"


def _duration(seconds: float) -> str:
    """Return seconds as a plan needs them: minutes up to a quarter of an hour, then hours."""
    if seconds < MINUTE_S:
        return "less than a minute"
    if seconds < HOUR_S / 4:
        return f"about {_counted(round(seconds / MINUTE_S), 'minute')}"
    return f"about {seconds / HOUR_S:,.1f} hours"
