"""What only a GPU can show: the clock waits, memory comes back, images are the CPU's, graphs change nothing."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch
from embedded_models import load, make_requests

import models
from benchmark.console.progress import Progress
from benchmark.measure.clock import Clock
from benchmark.run.journal import Journal
from benchmark.run.worker import Plan, RoundJob, time_round

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.fixture(autouse=True)
def _full_float32() -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def test_the_clock_waits_for_the_device() -> None:
    square = torch.randn(8192, 8192, device="cuda")

    def work() -> None:
        for _ in range(20):
            square @ square

    clock = Clock("cuda")
    clock.time(work)
    _, seconds = clock.time(work)
    assert seconds > 20 * 2 * 8192**3 / 1e15, "faster than any GPU there is: the clock did not wait"


@pytest.mark.parametrize("name", ["sdxl", "var", "pixart", "infinity"])
def test_images_on_the_gpu_are_those_of_the_cpu(name: str, tmp_path: Path) -> None:
    pictures = []
    for device in ("cpu", "cuda"):
        generator = load(name, device, tmp_path)
        pictures.append(generator.generate(generator.prepare(make_requests(2))).cpu().int())
    difference = (pictures[0] - pictures[1]).abs().float()
    assert difference.mean() < 0.5, f"mean difference {difference.mean()}/255, largest {difference.max()}"


def test_memory_comes_back_after_each_model(tmp_path: Path) -> None:
    before = torch.cuda.memory_allocated()
    for name in [family.key for family in models.FAMILIES if family.switchable]:
        journal = Journal(tmp_path / name, {})
        plan = Plan(1, 1, "cuda")
        job = RoundJob(
            partial(load, name, "cuda", tmp_path), tuple(make_requests(2)), journal, plan, 0, (range(1), range(1, 2))
        )
        with journal.locked():
            time_round(job, Progress())
        loaded = journal.read().loaded
        assert loaded is not None
        assert loaded.peak_memory_bytes is not None
        assert loaded.peak_memory_bytes > loaded.parameters
        assert torch.cuda.memory_allocated() - before < 64 * 2**20, f"{name} left memory behind"


@pytest.mark.parametrize("name", ["sdxl", "pixart"])
def test_cuda_graphs_change_no_image(name: str, tmp_path: Path) -> None:
    plain, graphed = load(name, "cuda", tmp_path), load(name, "cuda", tmp_path)
    graphed.speed_up("eager", "cuda")  # type: ignore[attr-defined]
    for start in (0, 2):
        asked = make_requests(4)[start : start + 2]
        difference = (plain.generate(asked).int() - graphed.generate(asked).int()).abs()
        assert difference.max() <= 1
