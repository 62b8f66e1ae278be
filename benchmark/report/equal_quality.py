"""Which configuration gives the quality of the best one for the least time: by intervals on both."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from scipy.special import stdtrit

from benchmark.report.configurations import configurations_of, describe, describe_beside
from benchmark.report.latency_ratios import LEAST_ROUNDS
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import has_value, paired_difference
from benchmark.report.quality_verdict import deciding_key, decimals_of, value_of, why_no_score
from benchmark.report.speed_verdict import compare_speeds, count_complete, rounds_to_tell, typical_latency_s
from benchmark.report.verdict import Pair
from metrics.base import Score
from metrics.replicates import Estimate

# The whole 95 % interval lies below the margin: one chance in forty to be wrong. Holm's levels keep it so for all
# configurations of a group together.
LEVEL = 0.025
FLOOR_HALF_WIDTHS = 2.0  # QUALITY_MARGIN=auto
MOST_IMAGES = 1_000_000  # a line names no more images than these as those that would decide

Margin = float | Literal["auto"]


@dataclass(frozen=True)
class Judgement:
    """What a score's difference to the best one decides.

    EQUAL: no other column is better by the margin. WORSE: the best one is better by more than the margin. UNDECIDED:
    neither is shown.
    interval: 95 %, of by how much the score is worse than that of the best; None where it is not known.
    images_needed: how many images would decide, at this difference and spread; None: decided, or no number would.
    """

    outcome: Literal["EQUAL", "WORSE", "UNDECIDED"]
    interval: tuple[float, float] | None = None
    images_needed: int | None = None


@dataclass(frozen=True)
class Alternative:
    """A column that takes less time than the best one.

    difference: by how much its score is worse than that of the best. speed: the two columns' comparison, as a verdict
    on speed makes it.
    """

    name: str
    difference: float
    quality: Judgement
    speed: Pair


@dataclass(frozen=True)
class EqualQuality:
    """The answer for one group of columns; `equal_quality_lines` prints it.

    group: the model whose configurations are compared; "" for all columns.
    outcome: FOUND: `chosen` is as good as the best and faster. BEST: it is as good as all others, and none of them is
    faster. WORSE: all that are faster are worse. UNDECIDED: the intervals do not tell. UNKNOWN: it cannot be asked;
    `reason` says why.
    best: the column with the best score. configuration, than: the chosen one and the best in words.
    metric, short, better, decimals: of the score that decides. margin: in its units; None where it is not known.
    margin_is_auto: it comes from the floor's interval, and changes with the number of images.
    images: how many the scores are of. images_needed: how many would decide, as far as images can.
    alternatives: all that take less time, the cheapest first. left_out: columns that take no part, with the reason.
    """

    group: str
    outcome: Literal["FOUND", "BEST", "WORSE", "UNDECIDED", "UNKNOWN"]
    chosen: str = ""
    best: str = ""
    configuration: str = ""
    than: str = ""
    metric: str = ""
    short: str = ""
    better: Literal["lower", "higher"] = "lower"
    decimals: int = 1
    margin: float | None = None
    margin_is_auto: bool = False
    images: int = 0
    images_needed: int | None = None
    alternatives: tuple[Alternative, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


def find_equal_quality(
    models: Sequence[ModelResult], rounds: int, margin: Margin = "auto", interrupted: bool = False,
    failed: Collection[str] = (), not_started: Sequence[str] = (),
) -> tuple[EqualQuality, ...]:  # fmt: skip
    """Return an answer for each model with more than one configuration, and one for all columns of several models.

    rounds: how many were asked for; speeds are compared on that many. margin: how much worse a score may be; "auto":
    twice the half-width of the interval of its floor. failed: names of columns that did not come to their end.
    not_started: names of those that an interrupted run did not come to.
    """
    of_models = configurations_of(models)
    groups = [(name, columns) for name, columns in of_models.items() if len(columns) > 1]
    if groups and len(of_models) > 1:
        groups.append(("", list(models)))
    if rounds < LEAST_ROUNDS:
        reason = f"{rounds} round{'s decide' if rounds > 1 else ' decides'} nothing: ROUNDS={LEAST_ROUNDS} or more"
        return tuple(EqualQuality(name, "UNKNOWN", reason=reason) for name, _ in groups)
    found = []
    for name, columns in groups:
        short = [column.name for column in columns if count_complete(column, rounds) < rounds]
        # Of a column that was not started only the title is known, which begins with its model's name.
        lacking = [title for title in not_started if not name or title == name or title.startswith(f"{name} (")]
        lacking += [title for title in short if title not in failed]
        if interrupted and lacking:
            found.append(EqualQuality(name, "UNKNOWN", reason=_lack_of_rounds(lacking)))
        else:
            found.append(_decide(name, columns, rounds, margin, failed))
    return tuple(found)


def _lack_of_rounds(titles: Sequence[str]) -> str:
    others = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return f"{titles[0]}{others} {'lack' if others else 'lacks'} rounds"


def _decide(
    group: str, columns: Sequence[ModelResult], rounds: int, margin: Margin, failed: Collection[str]
) -> EqualQuality:
    left_out = _left_out(columns, rounds, failed)
    part = [column for column in columns if column.name not in left_out]
    none = EqualQuality(group, "UNKNOWN", left_out=left_out)
    key, biased = deciding_key(part)
    if not key:
        reason = f"{biased}; add kid to METRICS" if biased else why_no_score(part) if part else "no column takes part"
        return replace(none, reason=reason)
    unscored = [column.name for column in part if value_of(column, key) is None]
    none = replace(none, left_out=left_out | dict.fromkeys(unscored, "no score"))
    scored = [(column, score) for column in part if (score := value_of(column, key)) is not None]
    if len({(score.identity, score.n_generated) for _, score in scored}) > 1:
        return replace(none, reason="the scores are of different sizes or kinds and cannot be compared")
    if len(scored) < 2:
        return replace(none, reason=f"{scored[0][0].name} alone takes part")
    best, like = min(scored, key=lambda pair: (_worse(pair[1], 0.0), typical_latency_s(pair[0], rounds)))
    limit = margin_of(like.floor_interval) if margin == "auto" else margin
    none = replace(
        none, best=best.name, configuration=describe(best, columns), metric=key, short=like.short, better=like.better,
        decimals=like.decimals, images=like.n_generated, margin=limit, margin_is_auto=margin == "auto",
    )  # fmt: skip
    if limit is None:
        return replace(none, reason=f"the floor of {like.short} has no interval: set QUALITY_MARGIN")
    latency_s = typical_latency_s(best, rounds)
    cheaper = [(column, score) for column, score in scored if typical_latency_s(column, rounds) < latency_s]
    cheaper.sort(key=lambda pair: typical_latency_s(pair[0], rounds))
    speeds = {column.name: compare_speeds(column, best, rounds) for column, _ in cheaper}
    faster = [pair for pair in cheaper if _may_be_faster(speeds[pair[0].name], pair[0].name)]
    differences = {
        column.name: {other.name: _oriented(score, than) for other, than in scored if other is not column}
        for column, score in [*faster, (best, like)]
    }
    judged = judge_all(differences, best.name, limit, like.n_generated)
    if not faster:
        return _conclude_of_best(none, judged[best.name])
    alternatives = tuple(
        Alternative(column.name, _worse(score, like.value), judged[column.name], speeds[column.name])
        for column, score in faster
    )
    by_name = {column.name: column for column, _ in faster}
    return _conclude(replace(none, alternatives=alternatives), best, by_name, columns, rounds)


def _conclude(
    found: EqualQuality, best: ModelResult, by_name: Mapping[str, ModelResult], columns: Sequence[ModelResult],
    rounds: int,
) -> EqualQuality:  # fmt: skip
    """Return the answer that the alternatives give."""
    equal = [alternative for alternative in found.alternatives if alternative.quality.outcome == "EQUAL"]
    chosen = next((alternative for alternative in equal if alternative.speed.outcome == "WIN"), None)
    if chosen is not None:
        column = by_name[chosen.name]
        cheaper = equal[: equal.index(chosen)]
        unknown = [each.name for each in cheaper if each.speed.rounds < LEAST_ROUNDS]
        left_out = dict.fromkeys(unknown, "timed in other runs")
        return replace(
            found, outcome="FOUND", chosen=chosen.name, left_out={**found.left_out, **left_out},
            configuration=describe(column, columns), than=describe_beside(best, column, columns),
            decimals=decimals_of(chosen.difference, found.decimals),
        )  # fmt: skip
    if equal:
        column = by_name[equal[0].name]
        ending = _ending_of_speed(equal[0].speed, rounds_to_tell(column, best, rounds), rounds)
        reason = f"{describe(column, columns)} is as good; whether it is faster is undecided{ending}"
        return replace(found, outcome="UNDECIDED", reason=reason)
    if all(alternative.quality.outcome == "WORSE" for alternative in found.alternatives):
        least = min(alternative.difference for alternative in found.alternatives)
        return replace(found, outcome="WORSE", decimals=decimals_of(least, found.decimals))
    if all(alternative.quality.interval is None for alternative in found.alternatives):
        return replace(found, outcome="UNKNOWN", reason=f"{found.short} of {found.images} images has no interval")
    return replace(found, outcome="UNDECIDED", images_needed=_images_needed(found))


def _ending_of_speed(speed: Pair, needed: int | None, rounds: int) -> str:
    """Return what would decide who is faster: more rounds, also where one run has timed too few of both columns."""
    if speed.rounds < LEAST_ROUNDS:
        common = f"only {speed.rounds} of {rounds} rounds" if speed.rounds else "no round"
        together = rounds + LEAST_ROUNDS - speed.rounds
        return f": {common} timed both undisturbed in the same run; ROUNDS={together} would time them together"
    return "" if needed is None else f"; about ROUNDS={needed} would decide"


def _conclude_of_best(found: EqualQuality, judged: Judgement) -> EqualQuality:
    """Return the answer where no other is faster than the best: it is, if it is shown to be as good as all of them."""
    if judged.outcome == "EQUAL":
        return replace(found, outcome="BEST")
    return replace(found, outcome="UNDECIDED", images_needed=judged.images_needed)


def _images_needed(found: EqualQuality) -> int | None:
    """Return how many images would show one to be equal; where all are worse than the margin, all of them worse."""
    assert found.margin is not None
    undecided = [each for each in found.alternatives if each.quality.outcome == "UNDECIDED"]
    within = [each.quality.images_needed for each in undecided if each.difference < found.margin]
    if within:
        return min((needed for needed in within if needed is not None), default=None)
    beyond = [each.quality.images_needed for each in undecided]
    known = [needed for needed in beyond if needed is not None]
    return max(known) if len(known) == len(beyond) else None


def _left_out(columns: Sequence[ModelResult], rounds: int, failed: Collection[str]) -> dict[str, str]:
    reasons = {}
    for column in columns:
        if column.name in failed:
            reasons[column.name] = "failed"
        elif column.warnings:
            reasons[column.name] = "warning"
        elif count_complete(column, rounds) < rounds:
            reasons[column.name] = "rounds missing"
    return reasons


def _may_be_faster(speed: Pair, name: str) -> bool:
    return speed.outcome != "TIE" and speed.first == name


def margin_of(floor_interval: tuple[float, float] | None) -> float | None:
    """Return the margin that "auto" is, or None where the interval of a score's floor is not known."""
    if floor_interval is None or not all(map(has_value, floor_interval)):
        return None
    low, high = floor_interval
    return FLOOR_HALF_WIDTHS * (high - low) / 2


