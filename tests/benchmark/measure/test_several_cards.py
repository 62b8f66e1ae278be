"""A model on several GPUs: its calls end when all of them have ended, and what one card tells is not all of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fake_cards import FakeGpu

from benchmark.measure import machine_state
from benchmark.measure.clock import Clock
from benchmark.measure.machine_state import StateReader
from benchmark.measure.memory import measure_memory
from benchmark.measure.nvml import Listed
from benchmark.measure.passes import Timing, run_passes
from models.base import ImageGenerator, Request

CARDS = ("cuda:0", "cuda:1")


class FakeCuda:
    """Torch's GPUs: which were waited for and whose peaks were reset, with as many bytes on each as a test says."""

    def __init__(self, **held_bytes: int) -> None:
        self.waited: list[str] = []
        self.reset: list[str] = []
        self.held_bytes = {name.replace("cuda", "cuda:"): count for name, count in held_bytes.items()}

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        fakes: dict[str, Any] = {
            "synchronize": lambda card: self.waited.append(str(card)),
            "reset_peak_memory_stats": lambda card: self.reset.append(str(card)),
            "max_memory_allocated": lambda card: self.held_bytes[str(card)],
            "max_memory_reserved": lambda card: 2 * self.held_bytes[str(card)],
            "empty_cache": lambda: None,
            "memory_snapshot": list,
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        return self


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda(cuda0=30, cuda1=12).install(monkeypatch)


def covering(devices: Sequence[str]) -> Clock:
    clock = Clock("cuda:0")
    clock.cover(devices)
    return clock


def test_both_ends_of_a_call_wait_for_every_card(cuda: FakeCuda) -> None:
    during: list[list[str]] = []
    covering(CARDS).time(lambda: during.append(list(cuda.waited)))
    assert during == [list(CARDS)]
    assert cuda.waited == [*CARDS, *CARDS]


def test_one_device_is_waited_for_alone(cuda: FakeCuda) -> None:
    for clock in (Clock("cuda:0"), covering(())):
        cuda.waited.clear()
        clock.time(lambda: None)
        assert cuda.waited == ["cuda:0", "cuda:0"]
        assert clock.peak_memory_bytes() == 30
        assert clock.card_peaks_bytes() == {}


def test_a_clock_that_covered_several_cards_goes_back_to_its_own(cuda: FakeCuda) -> None:
    clock = covering(CARDS)
    clock.cover(())
    clock.synchronize()
    assert cuda.waited == ["cuda:0"]


def test_peaks_are_sums_over_the_cards_and_are_reset_on_each(cuda: FakeCuda) -> None:
    clock = covering(CARDS)
    assert clock.peak_memory_bytes() == 42
    assert clock.span_peaks_bytes() == (42, 84)
    clock.begin_span()
    assert cuda.reset == list(CARDS)
    cuda.held_bytes["cuda:1"] = 1
    assert (clock.span_peaks_bytes(), clock.peak_memory_bytes()) == ((31, 62), 42)


def test_marks_of_several_cards_are_moments_of_the_host_after_all_have_ended(cuda: FakeCuda) -> None:
    clock = covering(CARDS)
    first, second = clock.mark(), clock.mark()
    assert cuda.waited == [*CARDS, *CARDS]
    assert isinstance(first, float)
    assert clock.seconds_between(first, second) >= 0


@pytest.mark.usefixtures("cuda")
def test_the_memory_pass_tells_each_cards_peak() -> None:
    found = measure_memory(lambda: None, covering(CARDS))
    assert (found.peak_tensor_bytes, found.peak_reserved_bytes) == (42, 84)
    assert found.card_peaks_bytes == {"cuda:0": 30, "cuda:1": 12}
    assert measure_memory(lambda: None, Clock("cuda:0")).card_peaks_bytes == {}


class Spread(ImageGenerator):
    name, image_size, parameters = "spread", 8, 1
    devices = CARDS

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)


@pytest.mark.usefixtures("cuda")
def test_energy_and_roofline_of_one_card_are_none_of_several() -> None:
    timing = Timing([Request(0, "x", 0)], covering(CARDS), "cuda:0", "float32", 1.0)
    found = dict(run_passes(Spread(), timing, ("energy", "roofline")))
    assert found == dict.fromkeys(("energy", "roofline"), "components on several GPUs")


class TwoCards:
    """Torch, which sees two cards."""

    def is_started(self) -> bool:
        return False

    def uuid(self, device: str) -> str:
        return {"cuda": "aa", "cuda:0": "aa", "cuda:1": "bb"}[device]

    def reserved_bytes(self, device: str) -> int:
        assert device in ("cuda", *CARDS)
        return 0


@pytest.mark.parametrize(("devices", "is_seen"), [(CARDS, True), ((), False)])
def test_who_uses_any_of_the_cards_disturbs_the_round(
    monkeypatch: pytest.MonkeyPatch, devices: tuple[str, ...], is_seen: bool
) -> None:
    monkeypatch.setattr(machine_state, "SECONDS_TO_LEAVE", 0.0)
    first, second = FakeGpu(), FakeGpu()
    first.listed = (Listed(os.getpid()),)
    second.uuid, second.listed = "GPU-bb", (Listed(os.getpid()), Listed(99_999_999))
    second.limits = ("hw slowdown",)
    reader = StateReader("cuda", lambda: [first, second], TwoCards())
    for state in (reader.start(devices), reader.end(), reader.start_again(), reader.end()):
        assert state.card_uuid == "GPU-aa"
        assert any("99999999" in other for other in state.other_processes) == is_seen
        assert ("hw slowdown" in state.clock_limits) == is_seen
