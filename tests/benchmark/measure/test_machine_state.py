"""The state of the machine at both ends of a worker, from cards that say what a test wants."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest
from fake_cards import FakeGpu

from benchmark.measure import machine_state
from benchmark.measure.findings import MachineState, NotMeasured
from benchmark.measure.machine_state import SPOILING_LIMITS, StateReader
from benchmark.measure.nvml import IDLE, Listed, UsedMemory

ME = os.getpid()
GB = 1_000_000_000


class FakeCuda:
    """Torch, which sees one card."""

    def __init__(self, uuid: str = "aa", started: bool = False) -> None:
        self.card, self.started, self.held_bytes = uuid, started, 0

    def is_started(self) -> bool:
        return self.started

    def uuid(self, device: str) -> str:
        assert device == "cuda"
        self.started = True
        return self.card

    def reserved_bytes(self, device: str) -> int:
        assert device == "cuda"
        return self.held_bytes


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_state, "SECONDS_TO_LEAVE", 0.0)


def states(
    gpu: FakeGpu, load: Callable[[], None], run: Callable[[], None] = lambda: None, cuda: FakeCuda | None = None
) -> tuple[MachineState, MachineState]:
    """Return both states of a worker whose model is loaded by `load`, and whose batches are timed in `run`."""
    reader = StateReader("cuda", lambda: [gpu], cuda or FakeCuda())
    load()
    start = reader.start()
    run()
    return start, reader.end()


def lists(gpu: FakeGpu, *listed: Listed) -> Callable[[], None]:
    def change() -> None:
        gpu.listed = listed

    return change


def test_a_cpu_has_a_host_and_no_card() -> None:
    reader = StateReader("cpu", lambda: pytest.fail("a CPU has no cards"))
    for state in (reader.start(), reader.end()):
        assert (state.card_uuid, state.unread, state.other_processes, state.used_memory_bytes) == ("", "", (), None)
        assert state.cpu_cores == os.cpu_count()
        assert state.load_average is not None
        assert abs(state.unix_s - time.time()) < 60


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the end may have no figure")
def test_the_end_says_how_busy_others_kept_the_host() -> None:
    reader = StateReader("cpu")
    start = reader.start()
    time.sleep(1.05)
    end = reader.end()
    assert start.other_cpu_cores is None
    assert end.other_cpu_cores is not None
    assert 0.0 <= end.other_cpu_cores <= end.cpu_cores + 0.5


def test_without_nvml_the_reason_is_in_both_states() -> None:
    def refuse() -> list[FakeGpu]:
        raise NotMeasured("no NVML library")

    reader = StateReader("cuda", refuse, FakeCuda())
    for state in (reader.start(), reader.end()):
        assert (state.unread, state.card_uuid, state.other_processes) == ("no NVML library", "", ())
        assert state.cpu_cores == os.cpu_count()


def test_a_card_that_nvml_does_not_list_and_a_slice_are_unread() -> None:
    gpu = FakeGpu()
    start, end = states(gpu, lists(gpu, Listed(ME)), cuda=FakeCuda("bb"))
    assert start.unread == end.unread == "NVML does not list this card"
    gpu.split = True
    start, end = states(gpu, lists(gpu, Listed(ME)))
    assert start.unread == end.unread == "a MIG slice"


def test_the_start_is_the_state_before_the_model_was_loaded() -> None:
    gpu = FakeGpu()
    gpu.limits, gpu.memory = (IDLE,), UsedMemory(3)

    def load() -> None:
        gpu.limits, gpu.memory, gpu.listed = ("sw power cap",), UsedMemory(5 * GB), (Listed(ME),)

    start, end = states(gpu, load)
    assert (start.clock_limits, start.used_memory_bytes, start.other_processes) == ((IDLE,), 3, ())
    assert (end.clock_limits, end.used_memory_bytes, end.other_processes) == (("sw power cap",), 5 * GB, ())
    for state in (start, end):
        assert (state.card_uuid, state.driver, state.unread) == ("GPU-aa", "580.65", "")
        assert (state.sm_clock_mhz, state.memory_clock_mhz, state.temperature_c) == (1980, 3201, 41)
        assert (state.power_limit_w, state.default_power_limit_w) == (650.0, 700.0)
    assert start.unix_s <= end.unix_s


def test_the_card_that_torch_uses_is_the_one_that_is_described() -> None:
    other, mine = FakeGpu(), FakeGpu()
    other.uuid, other.listed = "GPU-bb", (Listed(77), Listed(78))
    reader = StateReader("cuda", lambda: [other, mine], FakeCuda())
    mine.listed = (Listed(ME),)
    for state in (reader.start(), reader.end()):
        assert (state.card_uuid, state.other_processes) == ("GPU-aa", ())


def test_the_hosts_other_cards_are_told_apart_by_who_computes_on_them() -> None:
    mine, idle, busy, hidden = FakeGpu(), FakeGpu(), FakeGpu(), FakeGpu()
    idle.uuid, busy.uuid, hidden.uuid = "GPU-bb", "GPU-cc", "GPU-dd"
    idle.listed, idle.memory = (Listed(5, "graphics", used_bytes=10**6),), UsedMemory(10**6)
    reader = StateReader("cuda", lambda: [mine, idle, busy, hidden], FakeCuda())
    mine.listed = (Listed(ME),)
    start = reader.start()
    assert (start.other_cards, start.busy_cards) == (3, ())
    busy.listed, hidden.memory = (Listed(os.getppid()),), UsedMemory(20 * GB)
    end = reader.end()
    assert (end.other_cards, end.busy_cards) == (3, ("GPU-cc", "GPU-dd")), "a process of this run counts, too"
    assert end.other_processes == ()


@pytest.mark.parametrize("number", [ME, 9002], ids=["own numbers", "a container's host's"])
def test_a_process_that_was_there_before_is_foreign_at_both_ends(number: int) -> None:
    gpu = FakeGpu()
    gpu.listed = (Listed(2**22 + 1),)
    start, end = states(gpu, lists(gpu, Listed(2**22 + 1), Listed(number)))
    assert start.other_processes == end.other_processes == (f"process {2**22 + 1}",)


@pytest.mark.parametrize("number", [ME, 9002], ids=["own numbers", "a container's host's"])
def test_a_process_that_comes_while_batches_are_timed_is_foreign_at_the_end(number: int) -> None:
    gpu = FakeGpu()
    mine = Listed(number, used_bytes=5)
    start, end = states(gpu, lists(gpu, mine), lists(gpu, Listed(2**22 + 1, used_bytes=10**10), mine))
    assert start.other_processes == ()
    assert end.other_processes == (f"process {2**22 + 1}",)


def test_a_relative_with_the_card_in_use_is_not_foreign() -> None:
    gpu = FakeGpu()
    gpu.listed = (Listed(os.getppid()),)
    start, end = states(gpu, lists(gpu, Listed(os.getppid()), Listed(ME)))
    assert start.other_processes == end.other_processes == ()


def test_a_worker_that_ended_may_be_listed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_state, "SECONDS_TO_LEAVE", 5.0)

    class Slow(FakeGpu):
        looks = 0

        def processes(self) -> tuple[Listed, ...]:
            self.looks += 1
            return (Listed(2**22 + 1), Listed(ME)) if self.looks < 5 else (Listed(ME),)

    gpu = Slow()
    start, end = states(gpu, lambda: None)
    assert start.other_processes == end.other_processes == ()
    assert gpu.looks >= 5


def test_a_process_that_used_cuda_before_the_reader_was_made_is_still_its_own() -> None:
    gpu = FakeGpu()
    gpu.listed, gpu.memory = (Listed(9002),), UsedMemory(5 * GB)
    start, end = states(gpu, lambda: None, cuda=FakeCuda(started=True))
    assert start.other_processes == end.other_processes == ()
    gpu.listed = ()
    start, end = states(gpu, lambda: None, cuda=FakeCuda(started=True))
    assert start.other_processes == end.other_processes == ()


@pytest.mark.parametrize("listed", [(), None])
def test_where_no_process_is_listed_memory_that_was_in_use_is_somebodys(listed: tuple[Listed, ...] | None) -> None:
    gpu = FakeGpu()
    gpu.listed, gpu.memory = listed, UsedMemory(2_100_000_000)
    start, end = states(gpu, lambda: None)
    assert start.other_processes == ("unknown (2.1 GB in use)",)
    assert end.other_processes == ()


@pytest.mark.parametrize(
    ("memory", "foreign"),
    [
        (UsedMemory(300_000_000), False), (UsedMemory(500_000_000), True), (None, False),
        (UsedMemory(900_000_000, has_reserved=True), False), (UsedMemory(1_300_000_000, has_reserved=True), True),
    ],
)  # fmt: skip
def test_what_the_driver_keeps_for_itself_is_nobodys(memory: UsedMemory | None, foreign: bool) -> None:
    gpu = FakeGpu()
    gpu.memory = memory
    start, _ = states(gpu, lambda: None)
    assert bool(start.other_processes) == foreign


def test_memory_that_was_in_use_is_anothers_where_only_this_process_is_listed() -> None:
    """As in a container, where NVML lists the processes of the container alone."""
    gpu = FakeGpu()
    gpu.memory = UsedMemory(2_100_000_000)
    start, _ = states(gpu, lists(gpu, Listed(ME)))
    assert start.other_processes == ("unknown (2.1 GB in use)",)


@pytest.mark.parametrize(
    ("own_bytes", "used_bytes", "others"),
    [
        (5 * GB, 5 * GB + 300_000_000, ()), (5 * GB, 8 * GB, ("unknown (3.0 GB in use)",)), (None, 8 * GB, ()),
        (1 * GB, 8 * GB, ()),
    ],
)  # fmt: skip
def test_memory_that_no_listed_process_holds_is_anothers(
    own_bytes: int | None, used_bytes: int, others: tuple[str, ...]
) -> None:
    gpu, cuda = FakeGpu(), FakeCuda()
    cuda.held_bytes = 4 * GB  # of torch: a process that tells less does not tell what it holds

    def run() -> None:
        gpu.memory = UsedMemory(used_bytes)

    _, end = states(gpu, lists(gpu, Listed(ME, "compute", own_bytes)), run, cuda)
    assert end.other_processes == others


def test_the_memory_of_a_relative_that_is_listed_is_no_others() -> None:
    gpu = FakeGpu()
    gpu.listed, gpu.memory = (Listed(os.getppid(), "compute", 3 * GB),), UsedMemory(3 * GB)
    start, end = states(gpu, lambda: None)
    assert start.other_processes == end.other_processes == ()


@pytest.mark.parametrize(("grown_bytes", "others"), [(1 * GB, ()), (3 * GB, ("unknown (3.0 GB more in use)",))])
def test_where_no_process_is_listed_memory_that_grows_beside_torchs_is_somebodys(
    grown_bytes: int, others: tuple[str, ...]
) -> None:
    gpu, cuda = FakeGpu(), FakeCuda()
    gpu.memory = UsedMemory(0)

    def load() -> None:
        gpu.memory, cuda.held_bytes = UsedMemory(10 * GB), 9 * GB

    def run() -> None:
        gpu.memory, cuda.held_bytes = UsedMemory(30 * GB + grown_bytes), 29 * GB

    start, end = states(gpu, load, run, cuda)
    assert (start.other_processes, end.other_processes) == ((), others)


def test_where_processes_are_listed_memory_that_grows_is_this_processs() -> None:
    gpu = FakeGpu()

    def run() -> None:
        gpu.memory = UsedMemory(30 * GB)

    _, end = states(gpu, lists(gpu, Listed(9002)), run)
    assert end.other_processes == ()


def test_a_reason_that_held_for_a_while_between_the_ends_is_told_at_the_end() -> None:
    gpu = FakeGpu()
    gpu.held = {"sw thermal slowdown": 10**10, "sync boost": 5}

    def run() -> None:
        time.sleep(0.01)
        gpu.limits = (IDLE,)
        gpu.held = {"sw thermal slowdown": 10**10 + 10**9, "sync boost": 6, "hw thermal slowdown": 10**12}

    start, end = states(gpu, lists(gpu, Listed(ME)), run)
    assert start.clock_limits == ()
    assert end.clock_limits == (IDLE, "sw thermal slowdown")


def test_a_full_load_and_idleness_spoil_nothing() -> None:
    assert not {IDLE, "sw power cap", "applications clocks setting", "display clock setting"} & set(SPOILING_LIMITS)
    assert {"sw thermal slowdown", "hw thermal slowdown", "hw slowdown"} <= set(SPOILING_LIMITS)


def test_another_model_in_the_same_process_starts_from_the_state_of_that_moment() -> None:
    gpu = FakeGpu()
    reader = StateReader("cuda", lambda: [gpu], FakeCuda())
    gpu.listed, gpu.memory = (Listed(ME),), UsedMemory(5 * GB)
    assert reader.start().other_processes == ()
    gpu.limits, gpu.held = ("hw slowdown",), {"sw thermal slowdown": 10**10}
    assert reader.end().clock_limits == ("hw slowdown",)
    gpu.limits, gpu.held = (IDLE,), {"sw thermal slowdown": 2 * 10**10}
    again = reader.start_again()
    assert (again.clock_limits, again.other_processes) == ((IDLE,), ()), "what held the former one back is not its own"
    assert again.other_cpu_cores is None
    gpu.listed = (Listed(ME), Listed(9002))
    end = reader.end()
    assert end.clock_limits == (IDLE,)
    assert len(end.other_processes) == 1
