"""results.csv: the table's values, one line per column of the run, safe to open in a spreadsheet."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.plain_text import visible
from benchmark.report.cards import compare_cards, slowest_over_fastest
from benchmark.report.costs import energy_of
from benchmark.report.numbers import has_value
from benchmark.report.ownership import CSV_COLUMNS
from benchmark.report.results import RunResult
from files.writing import write_text

# Behind CSV_COLUMNS; the scores follow.
_FURTHER_COLUMNS = (
    "median_latency_s", "p95_latency_s", "rounds", "timed_images", "round_spread", "bulk_images_per_s",
    "energy_j_per_image", "images_per_kwh",
)  # fmt: skip
# Behind these, where a column was made by several ranks of a host, or timed on several cards.
_HOST_COLUMNS = ("host_ranks", "host_images_per_s", "host_ratio")
_CARD_COLUMNS = ("cards", "slowest_over_fastest_card", "slow_cards")
# What makes a spreadsheet compute a cell, in the full-width forms too, which some convert.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
_QUOTED = re.compile(r"[,;|\"'\t\r\n]|^\s|\s$")


def write_csv(run: RunResult, path: Path) -> None:
    """Write one line per model, with units in the columns' names and one column per score.

    Raises:
        OSError: it cannot be written; the former file is as it was.
    """
    keys = list(dict.fromkeys(score.key for model in run.models for score in model.scores))
    names = [*CSV_COLUMNS, *_FURTHER_COLUMNS]
    names += _HOST_COLUMNS if any(model.host_throughput for model in run.models) else ()
    names += _CARD_COLUMNS if any(model.cards for model in run.models) else ()
    lines: list[list[object]] = [[*names, *keys]]
    for model in run.models:
        energy, host, cards = energy_of(model), model.host_throughput, compare_cards(model)
        figures = {
            "model": model.name, "mode": model.mode, "parameters": model.parameters, "images": model.images,
            "batch_size": model.batch_size, "image_size_px": model.image_size, "mean_latency_s": model.mean_latency_s,
            "std_latency_s": model.std_latency_s, "min_latency_s": min(model.latencies_s),
            "max_latency_s": max(model.latencies_s), "throughput_per_s": model.throughput_per_s,
            "peak_memory_bytes": model.peak_memory_bytes, "load_s": model.load_s, "first_call_s": model.first_call_s,
            "median_latency_s": model.median_latency_s, "p95_latency_s": model.p95_latency_s,
            "rounds": sum(found.counts for found in model.rounds), "timed_images": model.timed_images,
            "round_spread": model.round_spread, "bulk_images_per_s": model.bulk and model.bulk.images_per_s,
            "energy_j_per_image": energy and energy.joules_per_image,
            "images_per_kwh": energy and energy.images_per_kwh,
            "host_ranks": host and host.ranks,
            "host_images_per_s": host and host.together and host.together.images_per_s,
            "host_ratio": host and host.ratio, "cards": len(cards) or None,
            "slowest_over_fastest_card": slowest_over_fastest(cards) if cards else None,
            "slow_cards": " ".join(card.uuid for card in cards if card.is_slow) or None,
        }  # fmt: skip
        scores = [model.score(key) for key in keys]
        lines.append([figures[name] for name in names] + [score and score.value for score in scores])
    write_text(path, "".join(map(csv_line, lines)))


def csv_line(cells: Sequence[object]) -> str:
    """Return a line of a CSV file; a text that a spreadsheet would compute stays a text."""
    return ",".join(map(_cell, cells)) + "\r\n"


def _cell(value: object) -> str:
    """Return a cell, empty where there is no value. A text that a spreadsheet would compute gets an apostrophe first.

    A number never does. A text is quoted where any program could see two cells in it: by a comma, or by what stands
    for one elsewhere.
    """
    if not isinstance(value, str):
        return "" if value is None or (isinstance(value, float) and not has_value(value)) else str(value)
    text = visible(value)
    if text.lstrip().startswith(_FORMULA_STARTS):
        text = "'" + text
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
