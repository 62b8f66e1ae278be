"""Hooks tell a watch of what runs, and of nothing that is compiled or captured to run later."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.stage_hooks import hooked


class Edges:
    """Writes down what a watch is told."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def enter(self, stage: str) -> None:
        self.seen.append(f"<{stage}")

    def leave(self, stage: str) -> None:
        self.seen.append(f"{stage}>")


class Outer(nn.Module):
    """A network with another one inside."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        inner: torch.Tensor = self.inner(values)
        return inner + 1


def watched_call(network: Outer) -> list[str]:
    edges: Any = Edges()
    values = torch.ones(2)
    plain = Outer.forward(network, values)
    with hooked([("backbone", network), ("text encoder", network.inner)], edges):
        assert torch.equal(network(values), plain)
    seen: list[str] = edges.seen
    assert torch.equal(network(values), plain)
    assert edges.seen == seen
    return seen


def test_a_network_inside_of_another_one_is_told_between_its_edges() -> None:
    assert watched_call(Outer()) == ["<backbone", "<text encoder", "text encoder>", "backbone>"]


def test_what_is_compiled_while_it_is_watched_tells_of_no_network_inside() -> None:
    network: Any = Outer()
    network.forward = torch.compile(network.forward, fullgraph=True, backend="eager")
    assert watched_call(network) == ["<backbone", "backbone>"]
    assert watched_call(network) == ["<backbone", "backbone>"]
    torch._dynamo.reset()


def test_what_is_captured_while_it_is_watched_tells_of_no_network_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = Outer()
    plain, is_capturing = network.forward, False

    def capture(values: torch.Tensor) -> torch.Tensor:
        nonlocal is_capturing
        is_capturing = True
        try:
            answer: torch.Tensor = plain(values)
            return answer
        finally:
            is_capturing = False

    network.forward = capture
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: is_capturing)
    assert watched_call(network) == ["<backbone", "backbone>"]
