"""How far the cards of one host lie apart on a column's requests, and which of them is slow."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.report.comparison.estimates import Estimate, compare_with_others
from benchmark.report.latency_ratios import to_ratio
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import shown_digits

# By how much longer a slow card takes at least. Cards of one kind differ by some tenths of a percent.
SLOW_RATIO = 1.01
ERROR_RATE = 0.05
_UUID_STARTS_WITH = len("GPU-") + 8  # characters that tell the cards of a host apart in a line


@dataclass(frozen=True)
class CardSpeed:
    """What a column takes on one card.

    uuid: "" where the card of rank 0 did not tell it. is_own: the column's latencies are of this card.
    rounds: how many count. seconds: per image, the geometric mean of the means of these rounds.
    ratio: to the geometric mean of all other cards. interval: of the ratio at 95 %, for this card alone; None where a
    card has fewer than three rounds. is_slow: it takes longer than the others by more than SLOW_RATIO, beyond chance.
    """

    uuid: str
    is_own: bool
    rounds: int
    seconds: float
    ratio: float
    interval: tuple[float, float] | None
    is_slow: bool = False


def compare_cards(model: ModelResult) -> tuple[CardSpeed, ...]:
    """Return the speed of each card of which a round counts, the column's own first; () of fewer than two of them.

    A slow card is named as the gate names a slower column: its whole interval lies above SLOW_RATIO. The intervals are
    adjusted by Holm for the number of cards: of a host of equal cards, at most 5 % of runs call one slow.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    if not model.cards:
        return ()
    means_s, own = _means_of_cards(model)
    if len(means_s) < 2:
        return ()
    levels = {uuid: statistics.fmean(map(math.log, each)) for uuid, each in means_s.items()}
    found, estimates = [], []
    for uuid, each in means_s.items():
        others = [other for other in means_s if other != uuid]
        estimate = compare_with_others([means_s[other] for other in others], each)
        estimates.append(estimate)
        found.append(CardSpeed(
            uuid, uuid in own, len(each), math.exp(levels[uuid]),
            to_ratio(levels[uuid] - statistics.fmean(levels[other] for other in others)),
            None if estimate is None else estimate.ratios(),
        ))  # fmt: skip
    slow = _find_slow(estimates)
    return tuple(replace(speed, is_slow=place in slow) for place, speed in enumerate(found))


def list_uncounted_cards(model: ModelResult) -> list[str]:
    """Return the UUIDs of the cards that were timed and of which no round counts."""
    return [card.uuid for card in model.cards if not any(made.counts for made in card.rounds)]


def slowest_over_fastest(cards: Sequence[CardSpeed]) -> float:
    """Return how many times as long the slowest card takes as the fastest one."""
    seconds = [card.seconds for card in cards]
    return max(seconds) / min(seconds)


def short_uuids(uuids: Sequence[str]) -> dict[str, str]:
    """Return for each card the start of its UUID, or all of it where cards would look the same."""
    starts = {uuid: uuid[:_UUID_STARTS_WITH] for uuid in uuids}
    return starts if len(set(starts.values())) == len(starts) else {uuid: uuid for uuid in uuids}


def shown_latency(seconds: float) -> str:
    """Return "9.124 ms", or "3.451 s": differences of 1 % are to be seen."""
    rounded = float(f"{seconds:.4g}")  # 0.99999 s is 1 s, not 1,000 ms
    return f"{shown_digits(1000 * rounded, 4)} ms" if rounded < 1 else f"{shown_digits(rounded, 4)} s"


def _means_of_cards(model: ModelResult) -> tuple[dict[str, list[float]], set[str]]:
    """Return the mean latency of each round that counts, by card, and on which cards the column's own rounds ran."""
    means_s: dict[str, list[float]] = {}
    for made in model.rounds:
        if made.counts:
            uuid = next((state.card_uuid for state in made.states if state.card_uuid), "")
            means_s.setdefault(uuid, []).append(made.mean_latency_s)
    own = set(means_s)
    for card in model.cards:
        for on_card in card.rounds:
            if on_card.counts:
                means_s.setdefault(card.uuid, []).append(on_card.mean_latency_s)
    return means_s, own


def _find_slow(estimates: Sequence[Estimate | None]) -> set[int]:
    """Return the places of the cards whose interval, adjusted by Holm, lies wholly above SLOW_RATIO."""
    threshold = math.log(SLOW_RATIO)
    known = {place: estimate for place, estimate in enumerate(estimates) if estimate is not None}
    slow: set[int] = set()
    for place, estimate in sorted(known.items(), key=lambda item: item[1].chance_within(threshold)):
        low, _ = estimate.interval(1 - ERROR_RATE / (len(known) - len(slow)))
        if low <= threshold:
            break
        slow.add(place)
    return slow
