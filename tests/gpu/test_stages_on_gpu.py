"""Stages on a GPU: a captured program is watched by events in its graph; neither its images nor its pool change."""

from __future__ import annotations

import statistics
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from embedded_models import load, make_requests

from benchmark.measure.clock import Clock
from benchmark.measure.stages import time_stages

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
REPEATS = 15
CASES = [(name, mode) for name in ("var", "infinity") for mode in ("eager", "compiled")]
CASES += [("sdxl", "eager"), ("pixart", "eager")]
# VAR's and Infinity's backbone is entered once a scale.
CALLS = {"sdxl": (2, 10, 1), "pixart": (2, 10, 1), "var": (8, 1), "infinity": (1, 8, 1)}


def check(generator: Any, calls: tuple[int, ...]) -> None:
    clock, asked = Clock("cuda"), generator.prepare(make_requests(4))
    before = generator.generate(asked)
    for _ in range(3):
        generator.generate(asked)
    latencies_s, sums_s = [], []
    for _ in range(REPEATS):
        latencies_s.append(clock.time(lambda: generator.generate(asked))[1])
        times = time_stages(generator, asked, clock, latencies_s[-1], most_calls=1).stages
        sums_s.append(sum(part.seconds for part in times))
        assert tuple(part.calls for part in times) == calls
        for part in times:
            assert 0 < sum(part.call_seconds) <= part.seconds * 1.0001
    latency_s = statistics.median(latencies_s)
    ratio = statistics.median(sums_s) / latency_s
    parts = ", ".join(f"{part.name} {1e3 * part.seconds:.2f}" for part in times)
    print(
        f"{generator.name}: latency {1e3 * statistics.median(latencies_s):.2f} ms, sum {ratio:.3f} of it; ms: {parts}"
    )
    assert 0.8 <= ratio <= 1.25
    assert torch.equal(generator.generate(asked), before)


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_stages_add_up_to_the_latency(name: str, mode: Any, tmp_path: Path) -> None:
    check(load(name, "cuda", tmp_path, mode=mode), CALLS[name])


@pytest.mark.parametrize("name", ["sdxl", "pixart"])
def test_stages_of_networks_in_graphs_add_up_to_the_latency(name: str, tmp_path: Path) -> None:
    generator: Any = load(name, "cuda", tmp_path)
    generator.speed_up("eager", "cuda")
    check(generator, CALLS[name])


@pytest.mark.parametrize("name", ["var", "infinity"])
def test_stages_of_a_captured_program_add_up_to_its_latency_within_three_percent(name: str, tmp_path: Path) -> None:
    """Of a large batch, whose call is long beside the microseconds of an event."""
    generator: Any = load(name, "cuda", tmp_path, mode="compiled", dtype="bfloat16")
    clock, asked = Clock("cuda"), generator.prepare(make_requests(128))
    before = generator.generate(asked)
    for _ in range(3):
        generator.generate(asked)
    ratios = []
    for _ in range(5):
        latencies_s = [clock.time(lambda: generator.generate(asked))[1] for _ in range(10)]
        found = time_stages(generator, asked, clock, statistics.fmean(latencies_s), most_calls=10)
        ratios.append(found.ratio)
    print(f"{generator.name}: {1e3 * found.unwatched_seconds:.2f} ms, sum of stages over it {ratios}; {found.stages}")
    assert 0.97 <= statistics.median(ratios) <= 1.03
    backbone = next(part for part in found.stages if part.name == "backbone")
    assert (backbone.calls, len(backbone.call_seconds)) == (8, 8)
    assert all(seconds > 0 for seconds in backbone.call_seconds)
    # The last scale has 256 times as many tokens as the first one.
    assert backbone.call_seconds[-1] > backbone.call_seconds[1]
    assert torch.equal(generator.generate(asked), before)


class EdgesOnly:
    """Counts the edges inside and outside graphs."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    def enter(self, stage: str, event: Any = None) -> None:  # noqa: ARG002
        self.events.append(event)

    leave = enter


@pytest.mark.parametrize(("name", "outside"), [("var", 0), ("infinity", 2)])
def test_each_edge_of_a_captured_program_is_an_event_of_its_graph(name: str, outside: int, tmp_path: Path) -> None:
    generator = load(name, "cuda", tmp_path, mode="compiled", dtype="bfloat16")
    asked, edges = generator.prepare(make_requests(2)), EdgesOnly()
    generator.generate(asked)
    with generator.watched(edges):
        generator.generate(asked)
        torch.cuda.synchronize()
    events = [event for event in edges.events if event is not None]
    assert (len(events), len(edges.events) - len(events)) == (2 * (8 + 1), outside)
    assert all(first.elapsed_time(second) >= 0 for first, second in pairwise(events))
    assert events[0].elapsed_time(events[-1]) > 0


@pytest.mark.parametrize("name", ["var", "infinity"])
def test_the_watched_graph_makes_the_images_of_the_plain_one_and_gives_its_memory_back(
    name: str, tmp_path: Path
) -> None:
    generator = load(name, "cuda", tmp_path, mode="compiled", dtype="bfloat16")
    asked = generator.prepare(make_requests(8))
    before = generator.generate(asked)
    with generator.watched(EdgesOnly()):
        assert torch.equal(generator.generate(asked), before)
        assert not torch.equal(generator.generate(asked[4:] + asked[:4]), before), "the graph reads what it is asked"
        assert torch.equal(generator.generate(asked), before)
        assert len(generator.generate(asked[:3])) == 3
    assert torch.equal(generator.generate(asked), before)
    allocated = torch.cuda.memory_allocated()
    with generator.watched(EdgesOnly()):
        generator.generate(asked)
    assert torch.cuda.memory_allocated() <= allocated + 2**20
