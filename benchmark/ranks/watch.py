"""Signs of life: each rank gives one every second, and ends where another one has none any more.

A thread does it, so that hours of work on one rank are no failure. A rank that waits, loads or computes gives its sign
all the same. A kill loses only the work in flight, so a rank ends at once, wherever it is: its workers end with it.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from benchmark.console.interruption import STOPPING, Stop
from benchmark.ranks.board import Board, StoreLost
from benchmark.ranks.launch import Launch, is_launched

SECONDS_BETWEEN_SIGNS = 0.5
SECONDS_WITHOUT_A_SIGN = 20.0  # of a rank on another host; one of this host is seen to end at once
SECONDS_TO_TELL = 2.5  # after a signal: a launcher sends one to all ranks where one of them has died
SECONDS_TO_LOOK = 10.0  # at most, after a signal too: the looks of a busy host come late
SECONDS_TO_FAIL = 1.0  # after another rank has: what one cannot use, the others cannot use either
LOST_STATUS = 1
GOES_ON = "the same command goes on from the last whole batch"


def seconds_to_settle(environment: Mapping[str, str] = os.environ) -> float:
    """Return how long a signal may wait: of several processes, another one may have died, which then is told."""
    return SECONDS_TO_TELL if is_launched(environment) else 0.0


class Watch:
    """The signs of this rank, and what it knows of the others. `board`: a connection for this thread alone."""

    def __init__(
        self, launch: Launch, board: Board, tell: Callable[[str], None], leave: Callable[[int], None] = os._exit,
        goes_on: str = GOES_ON,
    ) -> None:  # fmt: skip
        self._launch, self._board, self._tell, self._leave, self._goes_on = launch, board, tell, leave, goes_on
        self._over = threading.Event()
        self._signs, self._looks, self._seen = 0, 0, dict[int, tuple[int, float]]()
        self._pids: dict[int, int] = {}
        self.stop = Stop()  # of the program, once it has one
        self._stopping_since: float | None = None
        self._looks_at_stop = 0
        # As at the last look, since all ranks of a host lose the store at once.
        self._speaks_for_host = launch.local_rank == 0
        self._thread = threading.Thread(target=self._run, name="signs of life", daemon=True)
        board.put(f"pid/{launch.rank}", os.getpid())
        board.put(f"host/{launch.rank}", launch.host)
        board.put(f"sign/{launch.rank}", 0)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Tell the others that this rank has come to its end, and watch no more."""
        self._over.set()
        self._thread.join()
        with suppress(StoreLost):
            self._board.put(f"ended/{self._launch.rank}", True)
            self._board.has(f"ended/{self._launch.rank}")  # answered once it is there: before this process is gone

    def fail(self, reason: str) -> None:
        """Tell the others that this rank cannot go on, and why: rank 0 says it, unless it is rank 0's own failure."""
        with suppress(StoreLost):
            self._board.put_first("lost", (self._launch.rank, f"{self._launch.name}: {reason}", 0))

    def pass_on(self, number: int) -> None:
        """Tell the others of a signal that ends this rank, also before the program has a `Stop`."""
        self._looks_at_stop = 2  # this rank has its signal
        with suppress(StoreLost):
            self._board.put_first("stop", number)

    def settle(self) -> None:
        """Wait, after a signal, until it is known whether it came since another rank has died: this one ends then.

        That takes a whole look, which has begun since.
        """
        enough, end = self._looks + 2, time.monotonic() + SECONDS_TO_LOOK  # one may have begun before
        time.sleep(SECONDS_TO_TELL)
        while self._looks < enough and self._thread.is_alive() and time.monotonic() < end:
            time.sleep(SECONDS_BETWEEN_SIGNS / 10)

    def _run(self) -> None:
        while not self._over.wait(SECONDS_BETWEEN_SIGNS):
            try:
                self.look()
            except StoreLost as error:
                self._end_without_store(str(error))
            self._looks += 1

    def look(self) -> None:
        """Give a sign, and end where a rank is lost."""
        rank, board = self._launch.rank, self._board
        self._signs += 1
        board.put(f"sign/{rank}", self._signs)
        if not board.has("lost"):
            lost = self._find_lost()
            if lost is None:
                self._speaks_for_host = not any(map(self._is_alive, range(self._launch.first_of_node, rank)))
                self._pass_on_stop()
                return
            other, reason = lost
            line = f"rank {other} on {board.get(f'host/{other}')}: {reason}; {self._goes_on}"
            board.put_first("lost", (other, line, rank if other == 0 else 0))
        self._end_with_lost(*board.get("lost"))

    def _pass_on_stop(self) -> None:
        """Tell the others of a signal that stops this rank; take theirs for one of its own."""
        now = time.monotonic()
        if self.stop() and self._stopping_since is None:
            self._stopping_since = now
            self._board.put_first("stop", self.stop.status - 128)
        elif not self.stop() and self._board.has("stop"):
            self._looks_at_stop += 1
            if self._looks_at_stop == 2:  # not at the first one: a launcher's signal may be on its way here
                os.kill(os.getpid(), self._board.get("stop"))  # once: a second signal would end it in the batch
        if self._stopping_since is not None and now - self._stopping_since > SECONDS_TO_TELL:
            self._stopping_since = math.inf
            if self._launch.rank == 0:
                self._tell(STOPPING)

    def _find_lost(self) -> tuple[int, str] | None:
        for other in self._launch.node_ranks:
            if other == self._launch.rank or not self._is_started(other):
                continue
            if not _is_running(self._pids[other]) and not self._board.has(f"ended/{other}"):
                return other, f"its process {self._pids[other]} has ended: it was killed, or memory ran out"
        now = time.monotonic()
        ranks = range(self._launch.ranks) if self._launch.rank == 0 else (0,)
        watched = [other for other in ranks if other not in self._launch.node_ranks and self._is_started(other)]
        if not watched:
            return None
        for other, sign in zip(watched, self._board.get_all([f"sign/{other}" for other in watched]), strict=True):
            last, since = self._seen.get(other, (-1, now))
            if sign != last:
                self._seen[other] = sign, now
            elif now - since > SECONDS_WITHOUT_A_SIGN and not self._board.has(f"ended/{other}"):
                return other, f"no sign of life for {SECONDS_WITHOUT_A_SIGN:.0f} s"
        return None

    def _is_started(self, other: int) -> bool:
        if other not in self._pids and self._board.has(f"pid/{other}", f"host/{other}", f"sign/{other}"):
            self._pids[other] = self._board.get(f"pid/{other}")
        return other in self._pids

    def _is_alive(self, other: int) -> bool:
        return other in self._pids and _is_running(self._pids[other])

    def _end_with_lost(self, other: int, line: str, speaker: int) -> None:
        if other == self._launch.rank:  # its own failure, which it has told
            return
        if self._over.wait(SECONDS_TO_FAIL):  # for the same reason, of which it says more
            return
        if speaker == self._launch.rank:
            self._tell(line)
        self._leave(LOST_STATUS)

    def _end_without_store(self, reason: str) -> None:
        if self._over.is_set():
            return
        if self._speaks_for_host:
            self._tell(f"{self._launch.name}: {reason}; {self._goes_on}")
        self._leave(LOST_STATUS)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(process)


def _is_zombie(process: int) -> bool:
    """Return whether a process has ended and its launcher has not asked for its status yet."""
    try:
        status = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:  # not Linux, or it has ended meanwhile
        return False
    return status.rpartition(")")[2].split()[:1] == ["Z"]
