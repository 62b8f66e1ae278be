"""A rank that has ended without saying so ends the others, with one line by one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from torch.distributed import TCPStore

from benchmark.console.interruption import Stop
from benchmark.ranks import watch as watching
from benchmark.ranks.board import Address, Board, open_board
from benchmark.ranks.launch import Launch
from benchmark.ranks.watch import GOES_ON, Watch, seconds_to_settle

ROOT = Path(__file__).parents[3]


class Rank:
    """A rank of a run of two hosts with two ranks each, whose watch looks when it is asked to."""

    def __init__(self, address: Address, rank: int) -> None:
        self.told: list[str] = []
        self.left: list[int] = []
        launch = Launch(rank, 4, rank % 2, 2, rank // 2)
        self.watch = Watch(launch, open_board(address), self.told.append, self.left.append)
        self.launch = launch
        self.watch._board.has("pid")  # answered once the others can see what it has told

    def look(self) -> None:
        self.watch.look()


@pytest.fixture
def ranks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Rank]]:
    monkeypatch.setattr(watching, "SECONDS_TO_FAIL", 0.0)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    address = Address("127.0.0.1", store.port, request.node.name)
    yield [Rank(address, rank) for rank in range(4)]
    del store


@pytest.fixture
def gone() -> int:
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def give_pid(rank: Rank, pid: int) -> None:
    rank.watch._board.put(f"pid/{rank.launch.rank}", pid)
    assert rank.watch._board.get(f"pid/{rank.launch.rank}") == pid


def look(*ranks: Rank) -> None:
    for rank in ranks:
        rank.look()


def test_ranks_that_live_say_nothing_and_go_on(ranks: list[Rank]) -> None:
    for _ in range(3):
        look(*ranks)
    assert [rank.told + rank.left for rank in ranks] == [[]] * 4


def test_a_dead_rank_ends_the_others_and_rank_0_says_which(ranks: list[Rank], gone: int) -> None:
    give_pid(ranks[3], gone)
    look(ranks[0], ranks[1])
    assert ranks[0].left == [], "on another host, where it is not seen"
    look(ranks[2], ranks[0], ranks[1])
    assert [rank.left for rank in ranks[:3]] == [[1]] * 3
    (line,) = ranks[0].told
    assert line.startswith(f"rank 3 on {ranks[3].launch.host}: its process {gone} has ended")
    assert line.endswith(GOES_ON)
    assert ranks[1].told == ranks[2].told == []


def test_where_rank_0_is_dead_the_rank_that_finds_it_says_so(ranks: list[Rank], gone: int) -> None:
    give_pid(ranks[0], gone)
    look(ranks[1], ranks[2], ranks[3])
    assert [len(rank.told) for rank in ranks] == [0, 1, 0, 0]
    assert "rank 0 on" in ranks[1].told[0]
    assert [rank.left for rank in ranks[1:]] == [[1]] * 3


def test_a_rank_that_has_said_that_it_ends_may(ranks: list[Rank], gone: int) -> None:
    give_pid(ranks[1], gone)
    ranks[1].watch.start()
    ranks[1].watch.end()
    look(ranks[0])
    assert ranks[0].left == []


def test_the_others_know_that_a_rank_has_ended_before_its_process_is_gone() -> None:
    class Late:
        """A connection to a store that takes what it is told a moment later, but before it answers."""

        def __init__(self) -> None:
            self.there: set[str] = set()
            self.on_its_way: set[str] = set()

        def set(self, name: str, _: bytes) -> None:
            self.on_its_way.add(name)

        def check(self, names: list[str]) -> bool:
            self.there |= self.on_its_way
            return self.there.issuperset(names)

    store = Late()
    watch = Watch(Launch(1, 2, 1, 2), Board(store, Address("", 0, "run")), print)
    watch.start()
    watch.end()
    assert "run/ended/1" in store.there


def test_a_rank_of_another_host_without_a_sign_is_lost(ranks: list[Rank], monkeypatch: pytest.MonkeyPatch) -> None:
    look(*ranks)
    look(ranks[0])
    monkeypatch.setattr(watching, "SECONDS_WITHOUT_A_SIGN", 0.05)
    time.sleep(0.1)
    look(*ranks[1:])
    look(ranks[0])
    assert ranks[0].left == [], "all have given a sign since the last look"
    time.sleep(0.1)
    look(ranks[2], ranks[0])
    assert "rank 3 on" in ranks[0].told[0]
    assert "no sign of life for" in ranks[0].told[0]


def test_what_a_rank_cannot_use_is_told_by_rank_0_in_its_words(ranks: list[Rank]) -> None:
    ranks[2].watch.fail("it has SEED=1, and rank 0 has SEED=2")
    look(*ranks)
    assert ranks[0].told == [f"rank 2 on {ranks[2].launch.host}: it has SEED=1, and rank 0 has SEED=2"]
    assert [rank.left for rank in ranks] == [[1], [1], [], [1]]


def test_a_store_that_is_gone_ends_a_host_with_one_line(ranks: list[Rank]) -> None:
    look(*ranks)
    look(*ranks)
    for rank in (ranks[3], ranks[2]):
        rank.watch._end_without_store("the launcher's store does not answer")
    assert ranks[3].told == []
    assert ranks[2].told == [f"{ranks[2].launch.name}: the launcher's store does not answer; {GOES_ON}"]
    assert ranks[2].left == ranks[3].left == [1]


def test_a_signal_for_one_rank_stops_all_and_rank_0_says_so(ranks: list[Rank], monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    kill: Callable[[int, int], None] = os.kill
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)) if number else kill(pid, number))
    monkeypatch.setattr(watching, "SECONDS_TO_TELL", 0.0)
    ranks[1].watch.stop = Stop(signal.SIGTERM)
    look(ranks[1], ranks[0])
    assert sent == [], "a launcher may send its own signal to this rank as well"
    look(ranks[0])
    assert sent == [(os.getpid(), signal.SIGTERM)]
    ranks[0].watch.stop = Stop(signal.SIGTERM)
    look(ranks[0], ranks[0], ranks[0], ranks[1])
    assert len(ranks[0].told) == 1
    assert ranks[0].told[0].startswith("Stopping after this batch")
    assert ranks[1].told == []
    assert ranks[0].left == ranks[1].left == []


def test_a_signal_waits_for_the_look_that_tells_which_rank_has_died(
    ranks: list[Rank], gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_late(watch: Watch, own: Callable[[Watch], None] = Watch.look) -> None:
        time.sleep(0.3)
        own(watch)

    give_pid(ranks[1], gone)
    monkeypatch.setattr(Watch, "look", look_late)
    monkeypatch.setattr(watching, "SECONDS_TO_TELL", 0.0)
    monkeypatch.setattr(watching, "SECONDS_TO_LOOK", 60.0)
    ranks[0].watch.start()
    ranks[0].watch.settle()
    ranks[0].watch.end()
    assert ranks[0].left[0] == 1
    assert ranks[0].told[0].startswith("rank 1 on ")


@pytest.mark.parametrize(
    ("found_s", "wait_s", "told", "status"),
    [(0.5, 60.0, "rank 1 has ended", 1), (60.0, 0.0, "run: stopped\n", 128 + signal.SIGTERM)],
)
def test_a_signal_during_an_import_leaves_time_to_say_which_rank_has_died(
    tmp_path: Path, found_s: float, wait_s: float, told: str, status: int
) -> None:
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n")
    program = (
        "import os, sys, threading\n"
        "from benchmark.console.interruption import exit_status_of\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"
        "def find_dead():\n    os.write(2, b'rank 1 has ended')\n    os._exit(1)\n"
        f"def run():\n    threading.Timer({found_s}, find_dead).start()\n    import slow\n"
        f"exit_status_of(run, 'run', 'stopped', {wait_s})\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.stderr, ended.returncode) == (told, status)


def test_of_one_process_a_signal_waits_for_nothing() -> None:
    assert seconds_to_settle({"RANK": "16"}) == 0.0
    assert seconds_to_settle({"WORLD_SIZE": "2"}) > watching.SECONDS_TO_FAIL + watching.SECONDS_BETWEEN_SIGNS
