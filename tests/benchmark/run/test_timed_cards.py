"""Calls that were timed on other cards of the host: kept beside the column's own, which they change in nothing."""

from __future__ import annotations

from dataclasses import replace

from bulk_calls import snapshot_of

from benchmark.measure.findings import MachineState
from benchmark.report.model_result import Card
from benchmark.report.typed_json import to_json
from benchmark.run.journal_lines import Finished, Line, Loaded, State, Timed, read_line, record_of
from benchmark.run.slices import lacking_rounds, timed_slices
from benchmark.run.snapshot import Snapshot
from benchmark.run.summary import summarize_cards, summarize_rounds
from benchmark.settings.command_line import parse_command
from benchmark.settings.fields import Settings

OWN, OTHER, THIRD = "", "GPU-22222222-aaaa", "GPU-33333333-aaaa"


def timed(*indices: int, card: str = OWN, seconds: float = 1.0, round_: int = 0, rank: int = 0) -> Timed:
    return Timed(
        indices, seconds, ("0" * 64,) * len(indices), batch_size=len(indices), round=round_, card=card,
        process=process_of(rank, round_), writer=f"rank{rank}" if rank else "0",
    )  # fmt: skip


def process_of(rank: int, round_: int) -> str:
    return f"{rank:04x}{round_:04x}"


def lines_of_a_process(rank: int, round_: int, card: str, *states: MachineState) -> list[Line]:
    """Return what a process of a round writes beside its timed calls."""
    process, writer = process_of(rank, round_), f"rank{rank}" if rank else "0"
    return [
        Loaded("Noise", 1, 8, (), 0.1, (1.0,), peak_memory_bytes=10 + rank, process=process, round=round_, card=card,
               writer=writer),
        Finished(20 + rank, 1.0, 1.0, process=process, round=round_, writer=writer),
        *(State("end", to_json(state), process=process, round=round_, writer=writer) for state in states),
    ]  # fmt: skip


def two_cards() -> list[Line]:
    """Return two rounds of four requests on the column's own card, and on another one that takes twice as long."""
    lines: list[Line] = []
    for round_ in (0, 1):
        for rank, card in ((0, OWN), (1, OTHER)):
            lines += lines_of_a_process(rank, round_, card, MachineState(5.0, card_uuid=card or "GPU-1"))
            lines += [timed(first, first + 1, card=card, seconds=2.0 + 2 * rank, round_=round_, rank=rank)
                      for first in (0, 2)]  # fmt: skip
    return lines


def settings(*arguments: str) -> Settings:
    return parse_command(["--num-samples", "4", "--batch-size", "2", "--rounds", "2", *arguments], {}).settings


def own_of(snapshot: Snapshot) -> Snapshot:
    """Return what a snapshot says of the column's own card alone."""
    return replace(
        snapshot, timed_on={}, states=tuple(line for line in snapshot.states if line.writer == "0"), bulk_calls=()
    )


def test_what_is_timed_on_other_cards_changes_nothing_of_the_column() -> None:
    both = snapshot_of(*two_cards())
    own = snapshot_of(*(line for line in two_cards() if getattr(line, "writer", "") == "0"))
    assert own_of(both) == own
    assert summarize_rounds(both, settings()) == summarize_rounds(own, settings())
    assert both.loaded is not None
    assert both.loaded.peak_memory_bytes == 20
    assert {one.process for one in both.processes} == {process_of(0, 0), process_of(0, 1)}


def test_a_process_killed_before_its_first_call_on_another_card_is_not_the_columns_either() -> None:
    snapshot = snapshot_of(*lines_of_a_process(1, 1, OTHER))
    assert (snapshot.processes, snapshot.finished, snapshot.loaded, snapshot.timed_on) == ((), (), None, {})


def test_each_other_card_has_its_calls_by_round_and_a_repeated_one_counts_once() -> None:
    lines = [*two_cards(), timed(0, 1, card=OTHER, seconds=9.0, round_=1, rank=1), timed(0, 1, card=THIRD, rank=2)]
    snapshot = snapshot_of(*lines)
    assert [(call.round, call.indices, call.seconds) for call in snapshot.timed_on[OTHER]] == [
        (0, (0, 1), 4.0), (0, (2, 3), 4.0), (1, (0, 1), 9.0), (1, (2, 3), 4.0),
    ]  # fmt: skip
    slices = timed_slices(4, 2)
    assert lacking_rounds(slices, snapshot.timed_on[OTHER], 2) == {}
    assert lacking_rounds(slices, snapshot.timed_on[THIRD], 2) == {0: slices[1:], 1: slices}


def test_the_result_has_the_rounds_of_each_other_card_with_the_states_of_their_processes() -> None:
    beside = MachineState(9.0, card_uuid=OTHER, other_processes=("12 python",))
    lines = [*two_cards(), State("end", to_json(beside), process=process_of(1, 1), round=1, writer="rank1")]
    (card,) = summarize_cards(snapshot_of(*lines), settings())
    assert card.uuid == OTHER
    assert [(made.number, made.latencies_s, made.complete) for made in card.rounds] == [
        (0, (2.0, 2.0), True), (1, (2.0, 2.0), True),
    ]  # fmt: skip
    assert [made.counts for made in card.rounds] == [True, False], "another process had the card in use"


def test_a_round_of_another_card_that_lacks_a_request_is_not_complete_and_later_ones_are_left_out() -> None:
    lines: list[Line] = [timed(0, 1, card=OTHER, rank=1), timed(0, 1, card=OTHER, rank=1, round_=2)]
    (card,) = summarize_cards(snapshot_of(*lines), settings())
    assert [(made.number, made.complete, made.counts) for made in card.rounds] == [(0, False, False)]
    assert summarize_cards(snapshot_of(*lines), settings("--num-samples", "2"))[0].rounds[0].complete
    assert summarize_cards(snapshot_of(timed(6, 7, card=OTHER, rank=1)), settings()) == ()


def test_a_run_of_one_process_has_no_other_card() -> None:
    own = snapshot_of(*(line for line in two_cards() if getattr(line, "writer", "") == "0"))
    cards: tuple[Card, ...] = summarize_cards(own, settings())
    assert cards == ()


def test_a_line_of_a_loaded_model_keeps_its_card_and_an_earlier_one_has_none() -> None:
    (line, *_) = lines_of_a_process(1, 0, OTHER)
    record = record_of(line)
    assert read_line(record) == line
    del record["card"]
    assert isinstance(line, Loaded)
    assert read_line(record) == replace(line, card="")
    assert read_line(record | {"card": 3}) is None
