"""A GPU of a fake clock: its stream, events and CUDA graphs, as far as `Clock` and `ProgramPool` use them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmark.measure import clock
from models.networks import cuda_graphs


class FakeGpu:
    """Runs what is launched in its order, while the host goes on; `host_s` and `device_s` are where they have come to.

    graphs: all that were captured. waits: how often the host waited for the device. events: how many were made.
    """

    def __init__(self) -> None:
        self.host_s, self.device_s = 0.0, 0.0
        self.waits, self.events = 0, 0
        self.graphs: list[FakeGraph] = []
        self.captured: FakeGraph | None = None

    def think(self, seconds: float) -> None:
        """Keep the host busy."""
        self.host_s += seconds

    def launch(self, seconds: float, work: Callable[[], None] = lambda: None) -> None:
        """Launch what takes the device so long, or make it a node of the graph that is being captured."""
        if self.captured is not None:
            self.captured.nodes.append((seconds, work))
            return
        self.device_s = max(self.device_s, self.host_s) + seconds
        work()

    def synchronize(self, device: object = None) -> None:  # noqa: ARG002
        assert self.captured is None, "waiting is no part of a graph"
        self.waits += 1
        self.host_s = max(self.host_s, self.device_s)


class FakeGraph:
    """The work that was launched while it was captured; each launch of the graph does it again."""

    gpu: FakeGpu

    def __init__(self) -> None:
        self.nodes: list[tuple[float, Callable[[], None]]] = []
        self.gpu.graphs.append(self)

    def replay(self) -> None:
        for seconds, work in self.nodes:
            self.gpu.launch(seconds, work)


class FakeEvent:
    """An event of CUDA: it may be recorded again, and is only read once the device has passed it."""

    gpu: FakeGpu

    def __init__(self, enable_timing: bool = False, external: bool = False) -> None:
        self.enable_timing, self.external = enable_timing, external
        self.seconds: float | None = None
        self.gpu.events += 1

    def record(self, stream: object = None) -> None:  # noqa: ARG002
        assert self.gpu.captured is None or self.external, "a graph's own event cannot be read outside of it"
        self.gpu.launch(0.0, self._pass)

    def _pass(self) -> None:
        self.seconds = self.gpu.device_s

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.enable_timing
        assert end.enable_timing
        assert self.seconds is not None
        assert end.seconds is not None
        assert max(self.seconds, end.seconds) <= self.gpu.host_s, "the host has waited for both"
        return 1e3 * (end.seconds - self.seconds)


class FakeCapture:
    """`torch.cuda.graph`."""

    def __init__(self, graph: FakeGraph, pool: object, stream: object, capture_error_mode: str) -> None:
        assert pool is not None
        assert stream is not None
        assert capture_error_mode == "thread_local"
        self.graph = graph

    def __enter__(self) -> None:
        assert self.graph.gpu.captured is None, "one capture at a time"
        self.graph.gpu.captured = self.graph

    def __exit__(self, *_: object) -> None:
        self.graph.gpu.captured = None


def install_fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """Return a GPU that stands in the place of torch's, and whose host's clock is that of `Clock`, for one test."""
    gpu = FakeGpu()
    stream = SimpleNamespace(wait_stream=lambda _: None)
    fakes: dict[str, Any] = {
        "Event": type("Event", (FakeEvent,), {"gpu": gpu}),
        "CUDAGraph": type("CUDAGraph", (FakeGraph,), {"gpu": gpu}),
        "graph": FakeCapture,
        "Stream": lambda _=None: stream,
        "stream": lambda _: nullcontext(),
        "current_stream": lambda _=None: stream,
        "current_device": lambda: 0,
        "synchronize": gpu.synchronize,
        "empty_cache": lambda: None,
        "graph_pool_handle": lambda: (0, 1),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(cuda_graphs, "capture_stream", lambda _: stream)
    monkeypatch.setattr(clock, "time", SimpleNamespace(perf_counter=lambda: gpu.host_s))
    return gpu
