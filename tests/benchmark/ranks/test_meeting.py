"""How the ranks of a run find one another, what they agree on, and what becomes of a signal before anything is made."""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from torch.distributed import TCPStore

from benchmark.console.interruption import Stopped
from benchmark.ranks import ranks as meeting
from benchmark.ranks import watch as watching
from benchmark.ranks.board import Address, Board, open_board
from benchmark.ranks.launch import Launch
from benchmark.ranks.ranks import Ranks, open_ranks
from benchmark.run.team import Team


@pytest.fixture
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = Address("127.0.0.1", store.port, request.node.name)
    monkeypatch.setattr(meeting, "meet", lambda *_: open_board(address))
    monkeypatch.setattr(watching, "SECONDS_TO_TELL", 0.0)
    monkeypatch.setattr(watching, "SECONDS_TO_LOOK", 0.0)
    yield address
    del store


def of_host(rank: int, ranks: int = 2) -> Launch:
    """Return a launch of hosts with one rank each."""
    return Launch(rank, ranks, 0, 1, rank)


def nodes_of(launch: Launch) -> tuple[int, ...]:
    with open_ranks(launch, "run") as ranks:
        return ranks.nodes


def agreed(team: Team, settings: dict[str, object], made_with: dict[str, dict[str, object]]) -> None:
    team.agree(settings)
    team.agree_on_columns(made_with)


def teams(address: Address) -> list[Team]:
    return [Team(Ranks(of_host(rank), open_board(address))) for rank in (0, 1)]


@pytest.mark.usefixtures("address")
def test_all_ranks_learn_the_first_ones_of_all_hosts() -> None:
    launches = [Launch(0, 3, 0, 2, 0), Launch(1, 3, 1, 2, 0), Launch(2, 3, 0, 1, 1)]
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(nodes_of, launches)) == [(0, 2)] * 3


def test_a_rank_that_never_comes_ends_the_run(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "CONNECTING_SECONDS", 0.3)
    began = time.monotonic()
    with pytest.raises(OSError, match="rank 1 has not come within 0 s: it has ended at its start"):
        nodes_of(of_host(0))
    assert time.monotonic() - began < 10
    assert "rank 1 has not come" in open_board(address).get("lost")[1], "all others end with it"


@pytest.mark.usefixtures("address")
def test_rank_0_ends_after_the_others_which_need_a_store_that_it_may_serve() -> None:
    ended: list[int] = []

    def work(rank: int) -> None:
        with open_ranks(of_host(rank), "run") as ranks:
            if rank:
                ranks.serve("cpu")
                time.sleep(0.5)
                ended.append(rank)
            else:
                ranks.finish()
                ended.append(rank)

    with ThreadPoolExecutor() as pool:
        list(pool.map(work, (0, 1)))
    assert ended == [1, 0]


def test_a_closed_stderr_keeps_no_rank_from_its_end(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    left: list[int] = []
    open_board(address).put("node/1", 1)
    open_board(address).put("lost", (1, "rank 1 on gpu-2: its process 7 has ended", 0))
    monkeypatch.setattr(watching, "SECONDS_TO_FAIL", 0.0)
    monkeypatch.setattr(meeting.os, "write", fail)
    with open_ranks(Launch(0, 2, 0, 1, 0), "run", lambda status: left.append(status)):
        end = time.monotonic() + 10
        while not left and time.monotonic() < end:
            time.sleep(0.05)
    assert left[:1] == [1]


def test_a_signal_before_anything_is_made_is_passed_on_to_all(address: Address) -> None:
    def stopped() -> None:
        with open_ranks(of_host(1), "run"):
            raise Stopped(signal.SIGTERM)

    with ThreadPoolExecutor() as pool:
        first = pool.submit(nodes_of, of_host(0))
        with pytest.raises(Stopped):
            stopped()
        first.result()
    assert open_board(address).get("stop") == signal.SIGTERM


def test_a_signal_of_another_rank_is_taken_once(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    board: Board = open_board(address)
    watch = watching.Watch(of_host(0), board, print)
    sent: list[int] = []
    monkeypatch.setattr(watching.os, "kill", lambda _, number: sent.append(number))
    board.put("stop", int(signal.SIGTERM))
    for _ in range(4):  # the program is not told of it before it has come from a long call
        watch.look()
    assert sent == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("settings", "made_with", "told"),
    [
        ({"SEED": 1}, {}, "it has SEED=1, and rank 0 on .* has SEED=0"),
        ({"SEED": 0}, {"SDXL": {"REVISION": "a"}, "VAR": {}}, "would make SDXL with REVISION=a, and rank 0 on .*=b"),
        ({"SEED": 0}, {"SDXL": {"REVISION": "b", "LORA": "c"}}, "would make SDXL with LORA=c, and rank 0 on .*=None"),
        ({"SEED": 0}, {"PixArt": {"REVISION": "c"}}, ""),  # which rank 0 cannot make
    ],
)
def test_ranks_that_would_make_other_images_are_refused(
    address: Address, settings: dict[str, object], made_with: dict[str, dict[str, object]], told: str
) -> None:
    first, second = teams(address)
    agreed(first, {"SEED": 0}, {"SDXL": {"REVISION": "b"}})
    if told:
        with pytest.raises(ValueError, match=told):
            agreed(second, settings, made_with)
    else:
        agreed(second, settings, made_with)


def test_a_rank_that_ends_before_the_meeting_tells_the_other_hosts_why() -> None:
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    launch = Launch(3, 4, 1, 2, 1, "127.0.0.1", store.port)
    meeting.give_up(launch, "DEVICE=cuda: this host has 1 GPU")
    told = open_board(Address("127.0.0.1", store.port, "text-to-image/0-4")).get("lost")
    assert told == (3, f"{launch.name}: DEVICE=cuda: this host has 1 GPU", 0)
    of_first_host = Launch(1, 4, 1, 2, 0, "127.0.0.1", 1)  # where no store is
    meeting.give_up(of_first_host, "its own launcher tells the others of it")


def test_ranks_that_a_launcher_starts_again_read_nothing_of_those_before() -> None:
    launches = [Launch(0, 4), Launch(0, 4, attempt=1), Launch(0, 3)]
    assert len({meeting._address_of(launch).prefix for launch in launches}) == 3
