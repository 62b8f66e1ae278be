"""Whose processor time is whose: this process's relatives are its own, whoever else runs is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import NamedTuple, cast

import psutil
import pytest

from benchmark.measure.own_processes import (
    OwnProcesses,
    ProcessorTime,
    find_own_processes,
    other_cores,
    read_processor_time,
)

BURN = """
import sys, time
while time.process_time() < 0.4:
    pass
print("burnt", flush=True)
sys.stdin.read()
"""


def test_processor_time_of_others_is_the_hosts_without_this_runs() -> None:
    start = ProcessorTime(seconds=10.0, host_s=1000.0, own_s=50.0)
    assert other_cores(start, ProcessorTime(seconds=14.0, host_s=1012.0, own_s=54.0)) == 2.0
    assert other_cores(start, ProcessorTime(seconds=14.0, host_s=1003.9, own_s=54.0)) == 0.0
    assert other_cores(start, ProcessorTime(seconds=10.9, host_s=1012.0, own_s=54.0)) is None  # too short to tell
    assert other_cores(start, ProcessorTime(seconds=14.0, host_s=1000.0, own_s=54.0)) is None  # a host that tells none


def test_the_time_of_a_child_counts_as_this_processs_while_it_runs_and_after_its_end() -> None:
    before = find_own_processes().cpu_seconds()
    with subprocess.Popen([sys.executable, "-c", BURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"burnt\n"
        own = find_own_processes()
        assert child.pid in own.pids
        during = own.cpu_seconds()
        assert during - before >= 0.35
    assert find_own_processes().cpu_seconds() >= during


class Used:
    """A process with the processor time of itself and of the children that it waited for."""

    def __init__(self, own_s: float, children_s: float = 0.0) -> None:
        self.own_s, self.children_s = own_s, children_s

    def cpu_times(self) -> SimpleNamespace:
        """Return its times as psutil does."""
        return SimpleNamespace(user=self.own_s, system=0.0, children_user=self.children_s, children_system=0.0)


def test_the_time_of_a_child_that_ends_moves_to_its_parent_without_a_rounding() -> None:
    while_it_runs = OwnProcesses((), cast(psutil.Process, Used(0.1)), (cast(psutil.Process, Used(0.2)),))
    after_its_end = OwnProcesses((), cast(psutil.Process, Used(0.05, children_s=0.25)), ())
    assert 0.1 + 0.2 > 0.05 + 0.25  # the floats' own sums
    assert while_it_runs.cpu_seconds() == after_its_end.cpu_seconds() == 0.3


def test_a_process_above_counts_without_its_children() -> None:
    subprocess.run([sys.executable, "-c", BURN], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
    here = psutil.Process()
    with_above, alone = OwnProcesses((here,), here, ()), OwnProcesses((), here, ())
    times = here.cpu_times()
    assert times.children_user + times.children_system > 0.35
    own_s = times.user + times.system
    assert with_above.cpu_seconds() - alone.cpu_seconds() == pytest.approx(own_s, abs=0.2)


def test_this_process_comes_from_those_above_it() -> None:
    own = find_own_processes()
    assert own.here.pid == os.getpid()
    assert os.getppid() in {process.pid for process in own.above}
    assert {os.getpid(), os.getppid()} <= own.pids


class Times(NamedTuple):
    """The host's processor times as Linux has them; those of guests are in user and nice as well."""

    user: float = 8.0
    nice: float = 4.0
    system: float = 2.0
    idle: float = 1000.0
    iowait: float = 500.0
    irq: float = 0.5
    guest: float = 3.0
    guest_nice: float = 1.0


def test_a_host_that_waits_is_not_busy_and_its_guests_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    own = find_own_processes()
    monkeypatch.setattr(psutil, "cpu_times", Times)
    assert read_processor_time(own).host_s == 14.5


@pytest.fixture
def stranger() -> Iterator[subprocess.CompletedProcess[str]]:
    """A busy process whose parent has ended, so that it is no relative of this one."""
    busy = 'import time; exec("while time.process_time() < 20: pass")'
    shell = f"{sys.executable} -c '{busy}' > /dev/null 2>&1 & echo $!"
    started = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True)
    yield started
    os.kill(int(started.stdout), signal.SIGKILL)


def test_a_busy_process_of_others_is_seen(stranger: subprocess.CompletedProcess[str]) -> None:
    pid = int(stranger.stdout)
    own = find_own_processes()
    assert pid not in own.pids
    start, used_s = read_processor_time(own), psutil.Process(pid).cpu_times().user
    while psutil.Process(pid).cpu_times().user < used_s + 0.6 or read_processor_time(own).seconds < start.seconds + 1.1:
        time.sleep(0.05)
    end = read_processor_time(own)
    found = other_cores(start, end)
    assert found is not None
    assert found >= 0.5 / (end.seconds - start.seconds)
    assert end.own_s >= start.own_s
