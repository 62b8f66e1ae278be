"""The ranks of a run at work on its columns: who waits for whom, and which of them see the same files.

Rank 0 times while the other GPUs of its host are idle. Ranks of other hosts begin with bulk at once.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from benchmark.console.interruption import Stop
from benchmark.console.plain_text import visible
from benchmark.measure.machine import are_cpus
from benchmark.ranks.division import Division
from benchmark.ranks.launch import Launch
from benchmark.ranks.ranks import ALONE, RankHelpers, Ranks, wait_until
from files.writing import partial_path

SECONDS_TO_SEE = 3.0  # what a file system that hosts share may take to show a new file
TimedOn = Literal["first", "all"]


@dataclass
class Team:
    """The ranks of a run. ranks: as this one sees them. timed_on: the setting TIMED_ON.

    leader: the rank that writes what this one reads in OUTPUT_DIR: rank 0, or the first one of a host that has a folder
    of its own. apart: the first ranks of such hosts. titles: of the run's columns.
    """

    ranks: Ranks
    timed_on: TimedOn = "first"
    leader: int = 0
    apart: tuple[int, ...] = ()
    titles: tuple[str, ...] = ()

    @property
    def launch(self) -> Launch:
        return self.ranks.launch

    @property
    def is_first(self) -> bool:
        return self.ranks.is_first

    @property
    def leads_folder(self) -> bool:
        return self.launch.rank == self.leader

    @property
    def has_other_hosts(self) -> bool:
        return len(self.ranks.nodes) > 1

    def helpers(self) -> RankHelpers | None:
        """Return the other ranks that see this one's files; None where there are none."""
        if self.ranks.is_alone:
            return None
        firsts = [*self.ranks.nodes, self.launch.ranks]
        helping = [
            rank for first, following in pairwise(firsts) if first not in self.apart
            for rank in range(first, following) if rank
        ]  # fmt: skip
        return RankHelpers(self.ranks, tuple(helping)) if helping else None

    # Before anything is generated.

    def share_folder(self, folder: Path, announce: Callable[[str], None]) -> None:
        """Find out which hosts see rank 0's OUTPUT_DIR. announce: takes a line where one does not."""
        if not self.has_other_hosts:
            return
        own = self.launch.first_of_node
        if self.is_first:
            token = partial_path(folder / f"seen-{secrets.token_hex(8)}")
            token.touch()
            try:
                self.ranks.tell("token", token.name)
                seen = dict(zip(self.ranks.nodes[1:], self.ranks.hear_all("sees", self.ranks.nodes[1:]), strict=True))
            finally:
                token.unlink(missing_ok=True)
            self.apart = tuple(rank for rank, (_, sees) in seen.items() if not sees)
            self.ranks.tell("apart", self.apart)
            if self.apart:
                hosts = ", ".join(seen[rank][0] for rank in self.apart)
                announce(
                    f"{hosts} cannot see OUTPUT_DIR={folder} of {self.launch.host}: each keeps the images that it "
                    "makes in its own; copy them to one host, join them with python -m benchmark.merge, and go on there"
                )
        elif self.launch.rank == own:
            name = self.ranks.hear("token")
            self.ranks.tell(f"sees/{own}", (self.launch.host, _is_seen(folder / name)))
        self.apart = self.ranks.hear("apart")
        self.leader = own if own in self.apart else 0
        if self.launch.rank == own and own in self.apart:
            line = f"{self.launch.name} keeps the images that it makes in OUTPUT_DIR={folder}"
            print(visible(f"{line}; rank 0 tells how far it is"), file=sys.stderr)

    def wait_for_leader(self, name: str) -> None:
        """Wait until the rank that writes this one's folder has told `name`."""
        if not self.leads_folder:
            self.ranks.hear(f"{name}/{self.leader}")

    def wait_for_host(self, name: str) -> None:
        """Wait until the first rank of this host has told `name`."""
        first = self.launch.first_of_node
        if self.launch.rank not in (first, self.leader):
            self.ranks.hear(f"{name}/{first}")

    def tell(self, name: str) -> None:
        """Tell what others wait for with `wait_for_leader` and `wait_for_host`."""
        self.ranks.tell(f"{name}/{self.launch.rank}", True)

    def agree(self, known: dict[str, Any]) -> None:
        """Check that this rank runs what rank 0 runs. known: what decides that, by the name that a user knows it by.

        Raises:
            ValueError: they differ; one line says in what.
        """
        if self.ranks.is_alone:
            return
        if self.is_first:
            self.ranks.tell("agreed", (self.launch.name, known))
            return
        name, agreed = self.ranks.hear("agreed")
        for what, here, there in _differing(known, agreed):
            how = ", with one OMP_NUM_THREADS" if are_cpus(here, there) else ""
            raise ValueError(f"it has {what}={here}, and {name} has {what}={there}: all ranks run the same{how}")

    def agree_on_columns(self, made_with: Mapping[str, Mapping[str, object]]) -> None:
        """As `agree`, of each column that this rank and rank 0 can make, by what its folder's fingerprint says."""
        if self.ranks.is_alone:
            return
        if self.is_first:
            self.ranks.tell("columns", (self.launch.name, {title: dict(made_with[title]) for title in made_with}))
            return
        name, agreed = self.ranks.hear("columns")
        for title, here in made_with.items():
            for what, mine, theirs in _differing(here, agreed.get(title, here)):
                raise ValueError(
                    f"it would make {title} with {what}={mine}, and {name} with {what}={theirs}: all ranks run the same"
                )

    # While images are generated.

    def begin(self, session: str) -> None:
        """Tell the others that this rank's folders are held, and the name of the run."""
        self.ranks.tell("session", session)

    def join(self, stop: Stop) -> str:
        """Wait until the folders are held that this rank writes into; return the name of the run."""
        self.tell("joined")
        if self.leads_folder:
            self.tell("held")
        elif self.leader:
            self.ranks.hear(f"held/{self.leader}", stop)
        return self.ranks.hear("session", stop) or ""

    def wait_for_quiet(self, stop: Stop) -> None:
        """Wait until the other ranks of this host have prepared, and wait: what is timed has the host for itself."""
        others = [rank for rank in self.launch.node_ranks if rank != self.launch.rank]
        if others:
            self.ranks.hear_all("joined", others, stop)

    def wait_for_turn(self, stop: Stop) -> bool:
        """Wait until this rank's GPU is to be timed, too; return False where it is not, or it was stopped before."""
        if self.timed_on != "all" or self.launch.node:
            return False
        return self.ranks.hear(f"timed/{self.launch.rank - 1}", stop) is not None

    def end_turn(self) -> None:
        """Tell that this rank's GPU is timed."""
        self.ranks.tell(f"timed/{self.launch.rank}", True)

    def end_own_rounds(self, stop: Stop) -> None:
        """Tell that rank 0's rounds are timed, and wait until the other GPUs of the host that are to be timed are."""
        if not self.ranks.is_alone:
            self.end_turn()
            self.wait_for_rounds(stop)

    def wait_for_rounds(self, stop: Stop) -> bool:
        """Wait until nothing is timed any more on this host; return False where it was stopped before."""
        if self.launch.node:
            return not stop()
        last = self.launch.local_ranks - 1 if self.timed_on == "all" else 0
        return self.ranks.hear(f"timed/{last}", stop) is not None and not stop()

    def division(self, title: str, after: str = "") -> Division | None:
        """Return how a column's bulk is divided; None where this process is alone. after: the column before it."""
        if self.ranks.address is None:
            return None
        return Division(self.ranks.address, self.launch, title, after)

    def skip(self, titles: Sequence[str]) -> None:
        """Tell the others that this rank makes nothing, or nothing more, of these columns; rank 0 says so for all."""
        for title in titles:
            if (division := self.division(title)) is not None:
                division.end()

    def skip_all_but(self, titles: Collection[str]) -> None:
        """As `skip`, of all other columns of the run."""
        self.skip([title for title in self.titles if title not in titles])

    @property
    def remedy(self) -> str:
        """What becomes of the share of a rank that could not make it."""
        if self.apart:
            return "once the folders are joined, the same command makes its share"
        return "rank 0 makes its share"

    def end_bulk(
        self, stop: Stop, lacking: Mapping[str, str] = MappingProxyType({}),
        idle: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[dict[str, str], dict[str, str]]:  # fmt: skip
        """Wait for the end of all images in bulk; return, by title, what other ranks tell with these two, a line each.

        lacking: why this rank could not make what it claimed of a column. idle: why it has claimed nothing.
        """
        if self.ranks.is_alone:
            return {}, {}
        self.skip(self.titles)
        self.ranks.tell(f"lacking/{self.launch.rank}", (self.launch.name, dict(lacking), dict(idle)))
        if not self.is_first:
            return {}, {}
        told = self.ranks.hear_all("lacking", self.ranks.others, stop)
        return (
            _by_title([(name, reasons) for name, reasons, _ in told]),
            _by_title([(name, reasons) for name, _, reasons in told]),
        )

    def card(self, device: str) -> str:
        """Return the UUID of this rank's GPU, as NVML has it; of a CPU, the name of the rank."""
        if device == "cpu":
            return f"rank {self.launch.rank}"
        from benchmark.measure.nvml import torch_uuid

        return f"GPU-{torch_uuid(device).removeprefix('GPU-')}"


def _differing(here: Mapping[str, Any], there: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what two mappings differ in, in the order of the second one: the name, and both values."""
    for what in dict.fromkeys((*there, *here)):
        if here.get(what) != there.get(what):
            yield what, here.get(what), there.get(what)


def _by_title(told: Sequence[tuple[str, Mapping[str, str]]]) -> dict[str, str]:
    """Return a line for each title: what the first rank says, and how many say something, too."""
    lines: dict[str, list[str]] = {}
    for name, reasons in told:
        for title, reason in reasons.items():
            lines.setdefault(title, []).append(f"{name} could not make it ({reason})")
    more = {title: len(of_title) - 1 for title, of_title in lines.items()}
    return {
        title: of_title[0] + (f", nor could {more[title]} other rank(s)" if more[title] else "")
        for title, of_title in lines.items()
    }  # fmt: skip


def _is_seen(path: Path) -> bool:
    """Return whether a file is there, or appears soon: file systems of networks keep what they saw of a folder."""
    end = time.monotonic() + SECONDS_TO_SEE
    return wait_until(path.exists, lambda: time.monotonic() > end)


NO_TEAM = Team(ALONE)
