"""Energy of an image: the card's counter, read beside calls that follow one another without a pause."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Protocol

from benchmark.measure.card_users import tell_apart
from benchmark.measure.findings import Energy, NotMeasured
from benchmark.measure.nvml import Card
from benchmark.measure.own_processes import find_own_processes
from benchmark.measure.power_log import LOOK_SECONDS, Polling, PowerLog, Time, poll_in_thread

LEAST_SECONDS = 5.0
LEAST_CALLS = 2
ENOUGH_SECONDS = 10.0  # of one call
SETTLING_SECONDS = 0.5
IDLE_SECONDS = 1.0
LEAD_SECONDS = 0.5  # of calls; the card worked before, so that a power that is the mean of a second is one of calls
LONG_CALL_SECONDS = 1.0
MOST_TICK_SECONDS = 2.0  # a counter that does not advance in this time under load does not work


class Device(Time, Protocol):
    """What is needed of `benchmark.measure.clock.Clock`."""

    def synchronize(self) -> None:
        """Wait until the device has done all that it was asked."""


def measure_energy(
    call: Callable[[], None], images_per_call: int, card: Card, clock: Device,
    stopped: Callable[[], bool] = lambda: False, least_seconds: float = LEAST_SECONDS, *, with_idle: bool = True,
    polling: Polling = poll_in_thread, sleep: Callable[[float], None] = time.sleep,
) -> Energy:  # fmt: skip
    """Return the energy of one image, from calls back to back for at least `least_seconds`.

    There are at least LEAST_CALLS of them; one that takes more than ENOUGH_SECONDS is enough.

    The counter advances in ticks, on most cards ten a second, while calls end at any time. So calls run on before the
    span that is measured, until there was a tick, and after it, until there is one; the counter's value at either end
    is interpolated between the two ticks around it. That is exact for a power that stays the same from one tick to the
    next. A power that changes by D watts there, between ticks T seconds apart, makes an error of at most D T / 4
    joules: for T = 0.1 s and a change by half of the power, 0.25 % of five seconds. The counter's bare values at both
    ends would be off by up to the power times T: 2 %, and more of a shorter span. A counter that lags behind measures
    an earlier span, and calls ran then too.

    After calls of more than LONG_CALL_SECONDS the card rests until the last tick, which the same bound holds for. A
    card without a working counter gives samples of its power, whose mean over the span is taken.

    After the calls the card rests for SETTLING_SECONDS, and IDLE_SECONDS give its idle power. It is that of a card that
    just worked: it lowers its clocks later.

    images_per_call: images that a call makes. stopped: is asked before each call. with_idle: whether the idle power is
    measured too. polling: how the card is read meanwhile. sleep: waits for so many seconds.

    Raises:
        NotMeasured: the card gives neither energy nor power, another process has it in use, or it was stopped.
    """
    _refuse_company(card)
    if card.energy_mj() is None and card.power_w() is None:
        reason = card.failures.get("energy_mj") or card.failures.get("power_w") or "no value"
        raise NotMeasured(f"the card tells neither energy nor power: {reason}")
    meter = _Meter(call, card, clock, stopped, sleep)
    with polling(meter.log.look):
        start = meter.lead_in()
        end, calls = meter.run_span(start, least_seconds)
        meter.lead_out(end)
        mean_power_w = meter.log.mean_sampled_w(start, end)  # before a sample after the end can be of an idle card
        idle_power_w = meter.measure_idle_power() if with_idle else None
    _refuse_company(card)
    if meter.has_counter:
        joules = meter.log.energy_j(start, end)
    else:
        assert mean_power_w is not None, "lead_in has seen a sample"
        joules = mean_power_w * (end - start)
    if joules <= 0:
        raise NotMeasured("the counter of energy ran backwards")
    images = float(calls * images_per_call)
    return Energy(
        joules_per_image=joules / images, images=images, seconds=end - start, mean_power_w=mean_power_w,
        idle_power_w=idle_power_w, source="counter" if meter.has_counter else "power samples",
        clock_limits=meter.log.clock_limits(start, end),
    )  # fmt: skip


def _refuse_company(card: Card) -> None:
    users = tell_apart(card.processes() or (), os.getpid(), find_own_processes().pids)
    if users.others:
        raise NotMeasured(f"other processes on the card: {', '.join(users.describe())}")


class _Meter:
    """The steps of a measurement. has_counter: the card's counter of energy is there and advances."""

    def __init__(
        self, call: Callable[[], None], card: Card, clock: Device, stopped: Callable[[], bool],
        sleep: Callable[[float], None],
    ) -> None:  # fmt: skip
        self._call, self._clock, self._stopped, self._sleep = call, clock, stopped, sleep
        self.log = PowerLog(card, clock)
        self.has_counter = card.energy_mj() is not None
        self._call_seconds = 0.0

    def measure_idle_power(self) -> float | None:
        """Return the card's power while nothing runs."""
        self._clock.synchronize()
        self._rest(SETTLING_SECONDS)
        start = self._clock.now(wait=False)
        self._rest(IDLE_SECONDS)
        end = self._clock.now(wait=False)
        return self.log.mean_counted_w(start, end) or self.log.mean_sampled_w(start, end)

    def lead_in(self) -> float:
        """Make calls until the counter has advanced between two of them; return when the last one ended."""
        begin = now = self._clock.now()
        while now - begin < LEAD_SECONDS or (self.has_counter and not self.log.has_tick(begin, now)):
            now = self._make_call()
            if self.has_counter and now - begin >= LEAD_SECONDS + MOST_TICK_SECONDS:
                self.has_counter = self.log.has_tick(begin, now)
        if not self.has_counter and self.log.mean_sampled_w(begin, now) is None:
            raise NotMeasured("the counter of energy stands still")
        return now

    def run_span(self, start: float, least_seconds: float) -> tuple[float, int]:
        """Make the calls that are measured; return when the last one ended, and how many there were."""
        end, calls = start, 0
        while not (end - start >= least_seconds and (calls >= LEAST_CALLS or end - start > ENOUGH_SECONDS)):
            end, calls = self._make_call(), calls + 1
        return end, calls

    def lead_out(self, end: float) -> None:
        """Go on until the counter has advanced once more."""
        now = end
        while self.has_counter and not self.log.has_tick(end):
            if now - end > MOST_TICK_SECONDS:
                raise NotMeasured("the counter of energy stands still")
            if self._call_seconds > LONG_CALL_SECONDS:
                self._rest(LOOK_SECONDS)
                now = self._clock.now()
            else:
                now = self._make_call()

    def _make_call(self) -> float:
        """Return when it ended. The device is waited for, as after each timed batch."""
        if self._stopped():
            raise NotMeasured("stopped")
        begin = self._clock.now(wait=False)
        self._call()
        end = self._clock.now()
        self._call_seconds = end - begin
        return end

    def _rest(self, seconds: float) -> None:
        end = self._clock.now(wait=False) + seconds
        while (left := end - self._clock.now(wait=False)) > 0:
            if self._stopped():
                raise NotMeasured("stopped")
            self._sleep(min(left, 0.1))
