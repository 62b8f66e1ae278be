"""The ranks of a run as one of them sees the others: what it tells, waits for, claims, asks, and does when asked."""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from benchmark.console.interruption import Stop, status_of
from benchmark.console.plain_text import one_line
from benchmark.ranks.board import CONNECTING_SECONDS, Address, Board, StoreLost, meet, open_board
from benchmark.ranks.launch import Launch
from benchmark.ranks.watch import GOES_ON, Watch

SECONDS_BETWEEN_LOOKS = 0.1
SECONDS_TO_END = 10.0  # of the others, once the run is over
SECONDS_TO_GIVE_UP = 10.0  # for telling the others, of a rank that ends before it has met them
Work = Callable[[str], None]  # takes the device of the process that runs it


def never() -> bool:
    """Say that no stop was asked for."""
    return False


def wait_until(is_so: Callable[[], bool], stopped: Callable[[], bool] = never) -> bool:
    """Look ten times in a second until something is so; return False where it was stopped before."""
    while not is_so():
        if stopped():
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


class Ranks:
    """The ranks of a run, of which this process is one; a run of one process has none beside it.

    nodes: the launchers' first ranks, ascending; known to all once `open_ranks` has returned.
    """

    def __init__(self, launch: Launch, board: Board | None = None, watch: Watch | None = None) -> None:
        assert launch.is_alone == (board is None)
        self.launch = launch
        self.nodes: tuple[int, ...] = (0,)
        self._board, self._watch = board, watch
        self._asked: dict[int, int] = {}

    @property
    def is_alone(self) -> bool:
        return self.launch.is_alone

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which times, evaluates, reports and prints."""
        return self.launch.rank == 0

    @property
    def address(self) -> Address | None:
        """Where the store is; None where this process is alone."""
        return None if self._board is None else self._board.address

    @property
    def others(self) -> range:
        """The ranks beside rank 0."""
        return range(1, self.launch.ranks)

    def tell(self, name: str, value: object = None) -> None:
        """Tell all ranks a value, once for each name."""
        if self._board is not None:
            self._board.put(name, value)

    def hear(self, name: str, stopped: Callable[[], bool] = never) -> Any:
        """Return the value that some rank tells, once it has; None where it was stopped before."""
        board = self._board
        assert board is not None, f"a run of one process has no other rank to tell {name}"
        return board.get(name) if wait_until(lambda: board.has(name), stopped) else None

    def has_heard(self, name: str) -> bool:
        """Return whether some rank has told this."""
        return self._board is not None and self._board.has(name)

    def hear_all(self, name: str, ranks: Sequence[int], stopped: Callable[[], bool] = never) -> list[Any]:
        """Return what each of these ranks tells under `name/RANK`, once all have; those told, where it was stopped."""
        told = [self.hear(f"{name}/{rank}", stopped) for rank in ranks]
        return [value for value in told if value is not None]

    def ask(
        self, works: Sequence[Work], ranks: Sequence[int] | None = None
    ) -> Callable[[Callable[[], None]], tuple[str, ...]]:
        """Have other ranks, which `serve`, run these: the first one for the first of `ranks` (None: for rank 1), ...

        The returned function waits for all of them, and returns for each "" or in one line why it failed. It takes what
        it calls while it waits; that may raise, which ends the waiting.
        """
        assert self._board is not None
        assert self.is_first
        asked = self.others if ranks is None else ranks
        assert len(works) <= len(asked)
        names = []
        for rank, work in zip(asked, works, strict=False):
            self._asked[rank] = number = self._asked.get(rank, 0) + 1
            self._board.put(f"work/{rank}/{number}", pickle.dumps(work))
            names.append(f"done/{rank}/{number}")

        def wait(idle: Callable[[], None]) -> tuple[str, ...]:
            def is_stopping() -> bool:
                idle()
                return self._is_stopping()

            return tuple(self.hear(name, is_stopping) or "" for name in names)

        return wait

    def serve(self, device: str) -> None:
        """Run what rank 0 asks of this rank, until it says that the run is over, or a signal stops this process.

        device: of this process.
        """
        assert self._board is not None
        assert not self.is_first
        number = 1
        rank = self.launch.rank
        while not self._board.has("over") and not self._is_stopping():
            if not self._board.has(f"work/{rank}/{number}"):
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            try:
                pickle.loads(self._board.get(f"work/{rank}/{number}"))(device)
                failure = ""
            except Exception as error:  # rank 0 does it itself, and says why
                failure = f"{self.launch.name}: {type(error).__name__}: {one_line(error)}"
            self._board.put(f"done/{rank}/{number}", failure)
            number += 1

    def finish(self) -> None:
        """Say that the run is over, and wait until the others have ended: the store may end with this process.

        Said by rank 0, once.
        """
        self.tell("over")
        if (board := self._board) is not None:
            end = time.monotonic() + SECONDS_TO_END
            ended = [f"ended/{rank}" for rank in self.others]
            wait_until(lambda: board.has(*ended), lambda: self._is_stopping() or time.monotonic() > end)

    def fail(self, reason: str) -> None:
        """Say that this rank cannot go on, which ends the others; rank 0 prints the line, of another rank."""
        if self._watch is not None:
            self._watch.fail(reason)

    def attend(self, stop: Stop) -> None:
        """Stop all ranks where a signal stops one of them. stop: of this process."""
        if self._watch is not None:
            self._watch.stop = stop

    def _is_stopping(self) -> bool:
        return self._watch is not None and self._watch.stop()

    def settle(self) -> None:
        """Wait, after a signal, until it is known whether it came since another rank has died; then this one ends."""
        if self._watch is not None:
            self._watch.settle()


ALONE = Ranks(Launch())


@dataclass(frozen=True)
class RankHelpers:
    """Other ranks as those that extract features for rank 0. helping: those that see its files; None: all of them."""

    ranks: Ranks
    helping: tuple[int, ...] | None = None

    @property
    def count(self) -> int:
        return len(self.ranks.others if self.helping is None else self.helping)

    def ask(self, works: Sequence[Work]) -> Callable[[Callable[[], None]], tuple[str, ...]]:
        return self.ranks.ask(works, self.helping)


def give_up(launch: Launch, reason: str) -> None:
    """Tell the ranks of other hosts that this one ends before it has met them; its own launcher tells those of its."""
    if launch.node:
        with suppress(StoreLost):
            board = open_board(_address_of(launch), SECONDS_TO_GIVE_UP)
            board.put_first("lost", (launch.rank, f"{launch.name}: {reason}", 0))


def _address_of(launch: Launch) -> Address:
    """Return where a launch's store is. The names in it begin anew where a launcher starts its ranks again."""
    return Address(launch.address, launch.port, f"text-to-image/{launch.attempt}-{launch.ranks}")


