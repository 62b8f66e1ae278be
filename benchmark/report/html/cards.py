"""How the cards of the host compare, in report.html: a table with a row for each card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark.report.cards import SLOW_RATIO, CardSpeed, compare_cards, shown_latency, slowest_over_fastest
from benchmark.report.html.elements import grid
from benchmark.report.model_result import ModelResult
from benchmark.report.numbers import NO_VALUE, shown_interval


def tabulate_cards(models: Sequence[ModelResult]) -> list[str]:
    """Return a table of the columns that were timed on several cards; nothing where there is no such column."""
    found = {model.name: {card.uuid: card for card in cards} for model in models if (cards := compare_cards(model))}
    if not found:
        return []
    uuids = dict.fromkeys(uuid for cards in found.values() for uuid in cards)
    rows = [(uuid or "rank 0", [_cell(cards, uuid) for cards in found.values()]) for uuid in uuids]
    spreads = [f"{slowest_over_fastest(list(cards.values())):.3f}x" for cards in found.values()]
    intro = (
        "Time per image on each card of the host, the geometric mean over rounds; in brackets its ratio to the mean of "
        "the other cards, with the 95 % interval. A card is slow if this interval, adjusted for the number of cards, "
        f"lies wholly above {SLOW_RATIO:.2f}. All other figures are of the column's own card."
    )
    return [
        "<h2>Cards</h2>", f"<p><small>{intro}</small></p>",
        grid("Card", list(found), [*rows, ("Slowest over fastest", spreads)]),
    ]  # fmt: skip


def _cell(cards: Mapping[str, CardSpeed], uuid: str) -> str:
    card = cards.get(uuid)
    if card is None:
        return NO_VALUE
    interval = shown_interval(card.interval, 3)
    ratio = f"{card.ratio:.3f}x{f', {interval}' if interval else ''}"
    words = ["own"] * card.is_own + ["SLOW"] * card.is_slow
    return f"{shown_latency(card.seconds)} ({ratio}){''.join(f', {word}' for word in words)}"
