"""The comparison table, the winners and the footer: what a run prints on stdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmark.console.plain_text import visible
from benchmark.report.numbers import NO_VALUE, has_value, paired_interval, shown_interval, shown_number
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.verdicts import format_verdict
from metrics import METRICS
from metrics.base import Score

TITLE = "COMPREHENSIVE BENCHMARK RESULTS"
LABEL_WIDTH, COLUMN_WIDTH, LEAST_WIDTH = 35, 20, 80
# What a cell says of why there is no score; longer reasons stand in the footer alone.
LONGEST_CELL_REASON = len("no reference images")
SMALL_SECONDS = 0.1
FRECHET_BIASED_BELOW = 5000
WEIGHTS_MEANING = {
    "pretrained": "official, from the hub or from the local folders named in results.json",
    "random": "random, in the full-size architectures: speed and memory are real, the images are noise",
    "tiny": "small embedded models of the same architectures, not the published ones",
}


@dataclass(frozen=True)
class TableRow:
    """One row of the table: its label, and a cell for each model."""

    label: str
    cells: tuple[str, ...]


def format_report(run: RunResult) -> str:
    """Return the whole of stdout: table, winners, footer. Without any result: the reasons alone."""
    lines = [] if not run.models else [*_table_lines(run.models), "", "PERFORMANCE ANALYSIS:", "-" * 40]
    lines += verdict_lines(run) if run.models else [TITLE, "No model has a result."]
    return "\n".join(map(visible, [*lines, "", *footer_lines(run)]))


def verdict_lines(run: RunResult) -> list[str]:
    """Return the winners' lines."""
    return [format_verdict(verdict) for verdict in run.verdicts]


def table_rows(models: Sequence[ModelResult]) -> list[TableRow]:
    """Return the table's rows in order: the seven that are always there, then what else this run measured."""

    def row(label: str, cell: Callable[[ModelResult], str]) -> TableRow:
        return TableRow(label, tuple(cell(model) for model in models))

    # Two decimals as seconds are read; more where two would hide the difference between fast models.
    decimals = 2 if min(model.mean_latency_s for model in models) >= SMALL_SECONDS else 4
    rows = [
        row("Model Size (M params)", lambda model: f"{model.parameters / 1e6:.1f}"),
        row("Avg Inference Time (s)", lambda model: shown_number(model.mean_latency_s, decimals)),
        row("Std Inference Time (s)", lambda model: shown_number(model.std_latency_s, decimals)),
        row("Min Inference Time (s)", lambda model: shown_number(min(model.latencies_s), decimals)),
        row("Max Inference Time (s)", lambda model: shown_number(max(model.latencies_s), decimals)),
        row("Throughput (images/sec)", lambda model: _rate(model.throughput_per_s)),
        *(row(label, partial(_score, key=key)) for key, label in _score_labels(models)),
    ]
    if any(model.peak_memory_bytes for model in models):
        rows.append(row("Peak Device Memory (GB)", _peak))
    if any(model.mode == "compiled" for model in models):
        rows.append(row("Compile + First Call (s)", _first_call))
    return rows


def _table_lines(models: Sequence[ModelResult]) -> list[str]:
    names = [visible(model.name) for model in models]
    rows = [(visible(row.label), list(map(visible, row.cells))) for row in table_rows(models)]
    columns = max(COLUMN_WIDTH, *map(len, names), *(len(cell) for _, cells in rows for cell in cells))
    width = max(LEAST_WIDTH, LABEL_WIDTH + len(models) * (columns + 1))

    def line(label: str, cells: Sequence[str]) -> str:
        return " ".join([f"{label:<{LABEL_WIDTH}}", *(f"{cell:<{columns}}" for cell in cells)])

    header = [TITLE, "=" * width, line("Metric", names), "-" * width]
    return header + [line(label, cells) for label, cells in rows]


def _score_labels(models: Sequence[ModelResult]) -> list[tuple[str, str]]:
    """Return key and label of every row of quality: those with a value, then those that have none anywhere."""
    labels = {score.key: score.label for model in models for score in model.scores}
    for model in models:
        for name in model.unscored:
            labels.setdefault(_row_of(name), METRICS[name].label if name in METRICS else name)
    order = {_row_of(name): place for place, name in enumerate(METRICS)}
    places: dict[str, int] = {}
    for key in labels:  # a metric's further rows stay behind its first
        places[key] = order.get(key, list(places.values())[-1] if places else 0)
    return sorted(labels.items(), key=lambda item: places[item[0]])


def _row_of(name: str) -> str:
    """Return the key of a metric's first row."""
    return METRICS[name].row or name if name in METRICS else name


def _rate(images_per_s: float) -> str:
    return f"{images_per_s:.2f}" if images_per_s >= SMALL_SECONDS else f"{images_per_s:.4f}"


