"""The throughput of a host: what counts is made while all of its ranks make images, each past its warm-up."""

from __future__ import annotations

from dataclasses import replace

import pytest
from bulk_calls import CALL_S, ONE_RATE, SIZE, calls, ends, four_ranks, loaded, snapshot_of

from benchmark.measure.findings import MachineState
from benchmark.report.host_throughput import HostThroughput
from benchmark.report.typed_json import to_json
from benchmark.run.host_throughput import count_made, find_host_throughput
from benchmark.run.journal_lines import Batch, Line, Loaded, State


def found(*lines: Line) -> HostThroughput:
    host = find_host_throughput(snapshot_of(*lines))
    assert host is not None
    return host


def without_rank(lines: list[Line], rank: int) -> list[Line]:
    return [line for line in lines if getattr(line, "writer", "") != f"rank{rank}"]


def test_four_equal_ranks_make_four_times_what_one_makes_alone_wherever_the_window_cuts_their_calls() -> None:
    for shared_s in (70.0, 100.0, 100.3, 101.7):
        host = found(*four_ranks(shared_s=shared_s))
        assert (host.ranks, host.host, host.device, host.no_together, host.no_alone) == (4, "gpu-7", "process", "", "")
        assert host.together is not None
        assert host.alone is not None
        assert host.together.images_per_s == pytest.approx(4 * ONE_RATE)
        assert host.alone.images_per_s == pytest.approx(ONE_RATE)
        assert host.ratio == pytest.approx(4)


def test_the_window_opens_when_the_last_rank_has_ended_its_first_call() -> None:
    lines = without_rank(four_ranks(), 3)
    late = calls("0a", 3, ends(1021.5, 1100))  # it compiled for longer than the others
    together = found(*lines, loaded("0a", 3), *late).together
    assert together is not None
    assert together.seconds == pytest.approx(1098 - 1021.5)
    assert together.images_per_s == pytest.approx(4 * ONE_RATE)


def test_the_window_closes_with_the_first_rank_that_finds_no_more_work() -> None:
    lines = without_rank(four_ranks(), 3)
    early = calls("0a", 3, ends(1001.5, 1080))
    together = found(*lines, loaded("0a", 3), *early).together
    assert together is not None
    assert together.seconds == pytest.approx(early[-1].ended_at_s - 1001.5)
    assert together.images_per_s == pytest.approx(4 * ONE_RATE)


def test_rank_0_closes_the_window_where_it_waits_for_the_others() -> None:
    others = [calls("0a", rank, ends(1000, 1100)) for rank in (1, 2)]
    main = calls("0a", 0, [*ends(1000, 1090), *ends(1102.5, 1112.5)])
    host = found(*(loaded("0a", rank) for rank in range(3)), *main, *others[0], *others[1])
    assert host.together is not None
    assert host.together.seconds == pytest.approx(90)
    assert host.together.images_per_s == pytest.approx(3 * ONE_RATE)


def test_a_call_of_rank_0_that_overlaps_those_of_the_others_is_not_made_alone() -> None:
    others = calls("0a", 1, ends(1000.0, 1100))
    main = calls("0a", 0, ends(999.0, 1109))  # it never waits; its calls after the end of rank 1 begin at 1101
    host = found(loaded("0a", 0), loaded("0a", 1), *main, *others)
    assert host.together is not None
    assert host.alone is not None
    assert host.together.seconds == pytest.approx(100)
    assert host.together.images_per_s == pytest.approx(2 * ONE_RATE)
    assert (host.alone.images, host.alone.seconds) == (3 * SIZE, pytest.approx(3 * CALL_S))


def test_a_shared_phase_of_less_than_a_minute_gives_no_figure_but_its_reason() -> None:
    host = found(*four_ranks(shared_s=60.0))
    assert host.together is host.ratio is None
    assert host.no_together == "4 processes made images together for 56 s, and 60 s are needed"
    assert found(*four_ranks(shared_s=64.0)).together is not None


@pytest.mark.parametrize(("count", "is_enough"), [(0, False), (1, False), (3, False), (4, True)])
def test_the_ratio_needs_three_calls_of_rank_0_alone_after_its_first_one(count: int, is_enough: bool) -> None:
    host = found(*four_ranks(alone=count))
    assert host.together is not None
    assert (host.alone is not None) == (host.ratio is not None) == is_enough
    assert bool(host.no_alone) != is_enough
    if count == 3:
        assert host.no_alone == (
            "alone, it made 2 full calls in 4.0 s after its first one, and 3 calls and 5 s are needed"
        )


def test_calls_of_rank_0_alone_that_take_less_than_five_seconds_together_give_no_ratio() -> None:
    lines = [line for line in four_ranks() if not isinstance(line, Batch) or line.ended_at_s < 1100]
    tail = calls("0a", 0, ends(1102, 1106.8, step_s=0.4), seconds=0.4)
    host = found(*lines, *tail)
    assert host.together is not None
    assert host.alone is None
    assert "in 4.8 s" in host.no_alone


