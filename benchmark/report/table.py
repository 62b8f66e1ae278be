"""The comparison table and the winners, with the footer: what a run prints on stdout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from benchmark.console.plain_text import visible
from benchmark.report.cell_reasons import shorten_reason
from benchmark.report.costs import energy_of, why_unmeasured
from benchmark.report.equal_quality_text import equal_quality_lines
from benchmark.report.footer import footer_lines
from benchmark.report.host_throughput import LEAST_WINDOW_S, count_devices
from benchmark.report.numbers import NO_VALUE, has_value, shown_digits, shown_number
from benchmark.report.results import ModelResult, RunResult
from benchmark.report.verdicts import format_verdict
from metrics import METRICS

TITLE = "COMPREHENSIVE BENCHMARK RESULTS"
LABEL_WIDTH, COLUMN_WIDTH, LEAST_WIDTH = 35, 20, 80
# What a cell says of why there is no figure; longer reasons stand in the footer alone.
LONGEST_CELL_REASON = len("no reference images")
SMALL_SECONDS = 0.1


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
    """Return the winners' lines, and below them those of equal quality."""
    return [*(format_verdict(verdict) for verdict in run.verdicts), *equal_quality_lines(run.equal_quality)]


def table_rows(models: Sequence[ModelResult]) -> list[TableRow]:
    """Return the table's rows in order: the seven that are always there, further scores, what else was measured."""

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
    rows.append(row("Median Inference Time (s)", lambda model: shown_number(model.median_latency_s, decimals)))
    if any(model.p95_latency_s is not None for model in models):
        rows.append(row("p95 Inference Time (s)", lambda model: shown_number(model.p95_latency_s, decimals)))
    if any(model.bulk for model in models):
        rows.append(row("Images in bulk/s", _bulk_rate))
    hosts = [model.host_throughput for model in models if model.host_throughput and model.host_throughput.together]
    for devices in dict.fromkeys(count_devices(host.ranks, host.device) for host in hosts):
        rows.append(row(f"Throughput, {devices} (images/sec)", partial(_host_rate, devices=devices)))
    if hosts:
        rows.append(row(f"Throughput against one {hosts[0].device}", _host_ratio))
    if any(model.peak_memory_bytes for model in models):
        rows.append(row("Peak Device Memory (GB)", _peak))
    if any(model.mode == "compiled" for model in models):
        rows.append(row("Compile + First Call (s)", _first_call))
    if any(energy_of(model) or "energy" in why_unmeasured(model) for model in models):
        rows.append(row("Energy (J/image)", partial(_energy, figure="joules_per_image")))
        rows.append(row("Images per kWh", partial(_energy, figure="images_per_kwh")))
    return rows


def _table_lines(models: Sequence[ModelResult]) -> list[str]:
    names = [visible(model.name) for model in models]
    rows = [(visible(row.label), list(map(visible, row.cells))) for row in table_rows(models)]
    labels = max(LABEL_WIDTH, *(len(label) for label, _ in rows))
    columns = max(COLUMN_WIDTH, *map(len, names), *(len(cell) for _, cells in rows for cell in cells))
    width = max(LEAST_WIDTH, labels + len(models) * (columns + 1))

    def line(label: str, cells: Sequence[str]) -> str:
        return " ".join([f"{label:<{labels}}", *(f"{cell:<{columns}}" for cell in cells)])

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


def _bulk_rate(model: ModelResult) -> str:
    return NO_VALUE if model.bulk is None else _rate(model.bulk.images_per_s)


def _host_rate(model: ModelResult, devices: str) -> str:
    found = model.host_throughput
    if found is None:
        return _no_value("one process")
    if found.together is None:
        return _no_value(f"under {LEAST_WINDOW_S:.0f} s")
    made_by = count_devices(found.ranks, found.device)
    return _rate(found.together.images_per_s) if made_by == devices else _no_value(f"with {made_by}")


def _host_ratio(model: ModelResult) -> str:
    found = model.host_throughput
    if found is None or found.together is None:
        return NO_VALUE
    if found.ratio is None:
        return _no_value("too few calls")
    return f"{found.ratio:.2f}x of {found.ranks}"


def _score(model: ModelResult, key: str) -> str:
    score = model.score(key)
    if score is not None:
        return shown_number(score.value, score.decimals)
    reason = next((reason for name, reason in model.unscored.items() if _row_of(name) == key), "")
    return _no_value(reason)


def _no_value(reason: str) -> str:
    """Return the cell of a figure that there is not."""
    return f"{NO_VALUE} ({reason})" if 0 < len(reason) <= LONGEST_CELL_REASON else NO_VALUE


def _peak(model: ModelResult) -> str:
    return NO_VALUE if model.peak_memory_bytes is None else f"{model.peak_memory_bytes / 1e9:.1f}"


def _energy(model: ModelResult, figure: str) -> str:
    energy = energy_of(model)
    if energy is None:
        return _no_value(shorten_reason(why_unmeasured(model).get("energy", "")))
    return shown_digits(getattr(energy, figure))


def _first_call(model: ModelResult) -> str:
    has_one = model.mode == "compiled" and has_value(model.first_call_s)
    return shown_number(model.first_call_s, 1) if has_one else "-"