def _score(model: ModelResult, key: str) -> str:
    score = model.score(key)
    if score is not None:
        return shown_number(score.value, score.decimals)
    reason = next((reason for name, reason in model.unscored.items() if _row_of(name) == key), "")
    return f"{NO_VALUE} ({reason})" if 0 < len(reason) <= LONGEST_CELL_REASON else NO_VALUE


def _peak(model: ModelResult) -> str:
    return NO_VALUE if model.peak_memory_bytes is None else f"{model.peak_memory_bytes / 1e9:.1f}"


def _first_call(model: ModelResult) -> str:
    has_one = model.mode == "compiled" and has_value(model.first_call_s)
    return shown_number(model.first_call_s, 1) if has_one else "-"


def footer_lines(run: RunResult) -> list[str]:
    """Return what the table must be read with: machine, data, protocol, weights, identities, notes, failures."""
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    lines = [
        f"Device: {run.device}, {run.dtype}; {versions}; {run.started}",
        f"Data: {run.dataset}, {run.num_samples} requests per model{run.dataset_note}",
        f"Protocol: {run.protocol}",
        f"Weights: {WEIGHTS_MEANING[run.weights]}",
    ]
    lines += [f"Quality: n/a ({run.no_quality})"] if run.no_quality else _identities(run.models)
    lines += [] if run.no_quality else [*_paired(run.models), *_unscored(run.models)]
    for model in run.models:
        lines += [f"{model.name}: WARNING: {warning}" for warning in model.warnings]
        lines += [f"{model.name}: {note}" for note in model.notes]
        if model.images < run.num_samples:
            lines.append(f"{model.name}: {model.images} of {run.num_samples} images")
        if model.left_out_batches:
            lines.append(
                f"{model.name}: {model.left_out_batches} batch{'es' * (model.left_out_batches > 1)} not in the times "
                "(first call, or another size)"
            )
    lines += [f"{name}: failed: {reason}" for name, reason in run.failures.items()]
    if run.interrupted:
        lines.append("Interrupted; partial results. Run the same command to resume.")
    return lines


def _paired(models: Sequence[ModelResult]) -> list[str]:
    """One line for each column that is another with a LoRA: what that changed, of the same prompts and seeds."""
    by_name = {model.name: model for model in models}
    lines = []
    for model in models:
        baseline = by_name.get(model.baseline)
        if baseline is None:
            continue
        changes = []
        for score in model.scores:
            before = baseline.score(score.key)
            if before is None or (before.identity, before.n_generated) != (score.identity, score.n_generated):
                continue
            if not (has_value(before.value) and has_value(score.value)):
                continue
            text = f"{score.short} {score.value - before.value:+.{score.decimals}f}"
            interval = paired_interval(score, before)
            if interval is not None:
                text += f" (95 %: {interval[0]:+.{score.decimals}f}..{interval[1]:+.{score.decimals}f})"
            changes.append(text)
        if changes:
            lines.append(f"{model.name} against {baseline.name}, paired: {', '.join(changes)}")
    return lines


def _unscored(models: Sequence[ModelResult]) -> list[str]:
    """One line for each reason why metrics have no value: which metrics, for which models."""
    models_of: dict[tuple[str, str], list[str]] = {}
    for model in models:
        for name, reason in model.unscored.items():
            models_of.setdefault((name, reason), []).append(model.name)
    names_of: dict[tuple[str, str], list[str]] = {}
    for (name, reason), who in models_of.items():
        whose = "" if len(who) == len(models) else f" for {', '.join(who)}"
        names_of.setdefault((reason, whose), []).append(name)
    return [f"No {', '.join(names)}{whose}: {reason}" for (reason, whose), names in names_of.items()]


def _identities(models: Sequence[ModelResult]) -> list[str]:
    """One line for each kind of score: what it was computed with, on how many images, and how sure it is."""
    lines: dict[str, list[str]] = {}
    for model in models:
        for score in model.scores:
            against = f" against {score.n_reference}" if score.n_reference else ""
            line = f"{score.short}: {score.identity}, N = {score.n_generated}{against}"
            if has_value(score.floor):
                at = "" if score.floor_count == score.n_generated else f" at N = {score.floor_count}"
                line += f"; {score.floor_meaning} {shown_number(score.floor, score.decimals)}{at}"
            if score.key == "fid" and score.n_generated < FRECHET_BIASED_BELOW:
                line += f"; biased upwards below {FRECHET_BIASED_BELOW:,} images; small differences are noise"
            lines.setdefault(line, []).append(_interval(score, model))
    return [
        line + (f"; 95 % interval {', '.join(filter(None, intervals))}" if any(intervals) else "")
        for line, intervals in lines.items()
    ]


def _interval(score: Score, model: ModelResult) -> str:
    shown = shown_interval(score.interval, score.decimals)
    return f"{model.name} {shown}" if shown else ""
