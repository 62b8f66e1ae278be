"""The verdicts in report.html: each line behind its outcome, and every pair of columns with its intervals."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from benchmark.console.plain_text import visible
from benchmark.report.latency_ratios import TIE_RATIO
from benchmark.report.numbers import NO_VALUE, has_value, shown_interval, shown_number
from benchmark.report.verdicts import Pair, Verdict, format_verdict

VERDICT_STYLE = """
.winners { list-style: none; padding-left: 0; }
.outcome { display: inline-block; width: 7em; text-align: center; font-size: 12px; border-radius: 3px; }
.pairs th:nth-child(2), .pairs td:nth-child(2) { text-align: left; }
.WIN { background: #bfe3c8; } .TIE { background: #cfdff5; } .UNDECIDED { background: #f3e3b5; }
"""
_LARGE_RATIO = 1000.0


def list_winners(verdicts: Sequence[Verdict]) -> str:
    """Return the line of each verdict, behind its outcome."""
    lines = [f"<li>{_badge_of(verdict)} {_text(format_verdict(verdict))}</li>" for verdict in verdicts]
    return f'<ul class="winners">{"".join(lines)}</ul>'


def tabulate_pairs(verdicts: Sequence[Verdict]) -> str:
    """Return a table of every pair of columns that were compared, with the rule that reads it; "" where none were."""
    rows = [row for verdict in verdicts for row in _rows(verdict)]
    if not rows:
        return ""
    names = ("Question", "Columns", "First to second", "95 % interval", "Interval for a win", "Outcome")
    head = "".join(f"<th>{name}</th>" for name in names)
    percent = f"{100 * (TIE_RATIO - 1):.0f} %"
    rule = (
        f"TIE: the 95 % interval lies within {percent} of 1. WIN: not a TIE, and the interval for a win excludes 1; "
        "the winner wins against every other column. UNDECIDED: neither. For quality, it is the interval of a "
        f"difference: a TIE lies within {percent} of the better score, a WIN excludes 0."
    )
    return (
        f"<h2>Every pair of columns</h2><p><small>{rule}</small></p>"
        f'<table class="pairs"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    )


def _rows(verdict: Verdict) -> list[str]:
    group = f" [{verdict.group}]" if verdict.group else ""
    rows = []
    for pair in verdict.pairs:
        if verdict.question == "quality":
            value = f"{verdict.short} {_signed(pair.value, verdict.decimals)}"
            intervals = [
                shown_interval(pair.interval, verdict.decimals),
                shown_interval(pair.win_interval, verdict.decimals),
            ]
        else:
            value = f"{_ratio(pair.value)}x"
            intervals = [_ratios(pair.interval), _ratios(pair.win_interval)]
        to_win = f"{intervals[1]} ({_level(pair, verdict.rounds)})" if intervals[1] else ""
        texts = (
            f"{verdict.question.capitalize()}{group}", f"{pair.first} to {pair.second}", value,
            intervals[0] or NO_VALUE, to_win or NO_VALUE,
        )  # fmt: skip
        cells = "".join(f"<td>{_text(text)}</td>" for text in texts)
        rows.append(f"<tr>{cells}<td>{_badge(pair.outcome)}</td></tr>")
    return rows


def _level(pair: Pair, rounds: int) -> str:
    look = f", look {pair.look}" if pair.look > 1 else ""
    by = f", {pair.rounds} of {rounds} rounds" if pair.rounds < rounds else ""
    return f"{100 * pair.confidence:.0f} %{look}{by}"


def _signed(value: float, decimals: int) -> str:
    return f"{value:+.{decimals}f}" if has_value(value) else NO_VALUE


def _ratio(value: float) -> str:
    return f"{value:.3g}" if has_value(value) and value >= _LARGE_RATIO else shown_number(value, 3)


def _ratios(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else "..".join(map(_ratio, interval))


def _badge_of(verdict: Verdict) -> str:
    """Return a verdict's outcome; of a question that was not asked, or of one column alone, that there is none."""
    is_answer = verdict.rule not in ("no score", "only model", "only score")
    return _badge(verdict.outcome) if is_answer else f'<b class="outcome">{NO_VALUE}</b>'


def _badge(outcome: str) -> str:
    return f'<b class="outcome {outcome}">{outcome}</b>'


def _text(text: str) -> str:
    return escape(visible(text))
