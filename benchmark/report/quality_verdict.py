"""Who wins on quality: by the intervals of the differences of FID, or of KID where there are too few images for FID."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence
from dataclasses import replace

from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import has_value, paired_interval
from benchmark.report.verdict import Outcome, Pair, Rule, Verdict
from metrics.base import Score

# With fewer generated images than this, FID's bias is larger than most differences between models.
FRECHET_DECIDES_FROM = 2048
TIE_SHARE = 0.03  # of the better score's value
LONGEST_REASON = 40

_Scored = tuple[ModelResult, Score]


def decide_by_scores(group: str, models: Sequence[ModelResult], failed: Collection[str] = ()) -> Verdict:
    """Return who is better by FID, or by KID where there are too few images for FID, and by how much; or no one.

    failed: names of columns that take no part: they may lack images.
    """
    left_out = tuple(model.name for model in models if model.name in failed)
    whole = [model for model in models if model.name not in failed]
    if not whole:
        return Verdict("quality", group, "UNDECIDED", "no score", left_out=left_out, reason="every model failed")
    return replace(_decide(group, whole), left_out=left_out)


def _decide(group: str, models: Sequence[ModelResult]) -> Verdict:
    """Return the verdict on columns that have all images, at least one."""
    key, biased = deciding_key(models)
    none = Verdict("quality", group, "UNDECIDED", "no score", biased=biased)
    if not key:
        return replace(none, rule="biased") if biased else replace(none, reason=why_no_score(models))
    scored = [(model, score) for model in models if (score := value_of(model, key)) is not None]
    none = replace(none, metric=key, short=scored[0][1].short, better=scored[0][1].better)
    if len({score.identity for _, score in scored}) > 1 or len({score.n_generated for _, score in scored}) > 1:
        return replace(none, rule="not comparable")
    lower = none.better == "lower"
    scored.sort(key=lambda pair: pair[1].value * (1 if lower else -1))
    best = scored[0][0]
    none = replace(none, ranked=tuple(model.name for model, _ in scored))
    if len(scored) < 2 and best.warnings:
        return replace(none, rule="warning")
    if len(scored) < 2:
        return replace(none, outcome="WIN", rule="only score" if len(models) > 1 else "only model", winner=best.name)
    judged = [_judge(one, other) for one, other in itertools.combinations(scored, 2)]
    of_best = judged[: len(scored) - 1]
    # The closest column that is not beaten decides; where all are, the runner-up is the closest of them.
    pair, rule = next(((pair, rule) for pair, rule in of_best if pair.outcome != "WIN"), of_best[0])
    none = replace(
        none, runner_up=pair.second, difference=pair.value, interval=pair.interval, win_interval=pair.win_interval,
        confidence=pair.confidence, pairs=tuple(pair for pair, _ in judged),
        decimals=decimals_of(abs(pair.value), scored[0][1].decimals),
    )  # fmt: skip
    if rule in ("same value", "tie", "within noise"):
        return replace(none, outcome=pair.outcome, rule=rule)
    if best.warnings:
        return replace(none, rule="warning")
    return replace(none, outcome=pair.outcome, rule=rule, winner=best.name if pair.outcome == "WIN" else "")


def _judge(one: _Scored, other: _Scored) -> tuple[Pair, Rule]:
    """Return two columns with what their scores decide, and by which rule; the first one has the better score.

    TIE comes first: the whole interval of the difference lies within 3 % of the better score.
    """
    (first, better), (second, worse) = one, other
    difference = better.value - worse.value
    interval = paired_interval(better, worse)
    same = round(abs(difference), decimals_of(abs(difference), better.decimals)) == 0
    limit = TIE_SHARE * abs(better.value)
    outcome: Outcome
    rule: Rule
    if interval is not None and -limit <= interval[0] and interval[1] <= limit:
        outcome, rule = "TIE", "same value" if same else "tie"
    elif interval is not None and interval[0] <= 0 <= interval[1]:
        outcome, rule = "UNDECIDED", "within noise"
    elif same:
        outcome, rule = "TIE", "same value"
    elif interval is None and better.key == "kid":
        outcome, rule = "UNDECIDED", "too few images"
    else:
        outcome, rule = "WIN", "better figure"
    return Pair(first.name, second.name, outcome, difference, interval, interval), rule


def decimals_of(gap: float, usual: int) -> int:
    """Return with how many decimals a difference shows a digit that is not 0; at most three more than usual."""
    return next((more for more in range(usual, usual + 3) if round(gap, more) != 0), usual + 3)


def value_of(model: ModelResult, key: str) -> Score | None:
    """Return the row `key` where it has a finite value."""
    score = model.score(key)
    return score if score is not None and has_value(score.value) else None


def deciding_key(models: Sequence[ModelResult]) -> tuple[str, str]:
    """Return the key of the row that decides ("": none does), and what is to be said of FID where it does not."""
    fids = [score for model in models if (score := value_of(model, "fid")) is not None]
    if fids and min(score.n_generated for score in fids) >= FRECHET_DECIDES_FROM:
        return "fid", ""
    biased = f"{fids[0].short} is biased at N={min(score.n_generated for score in fids)}" if fids else ""
    return "kid" if any(value_of(model, "kid") for model in models) else "", biased


def why_no_score(models: Sequence[ModelResult]) -> str:
    """Return why no model has an FID or a KID."""
    given = [(name, reason) for model in models for name, reason in model.unscored.items()]
    reasons = [reason for name, reason in given if name in ("fid", "kid")] or [reason for _, reason in given]
    if not reasons:
        return "neither FID nor KID was asked for"
    return reasons[0] if len(reasons[0]) <= LONGEST_REASON else "no score; the reasons are below"
