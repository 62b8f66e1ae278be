"""Cards of one host: how far apart they are on the same requests, and which of them is called slow."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from host_cases import EQUAL, FOURTH, NOISE, OWN, SECOND, SLOW, THIRD, on_cards
from report_cases import VAR, timed_round

from benchmark.measure.findings import MachineState
from benchmark.report.cards import (
    compare_cards,
    list_uncounted_cards,
    short_uuids,
    shown_latency,
    slowest_over_fastest,
)
from benchmark.report.comparison.estimates import compare_latencies, compare_with_others
from benchmark.report.model_result import Card, CardRound, ModelResult


def slow_of(model: ModelResult) -> list[str]:
    return [card.uuid for card in compare_cards(model) if card.is_slow]


def test_each_card_is_compared_with_the_geometric_mean_of_all_others() -> None:
    cards = compare_cards(on_cards(VAR, {OWN: 1.0, SECOND: 2.0, THIRD: 4.0}, noise=(1.0, 1.0, 1.0)))
    assert [card.uuid for card in cards] == [OWN, SECOND, THIRD]
    assert [card.is_own for card in cards] == [True, False, False]
    assert [card.seconds for card in cards] == pytest.approx([1, 2, 4])
    assert [card.ratio for card in cards] == pytest.approx([1 / math.sqrt(8), 1, math.sqrt(8)])
    assert slowest_over_fastest(cards) == pytest.approx(4)


def test_a_card_that_takes_8_percent_longer_is_slow_and_its_equals_are_not() -> None:
    assert slow_of(SLOW) == [THIRD]
    third = next(card for card in compare_cards(SLOW) if card.uuid == THIRD)
    assert third.interval is not None
    assert 1.05 < third.interval[0] < third.ratio < third.interval[1] < 1.10
    assert slow_of(EQUAL) == []


def test_the_columns_own_card_can_be_the_slow_one() -> None:
    assert slow_of(on_cards(VAR, {OWN: 1.05, SECOND: 1.0, THIRD: 1.001})) == [OWN]


def test_a_card_is_not_slow_for_less_than_1_percent_however_sure_that_is() -> None:
    exact = [1 + 1e-6 * place for place in range(6)]
    assert slow_of(on_cards(VAR, {OWN: 1.0, SECOND: 1.009, THIRD: 1.0}, exact)) == []
    assert slow_of(on_cards(VAR, {OWN: 1.0, SECOND: 1.011, THIRD: 1.0}, exact)) == [SECOND]


def test_a_card_is_not_slow_where_chance_could_have_made_the_difference() -> None:
    assert slow_of(on_cards(VAR, {OWN: 1.0, SECOND: 1.08}, (0.8, 1.25, 1.0, 1.1))) == []


def test_of_two_cards_one_can_be_slow() -> None:
    assert slow_of(on_cards(VAR, {OWN: 1.0, SECOND: 1.08})) == [SECOND]


def test_below_three_rounds_on_a_card_no_card_is_slow_but_the_ratio_is_shown() -> None:
    cards = compare_cards(on_cards(VAR, {OWN: 1.0, SECOND: 2.0}, NOISE[:2]))
    assert [(card.rounds, card.interval, card.is_slow) for card in cards] == [(2, None, False)] * 2
    assert cards[1].ratio == pytest.approx(2, rel=0.01)


def test_equal_cards_are_called_slow_in_few_runs_and_a_card_with_4_percent_more_in_most() -> None:
    draw, false, found = random.Random(0), 0, 0
    for _ in range(300):
        means_s = {
            uuid: [math.exp(draw.gauss(0, 0.01)) for _ in range(6)] for uuid in (OWN, SECOND, THIRD, FOURTH)
        }  # fmt: skip
        for slower in (1.0, 1.04):
            model = on_cards(VAR, dict.fromkeys(means_s, 1.0))
            rounds = [replace(made, latencies_s=(mean,)) for made, mean in zip(model.rounds, means_s[OWN], strict=True)]
            cards = [
                Card(card.uuid, tuple(
                    CardRound(at, (mean * (slower if card.uuid == FOURTH else 1),), True)
                    for at, mean in enumerate(means_s[card.uuid])
                )) for card in model.cards
            ]  # fmt: skip
            slow = slow_of(replace(model, rounds=tuple(rounds), cards=tuple(cards)))
            false += any(uuid != FOURTH or slower == 1 for uuid in slow)
            found += slower > 1 and FOURTH in slow
    assert false <= 0.05 * 600
    assert found > 0.8 * 300


def test_rounds_that_are_incomplete_or_beside_other_processes_do_not_count() -> None:
    model = on_cards(VAR, {OWN: 1.0, SECOND: 1.0}, NOISE[:4])
    beside = MachineState(1.0, card_uuid=SECOND, other_processes=("12 python",))
    first, second, *others = model.cards[0].rounds
    rounds = (replace(first, latencies_s=(9.0,), complete=False), replace(second, latencies_s=(9.0,), states=(beside,)))
    cards = compare_cards(replace(model, cards=(Card(SECOND, (*rounds, *others)),)))
    assert [card.rounds for card in cards] == [4, 2]
    assert cards[1].seconds == pytest.approx(1, rel=0.01)
    none = replace(model, cards=(Card(SECOND, rounds),))
    assert compare_cards(none) == ()
    assert list_uncounted_cards(none) == [SECOND]
    assert list_uncounted_cards(model) == []


def test_rounds_of_a_column_that_ran_on_two_cards_are_each_cards_own() -> None:
    """A run that another machine went on with has rounds of two cards; one of these can be an other card as well."""
    model = on_cards(VAR, {OWN: 1.0, SECOND: 2.0}, NOISE[:3])
    moved = timed_round(3, 2.0, states=(MachineState(1.0, card_uuid=SECOND),))
    cards = compare_cards(replace(model, rounds=(*model.rounds, moved)))
    assert [(card.uuid, card.is_own, card.rounds) for card in cards] == [(OWN, True, 3), (SECOND, True, 4)]


def test_a_column_without_other_cards_has_no_comparison_of_cards() -> None:
    assert compare_cards(VAR) == ()
    moved = timed_round(4, 2.0, states=(MachineState(1.0, card_uuid=SECOND),))
    assert compare_cards(replace(VAR, rounds=(*VAR.rounds, moved))) == (), "only TIMED_ON=all compares cards"


def test_one_other_card_is_compared_as_two_runs_are() -> None:
    old, new = (1.0, 1.1, 0.9), (1.2, 1.3, 1.25, 1.22)
    assert compare_with_others([old], new) == compare_latencies(old, new)
    assert compare_with_others([old, new], (1.0, 1.1)) is None
    both = compare_with_others([old, old], new)
    one = compare_latencies(old, new)
    assert both is not None
    assert one is not None
    assert both.value == pytest.approx(one.value)
    assert both.below < one.below, "two cards tell more than one"


def test_uuids_are_shortened_where_their_starts_tell_them_apart() -> None:
    assert short_uuids([OWN, SECOND]) == {OWN: "GPU-11111111", SECOND: "GPU-aaaaaaaa"}
    twin = OWN[:-1] + "6"
    assert short_uuids([OWN, twin]) == {OWN: OWN, twin: twin}


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0091234, "9.123 ms"),
        (0.00999999, "10.00 ms"),
        (0.9999999, "1.000 s"),
        (0.2, "200.0 ms"),
        (12.3456, "12.35 s"),
    ],
)
def test_a_latency_has_four_digits(seconds: float, shown: str) -> None:
    assert shown_latency(seconds) == shown