def test_a_padded_call_counts_its_kept_images_together_and_not_at_all_alone() -> None:
    tail = calls("0a", 0, [*ends(1000, 1098), *ends(1103, 1115)], sizes=(3,))
    lines: list[Line] = [line for line in four_ranks() if getattr(line, "writer", "") != "0"]
    host = found(*lines, loaded("0a", 0), *tail)
    assert host.alone is not None
    assert host.alone.images_per_s == pytest.approx(ONE_RATE)
    assert host.alone.images == 5 * SIZE
    pair = [loaded("0a", 0), loaded("0a", 1), *calls("0a", 1, ends(1000, 1100))]
    shared = calls("0a", 0, ends(1000, 1100), sizes=(3,))
    together = found(*pair, *shared).together
    assert together is not None
    assert together.images == 100 * SIZE - 5


def test_what_lies_before_a_model_loaded_again_is_no_time_of_a_call_alone() -> None:
    lines = [line for line in four_ranks() if not isinstance(line, Batch) or line.ended_at_s < 1100]
    before, after = calls("0a", 0, ends(1103, 1109)), calls("0a", 0, ends(1150, 1156))
    after = [replace(call, process="0a0000ff") for call in after]
    host = found(*lines, replace(loaded("0a", 0), process="0a0000ff"), *before, *after)
    assert host.alone is not None
    assert (host.alone.images, host.alone.seconds) == (6 * SIZE, pytest.approx(12))


def test_of_several_runs_the_latest_with_a_figure_counts() -> None:
    first, second = four_ranks("0a", 1000), four_ranks("0b", 9000, shared_s=90)
    assert found(*second, *first).session == "0b" * 4
    short = four_ranks("0c", 20000, shared_s=20)
    assert found(*first, *short, *second).session == "0b" * 4
    assert found(*short, *four_ranks("0d", 30000, shared_s=30)).session == "0d" * 4, "without a figure, the last reason"


def test_other_hosts_have_no_part_in_the_figure_of_rank_0s_host() -> None:
    lines = four_ranks()
    elsewhere: list[Line] = [loaded("0a", rank, "gpu-8") for rank in (4, 5)]
    elsewhere += [*calls("0a", 4, ends(990, 1200)), *calls("0a", 5, [1000.0])]
    assert found(*lines, *elsewhere) == found(*lines)
    alone = [line for line in lines if getattr(line, "writer", "") == "0"]
    assert find_host_throughput(snapshot_of(*alone, *elsewhere)) is None, "rank 0 is alone on its host"


def test_one_process_and_lines_of_earlier_versions_have_no_throughput_of_a_host() -> None:
    lines = four_ranks()
    assert find_host_throughput(snapshot_of(*(line for line in lines if getattr(line, "writer", "") == "0"))) is None
    earlier = [replace(line, ended_at_s=0.0) if isinstance(line, Batch) else line for line in lines]
    assert find_host_throughput(snapshot_of(*earlier)) is None


def test_runs_of_one_process_one_after_the_other_are_not_ranks_of_one_run() -> None:
    lines = [*four_ranks("0a", 1000), *four_ranks("0b", 1001)]
    apart = [
        line for line in lines if (line.process[:2], getattr(line, "writer", "")) in (("0a", "0"), ("0b", "rank1"))
    ]
    assert find_host_throughput(snapshot_of(*apart)) is None


def test_calls_whose_images_were_lost_since_were_still_made() -> None:
    lines = four_ranks()
    kept = [line for line in lines if isinstance(line, Batch)][::2]
    snapshot = replace(snapshot_of(*lines), batches=tuple(kept))
    assert find_host_throughput(snapshot) == found(*lines)


def test_ranks_are_gpus_where_a_state_of_the_machine_tells_a_card() -> None:
    state = State("start", to_json(MachineState(1.0, card_uuid="GPU-1")), process="00000001")
    assert found(*four_ranks(), state).device == "GPU"
    assert found(*four_ranks(), replace(state, state=to_json(MachineState(1.0, cpu_cores=2)))).device == "process"


def test_images_are_counted_by_host_and_rank_as_far_as_the_run_asks_for_them() -> None:
    timed = Batch(
        (0, 1), 1.0, ("", ""), batch_size=2, process="000000aa", pixels=("0" * 64,) * 2, digests=("0" * 64,) * 2
    )
    of_timed = Loaded("Noise", 1, 8, (), 0.1, (1.0,), process="000000aa", host="gpu-7")
    bulk = [
        replace(call, indices=tuple(index - call.start + begin for index in call.indices))
        for rank, begin in ((0, 2), (1, 10), (4, 18)) for call in calls("0a", rank, [1000.0])
    ]  # fmt: skip
    lines = [of_timed, loaded("0a", 0), loaded("0a", 1), loaded("0a", 4, "gpu-8"), timed, *bulk]
    assert count_made(snapshot_of(*lines), 20) == {"gpu-7": {"0": 10, "rank1": 8}, "gpu-8": {"rank4": 2}}
    unknown = [replace(line, host="") if isinstance(line, Loaded) else line for line in lines]
    assert count_made(snapshot_of(*unknown), 20) == {}