def _worse(score: Score, than: float) -> float:
    """Return by how much a score is worse than a value."""
    return score.value - than if score.better == "lower" else than - score.value


def _oriented(score: Score, than: Score) -> Estimate | None:
    """Return by how much a score is worse than another one, with its spread."""
    return paired_difference(score, than) if score.better == "lower" else paired_difference(than, score)


def judge_all(
    differences: Mapping[str, Mapping[str, Estimate | None]], best: str, margin: float, images: int
) -> dict[str, Judgement]:
    """Return of which columns it is shown that no other one is better by the margin.

    The best by its observed score need not be the best in truth. So a column is tested against every other one, and is
    as sure as the least sure of these; by Holm's procedure over all columns that are asked about.

    differences: of each column that is asked about, by how much it is worse than every other one, with the spread; None
    where that is not known. best: the one with the best observed score. images: of each score.
    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    chances = {name: _chance(others, margin) for name, others in differences.items()}
    equal = set()
    for place, name in enumerate(sorted(chances, key=lambda name: chances[name])):
        if chances[name] > _level(len(chances) - place):
            break
        equal.add(name)
    judged = {}
    for name, others in differences.items():
        found = others.get(best)
        interval = None if found is None else found.interval()
        if name in equal:
            judged[name] = Judgement("EQUAL", interval)
        elif interval is not None and interval[0] > margin:
            judged[name] = Judgement("WORSE", interval)
        else:
            # With more images, what is shown now is shown too, and the best is before the others.
            level = _level(max(1, len(set(chances) - equal - {best})))
            judged[name] = Judgement("UNDECIDED", interval, _needed(others, margin, images, level))
    return judged


def _chance(others: Mapping[str, Estimate | None], margin: float) -> float:
    """Return how likely what was observed is where some other one is better by the margin."""
    return max(1.0 if found is None else found.chance_below(margin) for found in others.values())


def _needed(others: Mapping[str, Estimate | None], margin: float, images: int, level: float) -> int | None:
    """Return with how many images every difference would lie apart from the margin."""
    needed = [None if found is None else images_to_tell(found, margin, images, level) for found in others.values()]
    known = [count for count in needed if count is not None]
    return max(known) if len(known) == len(needed) else None


def _level(left: int) -> float:
    """Return the level at which the most certain of so many is tested."""
    return LEVEL / left


def images_to_tell(difference: Estimate, margin: float, images: int, level: float) -> int | None:
    """Return with how many images the margin would lie outside of the interval; None: with no number of them.

    The share of the generated images in the variance falls with their number; that of the reference stays.
    """
    wanted = abs(margin - difference.value) / float(stdtrit(difference.degrees, 1 - level))
    of_others = math.fsum(variance for of, variance in difference.variances.items() if of != "generated")
    if wanted**2 <= of_others:
        return None
    needed = images * difference.variances.get("generated", 0.0) / (wanted**2 - of_others)
    return max(images + 1, math.ceil(needed)) if needed < 1e12 else None
