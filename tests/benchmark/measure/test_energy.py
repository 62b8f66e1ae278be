"""Energy per image by a card whose true energy is known: ticks, ends of calls between them, and what prevents it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from fake_cards import FakeGpu

from benchmark.measure import energy
from benchmark.measure.clock import Clock
from benchmark.measure.energy import measure_energy
from benchmark.measure.findings import Energy, NotMeasured
from benchmark.measure.nvml import IDLE, Listed
from benchmark.measure.power_log import LOOK_SECONDS, PowerLog, poll_in_thread

IDLE_W, LOAD_W = 100.0, 700.0


class Calls:
    """Calls on a card that take `seconds` each at LOAD_W, or at the powers of their equal parts."""

    def __init__(self, gpu: FakeGpu, seconds: float, *powers_w: float) -> None:
        self.gpu, self.seconds, self.powers_w = gpu, seconds, powers_w or (LOAD_W,)
        self.ends: list[tuple[float, float, int]] = []  # seconds, true joules, counter

    def __call__(self) -> None:
        for watts in self.powers_w:
            self.gpu.watts = watts
            self.gpu.advance(self.seconds / len(self.powers_w))
        self.gpu.watts = IDLE_W
        self.ends.append((self.gpu.seconds, self.gpu.joules, self.gpu.counter_mj or 0))


def measured(calls: Calls, images_per_call: int = 1, **changes: Any) -> Energy:
    gpu = calls.gpu
    return measure_energy(calls, images_per_call, gpu, gpu, polling=gpu.polling, sleep=gpu.advance, **changes)


@pytest.mark.parametrize("tick_seconds", [0.02, 0.1, 1.0])
@pytest.mark.parametrize("call_seconds", [0.0091, 0.1337, 0.77, 1.9])
def test_a_steady_power_gives_the_true_energy_whatever_the_ticks(tick_seconds: float, call_seconds: float) -> None:
    found = measured(Calls(FakeGpu(IDLE_W, tick_seconds), call_seconds), 4)
    # Its own power lasts until the tick after the last call, so that a long call's end costs 600 W x T / 4 at most.
    rests_after = call_seconds > energy.LONG_CALL_SECONDS
    bound_j = (LOAD_W - IDLE_W) * tick_seconds / 4 if rests_after else 0.0
    assert abs(found.joules_per_image * found.images - LOAD_W * found.seconds) <= bound_j + 0.01
    share = bound_j / (LOAD_W * found.seconds)
    assert found.joules_per_image == pytest.approx(LOAD_W * call_seconds / 4, rel=share + 1e-5)
    assert found.images == 4 * round(found.seconds / call_seconds)
    assert 5.0 <= found.seconds < 5.0 + call_seconds + 1e-6
    assert found.mean_power_w == pytest.approx(LOAD_W)
    assert found.power_ratio == pytest.approx(1.0, abs=share + 1e-5)
    assert found.source == "counter"


def test_ticks_that_fall_at_any_time_between_looks_cost_a_thousandth() -> None:
    for tick_seconds in (0.0333, 0.0917, 0.1071):
        found = measured(Calls(FakeGpu(IDLE_W, tick_seconds), 0.0713))
        assert found.joules_per_image == pytest.approx(LOAD_W * 0.0713, rel=2e-3)


def test_the_counters_bare_values_at_the_ends_would_be_off_by_three_percent() -> None:
    bare, interpolated = [], []
    for phase in range(10):
        calls = Calls(FakeGpu(IDLE_W, first_tick=0.0137 + phase / 100), 0.335)
        found = measured(calls, least_seconds=3.0)
        interpolated.append(abs(found.joules_per_image / (LOAD_W * 0.335) - 1))
        first = calls.ends[-1 - round(found.images) - 1 : -1]
        bare.append(abs((first[-1][2] - first[0][2]) / 1000 / (first[-1][1] - first[0][1]) - 1))
    assert max(bare) > 0.025
    assert max(interpolated) < 1e-4


def test_a_power_that_changes_at_the_ends_costs_no_more_than_the_bound() -> None:
    for phase in range(10):
        calls = Calls(FakeGpu(IDLE_W, first_tick=0.0137 + phase / 100), 0.613, 300.0, LOAD_W)
        found = measured(calls)
        error_j = found.joules_per_image * found.images - 500.0 * found.seconds
        assert abs(error_j) <= 2 * (LOAD_W - 300.0) * (0.1 + 0.01) / 4


def test_the_idle_power_is_that_after_the_calls_where_it_is_asked_for() -> None:
    calls = Calls(FakeGpu(83.0), 0.2)
    assert measured(calls).idle_power_w == pytest.approx(IDLE_W), "what the card draws once its calls are over"
    with_idle_seconds = calls.gpu.seconds
    without = Calls(FakeGpu(83.0), 0.2)
    assert measured(without, with_idle=False).idle_power_w is None
    assert with_idle_seconds - without.gpu.seconds == pytest.approx(1.5)


def test_without_a_counter_samples_of_the_power_are_taken_over_the_same_calls() -> None:
    gpu = FakeGpu(IDLE_W)
    gpu.counter_mj = None
    found = measured(Calls(gpu, 0.61, 300.0, LOAD_W), 2)
    assert found.source == "power samples"
    assert found.joules_per_image == pytest.approx(500.0 * 0.61 / 2, rel=0.03)
    assert found.mean_power_w is not None
    assert found.joules_per_image * found.images == pytest.approx(found.mean_power_w * found.seconds)
    assert found.idle_power_w == pytest.approx(IDLE_W)


def test_a_counter_that_stands_still_is_none() -> None:
    gpu = FakeGpu(IDLE_W)
    gpu.counter_works = False
    assert measured(Calls(gpu, 0.2)).source == "power samples"
    gpu = FakeGpu(IDLE_W)
    gpu.counter_works = gpu.has_power = False
    with pytest.raises(NotMeasured, match="the counter of energy stands still"):
        measured(Calls(gpu, 0.2))


def test_a_power_that_cannot_be_read_leaves_the_counter() -> None:
    gpu = FakeGpu(IDLE_W)
    gpu.has_power = False
    found = measured(Calls(gpu, 0.2))
    assert found.joules_per_image == pytest.approx(LOAD_W * 0.2, rel=1e-5)
    assert (found.mean_power_w, found.power_ratio) == (None, None)
    assert found.idle_power_w == pytest.approx(IDLE_W)


def test_a_card_that_gives_neither_says_why() -> None:
    gpu = FakeGpu()
    gpu.counter_mj, gpu.has_power, gpu.failures = None, False, {"energy_mj": "no permission"}
    with pytest.raises(NotMeasured, match=r"^the card tells neither energy nor power: no permission$"):
        measured(Calls(gpu, 0.2))


@pytest.mark.parametrize(("call_seconds", "made", "counted"), [(12.0, 2, 1), (6.0, 3, 2), (2.6, 3, 2)])
def test_long_calls_are_few_and_none_is_made_to_see_a_tick(call_seconds: float, made: int, counted: int) -> None:
    calls = Calls(FakeGpu(), call_seconds)
    assert measured(calls).images == counted
    assert len(calls.ends) == made


def test_what_held_the_clocks_down_is_told_but_for_idleness() -> None:
    gpu = FakeGpu()
    calls = Calls(gpu, 0.5)

    def call() -> None:
        gpu.limits = (IDLE, "sw power cap") if len(calls.ends) == 6 else ("hw slowdown",) if not calls.ends else ()
        calls()

    found = measure_energy(call, 1, gpu, gpu, polling=gpu.polling, sleep=gpu.advance)
    assert found.clock_limits == ("sw power cap",)


@pytest.mark.parametrize("calls_before", [0, 5])
def test_another_process_on_the_card_is_refused_before_and_after(calls_before: int) -> None:
    gpu = FakeGpu()
    calls = Calls(gpu, 0.5)

    def call() -> None:
        calls()
        if len(calls.ends) == calls_before:
            gpu.listed = (Listed(4_100_001), Listed(4_100_002, used_bytes=5))

    gpu.listed = () if calls_before else (Listed(4_100_001), Listed(4_100_002, used_bytes=5))
    with pytest.raises(NotMeasured, match=r"^other processes on the card: process 4100001$"):
        measure_energy(call, 1, gpu, gpu, polling=gpu.polling, sleep=gpu.advance)
    assert bool(calls.ends) == bool(calls_before)


@pytest.mark.parametrize("asked", range(0, 31, 3))
def test_it_stops_when_it_is_told_to(asked: int) -> None:
    gpu, count = FakeGpu(), iter(range(1000))
    with pytest.raises(NotMeasured, match=r"^stopped$"):
        measured(Calls(gpu, 0.4), stopped=lambda: next(count) >= asked)
    assert not gpu.is_polled


def test_a_call_that_fails_ends_the_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "SETTLING_SECONDS", 0.0)
    monkeypatch.setattr(energy, "IDLE_SECONDS", 0.05)
    before = threading.active_count()

    def fail() -> None:
        raise RuntimeError("the network fails")

    with pytest.raises(RuntimeError, match="the network fails"):
        measure_energy(fail, 1, FakeGpu(), Clock("cpu"))
    assert threading.active_count() == before


def test_the_thread_looks_until_the_block_ends_and_its_error_is_raised() -> None:
    looks: list[str] = []
    begun, end = time.monotonic(), time.monotonic() + 60
    with poll_in_thread(lambda: looks.append(threading.current_thread().name)):
        while len(looks) < 5 and time.monotonic() < end:
            time.sleep(0.01)
    seen = len(looks)
    assert 5 <= seen <= 2 + (time.monotonic() - begun) / LOOK_SECONDS
    assert threading.current_thread().name not in looks
    time.sleep(0.03)
    assert len(looks) == seen

    def fail() -> None:
        raise OSError("the card is lost")

    with pytest.raises(OSError, match="the card is lost"), poll_in_thread(fail):
        pass


class LiveGpu(FakeGpu):
    """A card of 200 W in real time, whose counter advances every 20 ms."""

    def energy_mj(self) -> int:
        return int(time.perf_counter() / 0.02) * 4000


def test_it_works_with_a_real_clock_and_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SETTLING_SECONDS", "IDLE_SECONDS", "LEAD_SECONDS"):
        monkeypatch.setattr(energy, name, 0.1)
    # A busy machine delays a look by a tenth of a second; of a whole one that is little.
    found = measure_energy(lambda: time.sleep(0.01), 1, LiveGpu(), Clock("cpu"), least_seconds=1.0)
    assert found.source == "counter"
    assert found.joules_per_image * found.images / found.seconds == pytest.approx(200.0, rel=0.3)


def test_the_mean_of_samples_is_weighted_with_time() -> None:
    gpu = FakeGpu(100.0)
    log = PowerLog(gpu, gpu)
    for seconds, watts in ((0.0, 100.0), (1.0, 300.0), (4.0, 300.0)):
        gpu.seconds, gpu.watts = seconds, watts
        for _ in range(5):
            log.look()
    assert log.mean_sampled_w(0.0, 4.0) == pytest.approx((200.0 * 1 + 300.0 * 3) / 4)
    assert log.mean_sampled_w(0.5, 1.5) == pytest.approx((250.0 * 0.5 + 300.0 * 0.5) / 1)
    assert log.mean_sampled_w(5.0, 6.0) is None


def test_a_tick_is_in_the_middle_of_the_looks_that_it_fell_between() -> None:
    gpu = FakeGpu()
    log = PowerLog(gpu, gpu)
    for seconds, counter_mj in ((1.0, 5), (1.25, 5), (1.75, 9_005), (2.0, 9_005), (2.5, 12_005)):
        gpu.seconds, gpu.counter_mj = seconds, counter_mj
        log.look()
    assert not log.has_tick(0.0, 1.49)
    assert log.has_tick(1.49, 1.5)
    assert not log.has_tick(1.5, 2.2)
    assert log.has_tick(1.5)
    assert log.energy_j(1.5, 2.25) == pytest.approx(3.0)
    assert log.energy_j(1.75, 2.0) == pytest.approx(1.0)
    assert log.mean_counted_w(1.0, 3.0) == pytest.approx(4.0)
    assert log.mean_counted_w(1.0, 2.0) is None
