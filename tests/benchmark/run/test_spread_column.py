"""A column whose model is on several devices: its clock covers them, and what one card tells is left out."""

from __future__ import annotations

from pathlib import Path

import pytest
from noise_model import Noise, bulk, time_slices

from benchmark.measure.clock import Clock

DEVICES = ("cpu:0", "cpu:1")


class Spread(Noise):
    devices = DEVICES


@pytest.fixture
def covered(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    cover = Clock.cover
    monkeypatch.setattr(Clock, "cover", lambda clock, devices: (found.append(devices), cover(clock, devices))[1])
    return found


def test_a_round_waits_for_all_devices_of_its_model(tmp_path: Path, covered: list[tuple[str, ...]]) -> None:
    found = time_slices(tmp_path, Spread(), range(0, 2), range(2, 4), batch_size=2, passes=("energy", "roofline"))
    assert covered == [DEVICES]
    assert len(found.timed) == 2
    assert {line.name: line.reason for line in found.measured} == dict.fromkeys(
        ("energy", "roofline"), "components on several GPUs"
    )
    time_slices(tmp_path / "whole", Noise(), range(1))
    assert covered == [DEVICES, ()]


def test_bulk_waits_for_all_devices_of_its_model(tmp_path: Path, covered: list[tuple[str, ...]]) -> None:
    bulk(tmp_path, Spread(), 0, 4, asked=2)
    assert covered == [DEVICES]
