"""Ranks of a run, as threads on one store: what rank 0 lacks or has already holds up no other host."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from in_process import open_in_process
from noise_model import FINGERPRINT, Noise
from torch.distributed import TCPStore

from benchmark.console.interruption import Stop
from benchmark.console.progress import Progress, Task, silent_stream
from benchmark.data.prompts import Prompt, PromptSet
from benchmark.ranks.board import Address, open_board
from benchmark.ranks.launch import Launch
from benchmark.ranks.ranks import ALONE, Ranks
from benchmark.run import servers
from benchmark.run.columns import Column
from benchmark.run.jobs import Job
from benchmark.run.journal import Journal
from benchmark.run.rounds import generate, generate_beside
from benchmark.run.team import Team
from benchmark.settings.command_line import parse_command
from files.locks import locked

SECONDS = 20.0
COUNT, TIMED = 12, 2
PROMPTS = PromptSet("made up", "made up", (), (Prompt(0, "a tree"),), exhausted=True)
SETTINGS = parse_command([
    "--num-samples", str(COUNT), "--timed-samples", str(TIMED), "--rounds", "1", "--warmup", "0", "--passes", "none",
    "--bulk-batch-size", "2", "--device", "cpu",
], {}).settings  # fmt: skip
Models = Mapping[str, Callable[[], Noise]]


class Notes(Progress):
    """Keeps the lines that are told, and the names of what is shown."""

    def __init__(self) -> None:
        super().__init__(silent_stream())
        self.lines: list[str] = []
        self.shown: list[str] = []

    @contextmanager
    def task(self, name: str, total: int, unit: str = "images") -> Iterator[Task]:
        self.shown.append(name)
        with super().task(name, total, unit) as task:
            yield task

    def note(self, message: str) -> None:
        self.lines.append(message)


@dataclass
class Rank:
    """A rank of a run, and what became of its columns. address: None for a run of one process."""

    address: Address | None
    launch: Launch
    folder: Path
    models: Models
    apart: tuple[int, ...] = ()
    notes: Notes = field(default_factory=Notes)
    failures: dict[str, str] = field(default_factory=dict)

    def work(self) -> None:
        ranks = ALONE
        if self.address is not None:
            ranks = Ranks(self.launch, open_board(self.address))
            ranks.nodes = tuple(range(0, self.launch.ranks, self.launch.local_ranks))
        leader = self.launch.rank if self.launch.rank in self.apart else 0
        team = Team(ranks, leader=leader, apart=self.apart, titles=tuple(self.models))
        writer = f"rank{self.launch.rank}" if self.launch.rank else "0"
        jobs = [self._job(title, writer) for title in self.models]
        if self.launch.rank:
            generate_beside(jobs, PROMPTS, "cpu", Stop(), self.failures, team)
        else:
            generate(jobs, PROMPTS, "cpu", self.notes, Stop(), self.failures, team)

    def _job(self, title: str, writer: str) -> Job:
        model = SimpleNamespace(options=None, family=SimpleNamespace(imports=()))
        column = SimpleNamespace(
            title=title, name=title, mode="eager", settings=SETTINGS, model=model, loaded_options=None
        )  # fmt: skip
        load = self.models[title]
        journal = Journal(self.folder / title, FINGERPRINT, writer=writer)
        return Job(cast(Column, column), journal, load, load, "float32")

    def made(self, title: str) -> dict[int, str]:
        """Return by whom each image in this rank's folder was made."""
        batches = Journal(self.folder / title, FINGERPRINT).read().batches
        return {index: batch.writer for batch in batches for index in batch.indices}


@pytest.fixture
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Address]:
    monkeypatch.setattr(servers, "open_servers", open_in_process)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    yield Address("127.0.0.1", store.port, request.node.name)
    del store


def on_two_hosts(rank: int) -> Launch:
    return Launch(rank, 2, 0, 1, rank)


def work_together(*ranks: Rank) -> None:
    with ThreadPoolExecutor() as pool:
        for ended in [pool.submit(rank.work) for rank in ranks]:
            ended.result(timeout=2 * SECONDS)


def wait_until(is_so: Callable[[], bool]) -> None:
    end = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


