"""What a run found: one result for each column, raw latencies kept; the whole as JSON, which is read back, and CSV."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmark.console.plain_text import visible
from benchmark.report.ownership import CSV_COLUMNS
from files import PROGRAM
from files.reading import shown
from files.records import Damaged, read_record, write_record
from files.writing import write_text
from metrics.base import Score

SCHEMA_VERSION = 1
# What makes a spreadsheet compute a cell, in the full-width forms too, which some convert.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_CSV_QUOTED = re.compile(r"[,;|\"'\t\r\n]|^\s|\s$")
# What has to be there for results to be read, and of which type.
_RUN_FIELDS: dict[str, type | tuple[type, ...]] = {
    "models": list, "failures": dict, "dataset": str, "dataset_note": str, "num_samples": int, "device": str,
    "dtype": str, "weights": str, "versions": dict, "settings": dict, "started": str, "protocol": str,
    "no_quality": str, "interrupted": bool, "stop_status": int,
}  # fmt: skip
_MODEL_FIELDS: dict[str, type | tuple[type, ...]] = {
    "name": str, "mode": str, "parameters": int, "image_size": int, "batch_size": int, "images": int,
    "latencies_s": list, "left_out_batches": int, "notes": list, "folder": str, "scores": list, "warnings": list,
    "error": str, "baseline": str, "latency_s": dict, "throughput_per_s": (int, float),
}  # fmt: skip
_SCORE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "key": str,
    "label": str,
    "short": str,
    "better": str,
    "n_generated": int,
    "n_reference": int,
}


@dataclass(frozen=True)
class ModelResult:
    """One column. Latency per image is batch seconds / batch size; `latencies_s` has one entry for each timed batch.

    baseline: the column that this one is paired with, the same model without its adapter; "" for all others.
    error: why this model has no (or not all) images; empty if all went well. unscored: metric name to the reason
    why it has no value. warnings: what is wrong with the images themselves, whatever they score.
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
    """A whole run. `no_quality` says why no model has quality figures ("random weights"), or is empty.

    stop_status: the exit status for the signal that ended the run, 0 where none did.
    """

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
    stop_status: int = 0


def write_json(run: RunResult, path: Path) -> None:
    """Write everything, raw latencies too, with `schema_version` and a checksum; what is not finite becomes null.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    content = {"program": PROGRAM, "schema_version": SCHEMA_VERSION, **asdict(run)}
    for column, model in zip(content["models"], run.models, strict=True):
        column["latency_s"] = {
            "mean": model.mean_latency_s, "std": model.std_latency_s,
            "min": min(model.latencies_s), "max": max(model.latencies_s),
        }  # fmt: skip
        column["throughput_per_s"] = model.throughput_per_s
        column["efficiency_per_s_per_million_parameters"] = model.efficiency
    write_record(path, {name: _finite(value) for name, value in content.items()})


def read_results(path: Path) -> dict[str, Any]:
    """Return the content of a results.json, as `write_json` wrote it, without its checksum.

    Raises:
        OSError: it cannot be read.
        ValueError: it is damaged, of another program or another version; one line that names the file.
    """
    try:
        content = read_record(path)
        if content.get("program") != PROGRAM or content.get("schema_version") != SCHEMA_VERSION:
            raise Damaged(f"it is not of {PROGRAM} with schema_version {SCHEMA_VERSION}")
        _check_fields(content, _RUN_FIELDS, "the run")
        for model in content["models"]:
            _check_fields(model, _MODEL_FIELDS, "a model")
            if not model["latencies_s"] or not all(_is_number(value) and value > 0 for value in model["latencies_s"]):
                raise Damaged(f"latencies_s of {model['name']} are not all numbers above 0")
            for score in model["scores"]:
                _check_fields(score, _SCORE_FIELDS, f"a score of {model['name']}")
    except Damaged as error:
        text = visible(f"{shown(path)} cannot be read as results: {error}")
        raise ValueError(f"{text}; run the benchmark again, which writes it anew") from error
    return content


def _check_fields(found: object, fields: Mapping[str, type | tuple[type, ...]], whose: str) -> None:
    """Raise Damaged where a field is missing or of another type."""
    if not isinstance(found, dict):
        raise Damaged(f"{whose} is a {type(found).__name__} instead of a JSON object")
    for name, kind in fields.items():
        if not isinstance(found.get(name), kind) or (isinstance(found[name], bool) and kind is not bool):
            raise Damaged(f"{name} of {whose} is {'missing' if name not in found else type(found[name]).__name__}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def write_csv(run: RunResult, path: Path) -> None:
    """Write one line per model, with units in the columns' names and one column per score.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    keys = list(dict.fromkeys(score.key for model in run.models for score in model.scores))
    lines: list[list[object]] = [[*CSV_COLUMNS, *keys]]
    for model in run.models:
        figures = {
            "model": model.name, "mode": model.mode, "parameters": model.parameters, "images": model.images,
            "batch_size": model.batch_size, "image_size_px": model.image_size, "mean_latency_s": model.mean_latency_s,
            "std_latency_s": model.std_latency_s, "min_latency_s": min(model.latencies_s),
            "max_latency_s": max(model.latencies_s), "throughput_per_s": model.throughput_per_s,
            "peak_memory_bytes": model.peak_memory_bytes, "load_s": model.load_s, "first_call_s": model.first_call_s,
        }  # fmt: skip
        scores = [model.score(key) for key in keys]
        lines.append([figures[name] for name in CSV_COLUMNS] + [score and score.value for score in scores])
    write_text(path, "".join(",".join(map(_csv_cell, line)) + "\r\n" for line in lines))


def _csv_cell(value: object) -> str:
    """Return a cell. A text that a spreadsheet would compute gets an apostrophe before it; a number never does.

    A text is quoted where any program could see two cells in it: by a comma, or by what stands for one elsewhere.
    """
    if not isinstance(value, str):
        return "" if value is None else str(value)
    text = visible(value)
    if text.lstrip().startswith(_FORMULA_STARTS):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _CSV_QUOTED.search(text) else text


def _finite(value: object) -> object:
    """JSON has no NaN: a number that is not finite is written as null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
