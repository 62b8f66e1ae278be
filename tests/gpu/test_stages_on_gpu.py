"""Stages on a GPU: a captured program is watched as two graphs, and neither its images nor its pool change by it."""

from __future__ import annotations

import statistics
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
CALLS = {"sdxl": (2, 10, 1), "pixart": (2, 10, 1), "var": (1, 1), "infinity": (1, 1, 1)}


def check(generator: Any, calls: tuple[int, ...]) -> None:
    clock, asked = Clock("cuda"), generator.prepare(make_requests(4))
    before = generator.generate(asked)
    for _ in range(3):
        generator.generate(asked)
    latencies_s, sums_s = [], []
    for _ in range(REPEATS):
        latencies_s.append(clock.time(lambda: generator.generate(asked))[1])
        times = time_stages(generator, asked, clock)
        sums_s.append(sum(part.seconds for part in times))
        assert tuple(part.calls for part in times) == calls
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


class Silent:
    """Watches without waiting."""

    def enter(self, stage: str) -> None: ...

    def leave(self, stage: str) -> None: ...


@pytest.mark.parametrize("name", ["var", "infinity"])
def test_the_two_graphs_make_the_images_of_the_one_and_give_their_memory_back(name: str, tmp_path: Path) -> None:
    generator = load(name, "cuda", tmp_path, mode="compiled", dtype="bfloat16")
    asked = generator.prepare(make_requests(8))
    before = generator.generate(asked)
    with generator.watched(Silent()):
        assert torch.equal(generator.generate(asked), before)
        assert not torch.equal(generator.generate(asked[4:] + asked[:4]), before), "the graphs read what they are asked"
        assert torch.equal(generator.generate(asked), before)
        assert len(generator.generate(asked[:3])) == 3
    assert torch.equal(generator.generate(asked), before)
    allocated = torch.cuda.memory_allocated()
    with generator.watched(Silent()):
        generator.generate(asked)
    assert torch.cuda.memory_allocated() <= allocated + 2**20
