"""How the next-scale models are set up for a mode and a device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from models import next_scale_programs
from models.base import Runtime
from models.networks.fused import FUSED
from models.networks.operations import PLAIN
from models.networks.transformer import FeedForward


def runtime(device: str, mode: Any) -> Runtime:
    return Runtime("random", device, "float32", 64, Path(), Path(), mode=mode)


@pytest.mark.parametrize(("device", "chosen"), [("cuda", []), ("cuda:1", [1])])
def test_compiled_runs_fused_operations_on_the_device_that_was_asked_for(
    device: str, chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 0))
    network = FeedForward(8, 16)
    next_scale_programs.make_pool(runtime(device, "compiled"), (network,), nn.Conv2d(1, 1, 1))
    assert devices == chosen
    assert network.operations is FUSED


@pytest.mark.parametrize(("device", "mode"), [("cpu", "compiled"), ("cpu", "eager"), ("cuda", "eager")])
def test_everything_else_runs_plainly(device: str, mode: str) -> None:
    network = FeedForward(8, 16)
    next_scale_programs.make_pool(runtime(device, mode), (network,), nn.Conv2d(1, 1, 1))
    assert network.operations is PLAIN