@contextmanager
def open_ranks(
    launch: Launch, program: str, leave: Callable[[int], None] = os._exit, goes_on: str = GOES_ON
) -> Iterator[Ranks]:
    """Meet the other ranks of the run, and watch them until the block ends.

    Where one of them ends before that, this process ends, too, at once, with status 1; one rank says which.

    program: what the line begins with. goes_on: what it ends with where a rank was lost.

    Raises:
        OSError: the launcher's store cannot be reached.
    """
    if launch.is_alone:
        yield ALONE
        return

    def tell(line: str) -> None:
        with suppress(OSError):  # a stderr that is closed or full keeps no rank from its end
            os.write(2, f"{program}: {line}\n".encode())

    board = meet(_address_of(launch))
    watch = Watch(launch, open_board(board.address), tell, leave, goes_on)
    watch.start()
    ranks = Ranks(launch, board, watch)
    try:
        ranks.nodes = _meet_all(ranks)
        yield ranks
        if ranks._is_stopping():  # as below, where a signal let this rank come to its end
            ranks.settle()
    except Exception as error:
        ranks.fail(f"{'' if isinstance(error, OSError | ValueError) else f'{type(error).__name__}: '}{one_line(error)}")
        raise
    except KeyboardInterrupt as stop:  # a signal: of a person, or of the launcher since a rank has died
        watch.pass_on(status_of(stop) - 128)
        ranks.settle()
        raise
    finally:
        sys.stderr.flush()
        watch.end()


def _meet_all(ranks: Ranks) -> tuple[int, ...]:
    """Return the launchers' first ranks, once all ranks are there: rank 0 hears of all, and tells them.

    Raises:
        OSError: a rank has not come: what ended it before this is not seen from another host.
    """
    launch = ranks.launch
    ranks.tell(f"node/{launch.rank}", launch.first_of_node)
    # The others hear from rank 0 which one has not come.
    end = time.monotonic() + (CONNECTING_SECONDS if ranks.is_first else 1.2 * CONNECTING_SECONDS)

    def hear(name: str, of: int) -> Any:
        if (told := ranks.hear(name, lambda: time.monotonic() > end)) is None:
            raise OSError(
                f"rank {of} has not come within {CONNECTING_SECONDS:.0f} s: it has ended at its start, for a reason "
                "that its own launcher shows"
            )
        return told

    if ranks.is_first:
        ranks.tell("nodes", tuple(sorted({hear(f"node/{rank}", rank) for rank in range(launch.ranks)})))
    nodes: tuple[int, ...] = hear("nodes", 0)
    return nodes