def test_another_host_waits_for_no_column_that_is_whole_or_cannot_be_made(address: Address, tmp_path: Path) -> None:
    Rank(None, Launch(), tmp_path, {"Whole": Noise}).work()
    (tmp_path / "Used").mkdir()

    def has_bulk() -> bool:
        return len(list((tmp_path / "New" / "output").glob("*.png"))) >= COUNT - TIMED

    # Rank 0 is timed until the other host has made all images in bulk.
    timed: Models = {name: lambda: Noise(on_call=lambda _: wait_until(has_bulk)) for name in ("Whole", "Used", "New")}
    first = Rank(address, on_two_hosts(0), tmp_path, timed)
    second = Rank(address, on_two_hosts(1), tmp_path, dict.fromkeys(timed, Noise))
    with locked(tmp_path / "Used", "is tested"):
        work_together(first, second)
    assert list(first.failures) == ["Used"]
    assert first.made("New") == dict.fromkeys(range(TIMED), "0") | dict.fromkeys(range(TIMED, COUNT), "rank1")


def test_rank_0_times_once_the_other_ranks_of_its_host_have_prepared(address: Address, tmp_path: Path) -> None:
    events: list[str] = []
    first = Rank(address, Launch(0, 2, 0, 2), tmp_path, {"New": lambda: Noise(on_call=lambda _: events.append("call"))})
    second = Rank(address, Launch(1, 2, 1, 2), tmp_path, {"New": Noise})
    with ThreadPoolExecutor() as pool:
        ended = pool.submit(first.work)
        time.sleep(0.5)
        events.append("prepared")
        second.work()
        ended.result(timeout=SECONDS)
    assert events[:2] == ["prepared", "call"]
    assert len(first.made("New")) == COUNT


def test_why_another_rank_could_not_make_its_share_is_told_and_rank_0_makes_it(
    address: Address, tmp_path: Path
) -> None:
    has_failed = threading.Event()

    def broken() -> Noise:
        has_failed.set()
        raise OSError("no space left")

    first = Rank(
        address, on_two_hosts(0), tmp_path, {"New": lambda: Noise(on_call=lambda _: wait_until(has_failed.is_set))}
    )
    second = Rank(address, on_two_hosts(1), tmp_path, {"New": broken})
    work_together(first, second)
    assert len(first.made("New")) == COUNT
    (line,) = [line for line in first.notes.lines if "could not" in line]
    assert line.startswith("New: rank 1 on ")
    assert "could not make it (OSError: no space left" in line
    assert line.endswith("; rank 0 makes its share")
    assert first.failures == {}


def test_what_hosts_with_folders_of_their_own_have_made_is_not_made_again(address: Address, tmp_path: Path) -> None:
    has_failed = threading.Event()

    class Breaking(Noise):
        def check(self) -> None:
            if len(self.calls) > 3:  # one call warms up
                has_failed.set()
                raise OSError("no space left")

    first = Rank(
        address, on_two_hosts(0), tmp_path / "0",
        {"New": lambda: Noise(on_call=lambda _: wait_until(has_failed.is_set))}, apart=(1,),
    )  # fmt: skip
    second = Rank(address, on_two_hosts(1), tmp_path / "1", {"New": Breaking}, apart=(1,))
    work_together(first, second)
    assert len(second.made("New")) == 4
    assert not first.made("New").keys() & second.made("New").keys()
    assert any("once the folders are joined" in line for line in first.notes.lines)


def test_a_column_is_shown_by_its_name_where_another_host_has_made_all_of_its_bulk(
    address: Address, tmp_path: Path
) -> None:
    def has_bulk() -> bool:
        return len(list((tmp_path / "1" / "New" / "output").glob("*.png"))) >= COUNT - TIMED

    timed: Models = {"New": lambda: Noise(on_call=lambda _: wait_until(has_bulk))}
    first = Rank(address, on_two_hosts(0), tmp_path / "0", timed, apart=(1,))
    second = Rank(address, on_two_hosts(1), tmp_path / "1", {"New": Noise}, apart=(1,))
    work_together(first, second)
    assert len(first.made("New")) == TIMED
    assert first.notes.shown == ["Noise, round 1 of 1", "New, bulk"], "no model is loaded to ask it for its name"


def test_a_column_without_a_batch_size_is_timed_all_the_same(
    address: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_out = SETTINGS.model_copy(update={"bulk_batch_size": "auto"})
    monkeypatch.setattr(sys.modules[__name__], "SETTINGS", found_out)
    loads: list[int] = []

    def load() -> Noise:
        loads.append(1)
        if len(loads) == 1:  # rank 0 looks for a size before it times
            raise OSError("no memory is left")
        return Noise()

    first = Rank(address, on_two_hosts(0), tmp_path, {"New": load})
    second = Rank(address, on_two_hosts(1), tmp_path, {"New": Noise})
    work_together(first, second)
    assert "no memory is left (bulk)" in first.failures["New"]
    assert first.made("New") == dict.fromkeys(range(TIMED), "0")
