"""The line of a verdict, as the table and the HTML report print it."""

from __future__ import annotations

from benchmark.report.latency_ratios import LEAST_ROUNDS, MOST_ROUNDS
from benchmark.report.verdict import Verdict

_RATIO_WORDS = {"speed": "faster", "efficiency": "more efficient"}
_MOST_DECIMALS = 4


def format_verdict(verdict: Verdict) -> str:
    """Return the line of one verdict: a winner with its margin, or "none" with the reason; a tie is called one."""
    group = f" [{verdict.group}]" if verdict.group else ""
    return f"{verdict.question.capitalize()} Winner{group}: {_answer(verdict)}"


def _answer(verdict: Verdict) -> str:
    if verdict.outcome == "WIN":
        return f"{verdict.winner} ({_margin(verdict)}{_timed_together(verdict)}{_left_out(verdict)})"
    if verdict.rule == "no score":
        return f"n/a ({verdict.reason})"
    return f"none ({_why_none(verdict)}{_timed_together(verdict)}{_left_out(verdict)})"


def _margin(verdict: Verdict) -> str:
    """Return why the winner has won, and by how much."""
    if verdict.rule == "only model":
        return "the only model"
    if verdict.rule == "only score":
        return "the only model with a score"
    if verdict.ratio is not None:
        ratio = f"{verdict.ratio:.1f}" if verdict.ratio >= 1.05 else f"{verdict.ratio:.2f}"
        return f"{ratio}x {_RATIO_WORDS[verdict.question]}{_than(verdict)}"
    return _by_score(verdict) + _biased(verdict)


def _why_none(verdict: Verdict) -> str:
    if verdict.question != "quality":
        return _why_none_by_rounds(verdict)
    if verdict.rule == "not comparable":
        return "the scores are of different sizes or kinds and cannot be compared"
    if verdict.rule == "biased":
        return f"{verdict.biased}; add kid to METRICS"
    first = verdict.ranked[0]
    if verdict.rule == "same value":
        return f"{first} and {verdict.runner_up} have the same {verdict.short}"
    if verdict.rule == "warning":
        only = "is the only model with a score" if len(verdict.ranked) < 2 else "scores best"
        return f"{first} {only}, but it has a warning, see below"
    if verdict.rule == "tie":
        return f"{first} and {verdict.runner_up} tie: {_by(verdict)}, {_advantage(verdict)}{_biased(verdict)}"
    ending = "within noise: undecided" if verdict.rule == "within noise" else "of too few images to tell"
    return f"{first}'s {_by_score(verdict)}, {ending}{_biased(verdict)}"


def _why_none_by_rounds(verdict: Verdict) -> str:
    if verdict.rule == "too few rounds":
        rounds = "1 round decides" if verdict.rounds == 1 else f"{verdict.rounds} rounds decide"
        return f"{rounds} nothing: ROUNDS={LEAST_ROUNDS} or more"
    if verdict.rule == "incomplete rounds":
        return verdict.reason
    first, second = verdict.ranked[0], verdict.runner_up
    if verdict.rule == "disturbed rounds":
        common = _common_rounds(verdict)
        which = f"only {common} of {verdict.rounds} rounds" if common else "no round"
        ending = f"ROUNDS={verdict.rounds_needed} would give enough"
        return f"{first} and {second} have {which} in common without another process on the card; {ending}"
    if verdict.rule == "other runs":
        common = _common_rounds(verdict)
        which = f"by the same run in only {common} of {verdict.rounds} rounds" if common else "in different runs"
        return f"{first} and {second} were timed {which}; ROUNDS={verdict.rounds_needed} would time them together"
    assert verdict.ratio is not None, "two columns were compared"
    if verdict.rule == "tie":
        return f"{first} and {second} tie: {_with_interval(verdict.ratio, verdict.interval)}"
    ratio, _, interval = _with_interval(verdict.ratio, verdict.win_interval).partition(", ")
    most = max(MOST_ROUNDS, verdict.rounds)
    needed = (
        f"more than ROUNDS={most} would be needed"
        if verdict.rounds_needed is None
        else f"about ROUNDS={verdict.rounds_needed} would decide"
    )
    return f"{first} {ratio} {_RATIO_WORDS[verdict.question]} than {second}, {interval}: undecided; {needed}"


def _common_rounds(verdict: Verdict) -> int:
    """Return of how many rounds the first two columns were compared."""
    names = {verdict.ranked[0], verdict.runner_up}
    (common,) = (pair.rounds for pair in verdict.pairs if {pair.first, pair.second} == names)
    return common


def _with_interval(ratio: float, interval: tuple[float, float] | None) -> str:
    """Return "1.1x, 0.8..1.5", with as many decimals as the width of the interval needs."""
    assert interval is not None, "rounds give an interval"
    low, high = interval
    decimals = 1 if ratio >= 1.05 else 2
    while decimals < _MOST_DECIMALS and (
        0 < high - low < 3 * 10.0**-decimals or (round(ratio, decimals) == 1 and abs(ratio - 1) > (high - low) / 20)
    ):
        decimals += 1
    shown, *ends = (f"{value:.{decimals}f}" if value < 1000 else f"{value:.3g}" for value in (ratio, low, high))
    return f"{shown}x, {'..'.join(ends)}"


def _timed_together(verdict: Verdict) -> str:
    """Return on how many rounds the two columns were compared, where these are not all."""
    if not verdict.pairs or verdict.rule in ("other runs", "disturbed rounds"):
        return ""
    of = (verdict.ranked[0], verdict.runner_up)
    (pair,) = (pair for pair in verdict.pairs if (pair.first, pair.second) == of)
    if pair.rounds == verdict.rounds:
        return ""
    which = "without another process on the card" if verdict.disturbed else "that were timed together"
    return f"; by the {pair.rounds} of {verdict.rounds} rounds {which}"


def _left_out(verdict: Verdict) -> str:
    """Return who took no part where others were compared."""
    if verdict.question == "quality":
        return f"; without {' and '.join(verdict.left_out)}, which failed" if verdict.left_out else ""
    return f"; {verdict.reason} and takes no part" if verdict.left_out and verdict.rule != "incomplete rounds" else ""


def _by_score(verdict: Verdict) -> str:
    return _by(verdict) + _than(verdict)


def _by(verdict: Verdict) -> str:
    assert verdict.difference is not None, "two scores were compared"
    return f"{verdict.short} {verdict.better} by {abs(verdict.difference):.{verdict.decimals}f}"


def _advantage(verdict: Verdict) -> str:
    """Return the interval of how much better the first column's score is."""
    assert verdict.interval is not None, "a tie is decided by its interval"
    low, high = verdict.interval
    if verdict.better == "lower":
        low, high = -high, -low
    return f"{low:.{verdict.decimals}f}..{high:.{verdict.decimals}f}"


def _biased(verdict: Verdict) -> str:
    return f"; {verdict.biased}" if verdict.biased else ""


def _than(verdict: Verdict) -> str:
    """Two columns need no runner-up's name."""
    return f" than {verdict.runner_up}" if len(verdict.ranked) > 2 else ""
