"""A real card: NVML knows it by torch's UUID, its counter agrees with its power, and a planted process is seen."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from benchmark.measure.clock import Clock
from benchmark.measure.energy import measure_energy
from benchmark.measure.findings import Energy, NotMeasured
from benchmark.measure.nvml import Card, open_card
from benchmark.measure.power_log import PowerLog, poll_in_thread

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
ROOT = Path(__file__).parents[2]
# As a worker does it: the reader is made before CUDA is started. One line for each end; a line is read between them.
WORKER = """
import json, sys
from benchmark.measure.machine_state import StateReader
from benchmark.report.typed_json import to_json
import torch
reader = StateReader("cuda")
held = torch.ones(10**8, device="cuda")
print(json.dumps(to_json(reader.start())), flush=True)
sys.stdin.readline()
print(json.dumps(to_json(reader.end())), flush=True)
"""
# Four gigabytes, which is more than what may be taken for CUDA's own growth where no process is listed.
PLANTED = """
import sys, torch
held = torch.ones(10**9, device="cuda")
torch.cuda.synchronize()
print("there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def card() -> Card:
    try:
        return open_card("cuda")
    except NotMeasured as reason:
        pytest.skip(str(reason))


def test_the_card_says_most_of_what_it_is_asked(card: Card) -> None:
    said: dict[str, Any] = {
        name: getattr(card, name)()
        for name in (
            "energy_mj", "power_w", "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "power_limit_w",
            "default_power_limit_w", "clock_limits", "held_ns", "used_memory", "processes",
        )
    }  # fmt: skip
    print(card.uuid, card.driver, said, card.failures)
    assert said["used_memory"] is not None
    assert said["used_memory"].used_bytes > 0
    assert said["sm_clock_mhz"] is None or 100 < said["sm_clock_mhz"] < 10_000
    assert said["power_w"] is None or 5 < said["power_w"] < 2000
    assert said["temperature_c"] is None or 10 < said["temperature_c"] < 110


def multiply(size: int, times: int) -> Callable[[], None]:
    left = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)

    def call() -> None:
        for _ in range(times):
            left @ left

    return call


def energy_of(call: Callable[[], None], card: Card) -> Energy:
    try:
        return measure_energy(call, 1, card, Clock("cuda"))
    except NotMeasured as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("times", [4, 400])
def test_energy_is_power_times_time_and_a_load_takes_more_than_rest(card: Card, times: int) -> None:
    found = energy_of(multiply(8192, times), card)
    print(found)
    assert found.seconds >= 5.0
    assert found.power_ratio is None or 0.95 <= found.power_ratio <= 1.05
    assert found.idle_power_w is not None
    assert found.joules_per_image * found.images / found.seconds > 1.5 * found.idle_power_w


def test_reading_the_card_meanwhile_costs_next_to_nothing(card: Card) -> None:
    """Small kernels, whose launches the host is busy with, as in an eager model."""
    clock, call = Clock("cuda"), multiply(64, 20_000)

    def seconds(polling: Callable[[], AbstractContextManager[None]]) -> float:
        with polling():
            return clock.time(call)[1]

    seconds(nullcontext)
    log = PowerLog(card, clock)
    both = [(seconds(nullcontext), seconds(lambda: poll_in_thread(log.look))) for _ in range(15)]
    ratio = median(beside for _, beside in both) / median(alone for alone, _ in both)
    print(f"with the card read meanwhile, launches take {ratio:.4f} of the time without")
    assert ratio < 1.05


@contextmanager
def started(program: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program that is this process's child, and no relative of another one's but for that."""
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def next_state(worker: subprocess.Popen[str]) -> dict[str, Any]:
    assert worker.stdout is not None
    state: dict[str, Any] = json.loads(worker.stdout.readline())
    print(state)
    if state["unread"]:
        pytest.skip(state["unread"])
    return state


def proceed(worker: subprocess.Popen[str]) -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def wait_for(planted: subprocess.Popen[str]) -> None:
    assert planted.stdout is not None
    assert planted.stdout.readline() == "there\n"


def test_a_process_alone_on_the_card_sees_no_other() -> None:
    if torch.cuda.is_initialized():
        pytest.skip("this process has the card in use: run this test alone")
    with started(WORKER) as worker:
        assert next_state(worker)["other_processes"] == []
        proceed(worker)
        assert next_state(worker)["other_processes"] == []


def test_a_process_that_was_planted_before_is_seen_at_the_start() -> None:
    with started(WORKER) as worker:
        before = next_state(worker)["other_processes"]
    with started(PLANTED) as planted:
        wait_for(planted)
        with started(WORKER) as worker:
            assert set(next_state(worker)["other_processes"]) - set(before)


def test_a_process_that_is_planted_meanwhile_is_seen_at_the_end() -> None:
    with started(WORKER) as worker:
        before = next_state(worker)["other_processes"]
        with started(PLANTED) as planted:
            wait_for(planted)
            proceed(worker)
            assert set(next_state(worker)["other_processes"]) - set(before)
