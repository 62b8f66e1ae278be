"""The comparison of two runs as it is printed: what differs, the rows, and what the gate says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.console.plain_text import visible
from benchmark.report.comparison.differences import Difference
from benchmark.report.comparison.exit_status import INCOMPARABLE, WORSE
from benchmark.report.comparison.gate import GateTest
from benchmark.report.comparison.rows import Row
from benchmark.report.comparison.two_runs import ComparedRuns
from benchmark.report.latency_ratios import TIE_RATIO
from benchmark.report.numbers import NO_VALUE, has_value, shown_digits, shown_number
from benchmark.report.reasons import group_reasons

TITLE = "COMPARISON OF TWO RUNS"
_LONGEST_VALUE = 60
_MOST_MORE_DECIMALS = 3
_LARGE_RATIO = 1000.0
_PAIRING = {
    "paired": "the same prompts and seeds: paired",
    "reference paired": "other prompts or seeds: paired in the references alone",
    "unpaired": "unpaired",
}
_HEADS = ("Column", "Figure", "Old", "New", "Change", "95 % interval", "Outcome")


def format_comparison(compared: ComparedRuns) -> str:
    """Return the whole text, without a line break at its end."""
    lines = [TITLE, f"old: {compared.old} ({compared.old_started})", f"new: {compared.new} ({compared.new_started})"]
    lines += ["", *_differences(compared), "", *tabulate(_HEADS, [_cells(row) for row in compared.rows])]
    lines += ["", *_notes(compared), "", *_gate(compared)]
    return "\n".join(map(visible, lines))


def tabulate(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table in columns as wide as they must be."""
    shown = [[visible(cell) for cell in row] for row in (heads, *rows)]
    widths = [max(len(row[place]) for row in shown) for place in range(len(heads))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    return [lines[0], "-" * (sum(widths) + 2 * (len(widths) - 1)), *lines[1:]]


def shown_difference(value: float | None, interval: tuple[float, float] | None, decimals: int) -> tuple[str, str]:
    """Return a signed difference and its interval, with as many decimals as the width of the interval needs."""
    if value is None or not has_value(value):
        return NO_VALUE, NO_VALUE
    most = decimals + _MOST_MORE_DECIMALS
    width = abs(value) if interval is None else interval[1] - interval[0]
    while decimals < most and 0 < width < 3 * 10.0**-decimals:
        decimals += 1
    shown = "" if interval is None else f"{interval[0]:+.{decimals}f}..{interval[1]:+.{decimals}f}"
    return f"{value:+.{decimals}f}", shown or NO_VALUE


def shown_ratio(value: float | None) -> str:
    """Return a ratio with three decimals, "1.050", or n/a."""
    if value is None or not has_value(value):
        return NO_VALUE
    return f"{value:.3g}" if value >= _LARGE_RATIO else f"{value:.3f}"


def shown_ratio_interval(interval: tuple[float, float] | None) -> str:
    """Return the interval of a ratio, "1.031..1.069", or n/a."""
    return NO_VALUE if interval is None else "..".join(map(shown_ratio, interval))


def _differences(compared: ComparedRuns) -> list[str]:
    if compared.differences:
        lines = ["What differs:", *(f"  {_difference(each)}" for each in compared.differences)]
    else:
        lines = ["What differs: nothing that is recorded"]
    for which, names in (("old", compared.only_old), ("new", compared.only_new)):
        if names:
            lines.append(f"Only in the {which} run, and not compared: {', '.join(names)}")
    return lines


def _difference(each: Difference) -> str:
    old, new = _shortened(each.old, each.new)
    whose = f"{each.column}, " if each.column else ""
    return f"{whose}{each.what}: {old or '(empty)'} -> {new or '(empty)'}"


def _shortened(old: str, new: str) -> tuple[str, str]:
    """Return both texts so short that they fit a line: their starts, or their ends where those tell them apart."""
    starts = [text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..." for text in (old, new)]
    ends = [text if len(text) <= _LONGEST_VALUE else f"...{text[-_LONGEST_VALUE:]}" for text in (old, new)]
    return (starts[0], starts[1]) if starts[0] != starts[1] else (ends[0], ends[1])


def _cells(row: Row) -> tuple[str, ...]:
    if row.is_ratio:
        old, new = (shown_digits(value, 4) for value in (row.old, row.new))
        change = NO_VALUE if row.change is None else f"{shown_ratio(row.change)}x"
        interval = shown_ratio_interval(row.interval)
    else:
        old, new = (shown_number(value, row.decimals) for value in (row.old, row.new))
        change, interval = shown_difference(row.change, row.interval, row.decimals)
    return row.column, row.label, old, new, change, interval, _outcome(row)


def _outcome(row: Row) -> str:
    if row.outcome is None:
        return NO_VALUE
    machines = ", two machines" if row.across_machines else ""
    if row.outcome != "WIN":
        return f"{row.outcome}{machines}"
    word = "faster" if row.is_ratio else "better"
    return f"WIN: {row.winner} is {word}{machines}"


def _notes(compared: ComparedRuns) -> list[str]:
    """Return how the table is read, why figures are missing, and what is wrong with images."""
    percent = f"{100 * (TIE_RATIO - 1):.0f} %"
    lines = [
        "Change: new / old of latency, energy and memory; new - old of scores.",
        f"TIE: the interval lies within {percent} of no change. WIN: no TIE, and it excludes no change. UNDECIDED: "
        "neither.",
    ]
    if rounds := {row.rounds for row in compared.rows if row.rounds and row.outcome}:
        counts = ", ".join(f"{old} old and {new} new" for old, new in sorted(rounds))
        lines.append(f"Latency: each round is one value ({counts}); rounds of two runs are not paired (Welch).")
    for pairing, text in _PAIRING.items():
        labels = dict.fromkeys(row.label for row in compared.rows if row.pairing == pairing)
        if labels:
            lines.append(f"{', '.join(labels)}: {text}.")
    lines += _reasons(compared.rows)
    lines += [f"WARNING: {warning}" for warning in compared.warnings]
    return lines


def _reasons(rows: Sequence[Row]) -> list[str]:
    of_columns: dict[str, dict[str, str]] = {row.column: {} for row in rows}
    for row in rows:
        if row.reason:
            of_columns[row.column][row.label] = row.reason
    return _listed(of_columns)


def _listed(of_columns: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return a line for each reason: the rows and columns that it holds for."""
    lines = []
    for text, labels, columns in group_reasons(of_columns):
        whose = f" of {', '.join(columns)}" if columns else ""
        lines.append(f"n/a: {', '.join(labels)}{whose}: {text}")
    return lines


def _gate(compared: ComparedRuns) -> list[str]:
    gate = compared.gate
    lines = []
    for result in ("FAILED", "UNDECIDED"):
        lines += [f"  {result}: {_test(test)}" for test in gate.tests if test.result == result]
    passed = [test for test in gate.tests if test.result == "PASSED"]
    if passed:
        names: dict[str, list[str]] = {}
        for test in passed:
            names.setdefault(f"{test.label} ({_allowed(test)})", []).append(test.column)
        lines += [f"  PASSED: {label}: {', '.join(columns)}" for label, columns in names.items()]
    of_columns: dict[str, dict[str, str]] = {row.column: {} for row in compared.rows}
    for left in gate.not_gated:
        of_columns[left.column][left.label] = left.reason
    for line in _listed(of_columns):
        lines.append(f"  not gated: {line.removeprefix('n/a: ')}")
    count = len(gate.tests)
    told = f"{count} test{'s' * (count != 1)}, Holm-adjusted to 5 % together" if count else "nothing could be gated"
    return [f"GATE ({told}):", *lines, _result(compared)]


def _test(test: GateTest) -> str:
    level = f"{100 * test.confidence:.4g} %"
    if test.is_ratio:
        return (
            f"{test.column}, {test.label}: {shown_ratio(test.change)}x, {shown_ratio_interval(test.interval)} "
            f"({level}); {_allowed(test)}"
        )
    change, interval = shown_difference(test.change, test.interval, test.decimals)
    return f"{test.column}, {test.label}: worse by {change}, {interval} ({level}); {_allowed(test)}"


def _allowed(test: GateTest) -> str:
    if test.is_ratio:
        return f"allowed: {shown_ratio(test.threshold)}x"
    shown = shown_digits(test.threshold, 2)
    return f"allowed: {shown}{', twice the half-width of the floor' if test.is_default else ''}"


def _result(compared: ComparedRuns) -> str:
    tests = compared.gate.tests
    counts = {result: sum(test.result == result for test in tests) for result in ("FAILED", "UNDECIDED", "PASSED")}
    told = ", ".join(f"{count} {result.lower()}" for result, count in counts.items() if count) or "no test"
    if compared.exit_status == INCOMPARABLE:
        return "Result: nothing could be compared; exit status 2"
    if compared.exit_status == WORSE:
        return f"Result: worse by more than is allowed ({told}); exit status 1"
    untested = {True: "speed", False: "quality"}
    for test in tests:
        untested.pop(test.is_ratio, None)
    if untested:
        told += f"; {' and '.join(untested.values())} {'were' if len(untested) > 1 else 'was'} not tested"
    return f"Result: nothing is known to be worse by more than is allowed ({told}); exit status 0"
