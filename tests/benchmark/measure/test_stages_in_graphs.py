"""Stages on a GPU are told by events, in a CUDA graph by events inside it. The GPU is a fake one with a clock."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_gpu import FakeGpu, install_fake_gpu

import models
from benchmark.measure.clock import Clock
from benchmark.measure.findings import Stages, StageTime
from benchmark.measure.stages import time_stages
from models.base import ImageGenerator, Request, Runtime, Stage, StageWatch
from models.networks.cuda_graphs import GraphEdges, ProgramPool
from models.stages import inside

ASSETS = Path(__file__).parents[3] / "assets"
MS = 2.0**-10  # nearly a thousandth, and exact in binary
SCALES_S = (1 * MS, 2 * MS, 4 * MS)
DECODER_S, FILL_S, COPY_S, PROMPT_S, LAUNCH_S = 8 * MS, MS / 32, MS / 4, MS / 2, MS / 16


class Answer:
    """A number on the device."""

    def __init__(self, gpu: FakeGpu, value: int = 0) -> None:
        self.gpu, self.value = gpu, value

    def clone(self) -> Answer:
        copy = Answer(self.gpu)
        self.gpu.launch(COPY_S, lambda: setattr(copy, "value", self.value))
        return copy


class Doubling:
    """A program of three scales and a decoder, which doubles what it was given."""

    def __init__(self, gpu: FakeGpu) -> None:
        self.gpu, self.given, self.answer = gpu, 0, Answer(gpu)

    def fill(self, value: int) -> None:
        self.gpu.launch(FILL_S, lambda: setattr(self, "given", value))

    def run(self, watch: StageWatch | None = None) -> Any:
        for seconds in SCALES_S:
            with inside(watch, "backbone"):
                self._kernel(seconds)
        with inside(watch, "decoder"):
            self._kernel(DECODER_S)
            self._kernel(0.0, lambda: setattr(self.answer, "value", 2 * self.given))
            return self.answer

    def _kernel(self, seconds: float, work: Any = lambda: None) -> None:
        self.gpu.think(LAUNCH_S)
        self.gpu.launch(seconds, work)


class Scaled(ImageGenerator):
    """A model of such programs; it looks at the prompt first, on the host."""

    name, image_size, parameters = "scaled", 8, 1

    def __init__(self, gpu: FakeGpu, captured: bool) -> None:
        self.gpu, self.pool, self.launches = gpu, ProgramPool(captured), 1
        self.checks = 0

    def generate(self, requests: Sequence[Request]) -> Any:
        self.gpu.think(PROMPT_S)
        for _ in range(self.launches):
            answer: Any = self.pool(0, lambda: Doubling(self.gpu), lambda program: program.fill(requests[0].seed))
        return answer

    def check(self) -> None:
        self.gpu.synchronize()
        self.gpu.think(3.0)
        self.checks += 1

    def stages(self) -> tuple[Stage, ...]:
        return Stage("backbone", len(SCALES_S)), Stage("decoder", 1)

    def watched(self, watch: StageWatch) -> AbstractContextManager[None]:
        return self.pool.watched(watch)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    return install_fake_gpu(monkeypatch)


def ask(seed: int) -> list[Request]:
    return [Request(0, "a", seed)]


def warmed_up(gpu: FakeGpu, captured: bool) -> tuple[Scaled, float]:
    """Return a model and the latency of its calls."""
    generator = Scaled(gpu, captured)
    generator.generate(ask(1))
    return generator, Clock("cuda").time(lambda: generator.generate(ask(1)))[1]


def timed(generator: Scaled, latency_s: float, calls: int = 3) -> Stages:
    return time_stages(generator, ask(1), Clock("cuda"), latency_s, most_calls=calls)


def test_events_inside_of_a_graph_tell_its_scales_and_add_up_to_the_latency(gpu: FakeGpu) -> None:
    generator, latency_s = warmed_up(gpu, captured=True)
    found = timed(generator, latency_s)
    before_s = PROMPT_S + FILL_S
    assert found.stages == (
        StageTime("backbone", before_s + sum(SCALES_S), 3, SCALES_S),
        StageTime("decoder", DECODER_S + COPY_S, 1, (DECODER_S,)),
    )
    assert latency_s == before_s + sum(SCALES_S) + DECODER_S + COPY_S
    assert (found.seconds, found.ratio, found.watched_calls, found.batch_size) == (latency_s, 1.0, 3, 1)


def test_events_between_plain_launches_add_up_to_the_latency(gpu: FakeGpu) -> None:
    generator, latency_s = warmed_up(gpu, captured=False)
    found = timed(generator, latency_s)
    backbone, decoder = found.stages
    # The device waits for the launch of the first kernel; from then on the host is ahead of it.
    idle_s = LAUNCH_S - FILL_S
    assert backbone.seconds == PROMPT_S + FILL_S + idle_s + sum(SCALES_S)
    assert (backbone.calls, backbone.call_seconds) == (3, (SCALES_S[0] + idle_s, *SCALES_S[1:]))
    assert decoder == StageTime("decoder", DECODER_S, 1, (DECODER_S,))
    assert (found.seconds, found.ratio) == (latency_s, 1.0)


@pytest.mark.parametrize("captured", [False, True])
def test_the_host_waits_before_and_after_a_watched_call_alone(captured: bool, gpu: FakeGpu) -> None:
    generator, latency_s = warmed_up(gpu, captured)
    gpu.waits = 0
    few = timed(generator, latency_s, calls=1).watched_calls, gpu.waits
    gpu.waits = 0
    many = timed(generator, latency_s, calls=11).watched_calls, gpu.waits
    assert (few[0], many[0]) == (1, 11)
    each_call = 3  # and one of them in the check of its images
    assert many[1] - few[1] == 20 * each_call, "ten calls more that are watched, and ten that are not"


def test_one_graph_is_captured_with_two_events_for_each_stage_and_goes_after_the_pass(gpu: FakeGpu) -> None:
    generator, latency_s = warmed_up(gpu, captured=True)
    (plain,) = gpu.graphs
    gpu.events = 0
    timed(generator, latency_s, calls=5)
    (graph,) = (graph for graph in gpu.graphs if graph is not plain)
    edges = 2 * (len(SCALES_S) + 1)
    assert len(graph.nodes) == len(plain.nodes) + edges
    # Of six watched calls and the start of the first: the graph's events are the same in each.
    assert gpu.events == edges + 2 * 6 + 1
    (entry,) = generator.pool._entries.values()
    assert entry.watched is None
    assert generator.checks == 6 + 6


def test_the_watched_graph_reads_what_it_is_asked(gpu: FakeGpu) -> None:
    generator, _ = warmed_up(gpu, captured=True)

    class Silent:
        def enter(self, stage: str, event: Any = None) -> None:
            assert event is not None, stage

        leave = enter

    with generator.watched(Silent()):
        assert [generator.generate(ask(seed)).value for seed in (5, 7, 5)] == [10, 14, 10]
    graphs = len(gpu.graphs)
    assert generator.generate(ask(9)).value == 18
    assert len(gpu.graphs) == graphs


@pytest.mark.parametrize(("name", "first"), [("var", []), ("infinity", ["text encoder"])])
def test_a_next_scale_model_has_two_events_for_each_scale_and_two_for_its_decoder(
    name: str, first: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (family,) = (family for family in models.FAMILIES if family.key == name)
    runtime = Runtime("tiny", "cpu", "float32", 64, ASSETS, tmp_path)
    generator: Any = family.load(family.options(**family.tiny_options), runtime)
    images = generator.generate(generator.prepare([Request(0, "a pink robot", 5)]))
    (entry,) = generator.programs._entries.values()
    gpu, edges = install_fake_gpu(monkeypatch), GraphEdges()
    gpu.captured = torch.cuda.CUDAGraph()
    with torch.inference_mode():
        assert torch.equal(entry.program.run(edges), images)
    assert len(gpu.captured.nodes) == len(edges._edges)
    expected = [(is_entry, stage) for stage in ["backbone"] * 8 + ["decoder"] for is_entry in (True, False)]
    assert [edge[:2] for edge in edges._edges] == expected
    assert [(stage.name, stage.calls) for stage in generator.stages()] == [
        *((stage, 1) for stage in first), ("backbone", 8), ("decoder", 1),
    ]  # fmt: skip


def test_a_call_that_launches_a_graph_twice_has_no_stages(gpu: FakeGpu) -> None:
    generator, latency_s = warmed_up(gpu, captured=True)
    generator.launches = 2
    with pytest.raises(AssertionError, match="a call launches a graph once"):
        timed(generator, latency_s)
