"""What the records of a run tell of its time: seconds by phase, and what more would take."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmark.ranks.division import LEAST_SHARED_SECONDS, SECONDS_ALONE
from benchmark.report.files import JSON_NAME
from benchmark.run.column_folder import MARK_NAME
from benchmark.run.journal_lines import MAIN_WRITER, Batch, Finished, Loaded, Measured
from benchmark.run.recorded import recorded_lines


def columns_of(output: Path) -> list[Path]:
    """Return the folders of the columns below an OUTPUT_DIR."""
    return sorted(mark.parent for mark in output.glob(f"*/{MARK_NAME}"))


@dataclass(frozen=True)
class ColumnSeconds:
    """Seconds of a column on rank 0, by what they were for.

    load_s: loading, compiling and warming up in each of its processes. rounds_s: timed calls with their files. bulk_s:
    from the begin of the first call of bulk to the end of the last one, of all ranks.
    """

    name: str
    load_s: float
    rounds_s: float
    passes_s: float
    bulk_s: float
    bulk_images: int
    timed_images: int


@dataclass(frozen=True)
class RunSeconds:
    """Seconds of a whole run. wall_s: from its begin until results.json was there."""

    wall_s: float
    columns: tuple[ColumnSeconds, ...]

    @property
    def rest_s(self) -> float:
        """Imports, servers, data, searches for a batch size, scores and reports: what is none of the columns'."""
        return self.wall_s - sum(one.load_s + one.rounds_s + one.passes_s + one.bulk_s for one in self.columns)


def read_seconds(output: Path, wall_s: float | None = None) -> RunSeconds:
    """Return the seconds of the run in a folder, which was made by one call of the program.

    wall_s: of the program, where it is known better than results.json tells.

    Raises:
        OSError: the run has not come to its end.
    """
    results = output / JSON_NAME
    if wall_s is None:
        started = datetime.datetime.fromisoformat(json.loads(results.read_text(encoding="utf-8"))["started"])
        wall_s = results.stat().st_mtime - started.timestamp()
    return RunSeconds(wall_s, tuple(_column_seconds(column) for column in columns_of(output)))


def _column_seconds(column: Path) -> ColumnSeconds:
    lines = recorded_lines(column)
    last = {line.process: line for line in lines if isinstance(line, Loaded) and line.writer == MAIN_WRITER}
    batches = [line for line in lines if isinstance(line, Batch)]
    bulk = [line for line in batches if line.purpose == "bulk"]
    return ColumnSeconds(
        name=column.name,
        load_s=sum(line.load_s + line.warmup_s for line in last.values()),
        rounds_s=sum(
            line.loop_s for line in lines
            if isinstance(line, Finished) and line.purpose == "timed" and line.writer == MAIN_WRITER
        ),
        passes_s=sum(line.seconds for line in lines if isinstance(line, Measured)),
        bulk_s=_span_s(bulk),
        bulk_images=sum(line.size for line in bulk),
        timed_images=sum(line.size for line in batches if line.purpose == "timed"),
    )  # fmt: skip


def _span_s(calls: list[Batch]) -> float:
    if not calls:
        return 0.0
    return max(call.ended_at_s for call in calls) - min(call.ended_at_s - call.seconds for call in calls)


def rate_of(calls: list[Batch]) -> float | None:
    """Return the images per second of one rank's calls of bulk, from the end of its first one to the end of its last.

    None: there are fewer than two.
    """
    calls = sorted(calls, key=lambda call: call.ended_at_s)
    if len(calls) < 2:
        return None
    return sum(call.size for call in calls[1:]) / (calls[-1].ended_at_s - calls[0].ended_at_s)


def extrapolate(
    run: RunSeconds, images: int, gpus: int, *, efficiency: float = 1.0, features_per_s: float | None = None,
    decoded_per_s: float | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return the seconds by phase of a run with more images on so many GPUs, from a run on one GPU without scores.

    Loading, rounds, passes and the rest stay as they are: they are rank 0's. The last images of a long phase of bulk
    are made by rank 0 alone, which is the last term of that phase.

    efficiency: what `gpus` make in bulk, over `gpus` times what one makes. features_per_s: images through the metrics'
    network by `gpus` together; each column and the references have `images` of them. decoded_per_s: images that one
    rank decodes, to look for copies; each column has `images`, of which each rank has its share. None: nothing is
    scored.

    Raises:
        ValueError: a column of the run has no image in bulk.
    """
    bulk_s = 0.0
    for column in run.columns:
        if not column.bulk_images:
            raise ValueError(f"{column.name} has no images in bulk: give a run with a larger NUM_SAMPLES")
        one_s = (images - column.timed_images) * column.bulk_s / column.bulk_images
        shared_s = one_s / (gpus * efficiency)
        alone_s = SECONDS_ALONE * (1 - 1 / gpus) if shared_s >= LEAST_SHARED_SECONDS else 0.0
        bulk_s += shared_s + alone_s
    count = len(run.columns)
    return {
        "loading and compiling": sum(column.load_s for column in run.columns),
        "rounds": sum(column.rounds_s for column in run.columns),
        "passes": sum(column.passes_s for column in run.columns),
        "bulk": bulk_s,
        "features": 0.0 if features_per_s is None else (count + 1) * images / features_per_s,
        "looking for copies": 0.0 if decoded_per_s is None else count * images / (decoded_per_s * gpus),
        "rest": run.rest_s,
    }


def with_shares(seconds: Mapping[str, float]) -> dict[str, object]:
    """Return hours in all, and of each phase its seconds and its share."""
    total_s = sum(seconds.values())
    phases = {phase: {"seconds": value, "share": value / total_s} for phase, value in seconds.items()}
    return {"hours": total_s / 3600, "phases": phases}
