"""What only a GPU can show of groups: compiled, each member's images and memory are those of a load of its own."""

from __future__ import annotations

import dataclasses
import gc
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from embedded_models import make_requests

from benchmark.console.progress import Progress
from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.run.groups import time_group
from benchmark.run.journal import Journal
from benchmark.run.snapshot import Snapshot
from benchmark.run.worker import Plan, RoundJob, time_round
from benchmark.settings.fields import ASSETS, settings_class
from models.base import ImageGenerator, Mode, ModelFamily, Runtime

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
DEVICE = "cuda"
# The first options are those of the load; each of the others changes what programs hold as constants, or their shapes.
CASES: dict[str, list[dict[str, Any]]] = {
    "var": [{"cfg": 1.5}, {"cfg": 4.0}, {"cfg": 0.0, "top_k": 5}],
    "infinity": [{"cfg": 1.5}, {"cfg": 4.0, "tau": 1.0}, {"cfg": 1.0, "top_k": 1}, {"negative_prompt": "red"}],
    "sdxl": [{"steps": 2}, {"steps": 5, "guidance": 4.0}, {"steps": 2, "guidance": 1.0}, {"scheduler": "dpm++2m"}],
    "pixart": [{"steps": 2}, {"steps": 5, "guidance": 4.0}, {"steps": 2, "guidance": 1.0}, {"negative_prompt": "red"}],
}


@pytest.fixture(autouse=True)
def _full_float32() -> Any:
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch._dynamo.reset()


def family_and_options(name: str) -> tuple[ModelFamily, list[Any]]:
    (model,) = settings_class()(WEIGHTS="tiny", MODELS=name).selected_models()  # type: ignore[call-arg]  # by alias
    return model.family, [dataclasses.replace(model.options, **given) for given in CASES[name]]


def runtime_of(folder: Path, mode: Mode) -> Runtime:
    return Runtime("tiny", DEVICE, "float32", 64, ASSETS, folder, mode=mode, label_names=Robots(ASSETS, 0).label_names)


def make(generator: ImageGenerator) -> torch.Tensor:
    """Return images of three calls: what was captured, what is replayed, and another size of a batch."""
    asked = generator.prepare(make_requests(4))
    made = [generator.generate(asked[:2]), generator.generate(asked[2:]), generator.generate(asked[:1])]
    generator.check()
    return torch.cat(made).int()


def count_different(one: torch.Tensor, other: torch.Tensor) -> int:
    """Return how many images differ by more than rounding: kernels are chosen by trying them."""
    return int(((one - other).abs().flatten(1).amax(dim=1) > 1).sum())


@pytest.mark.parametrize("name", CASES)
def test_compiled_members_make_the_images_of_a_load_of_their_own(name: str, tmp_path: Path) -> None:
    family, options = family_and_options(name)
    first = generator = family.load(options[0], runtime_of(tmp_path, "compiled"))
    found = [make(first)]
    for other in options[1:]:
        generator = generator.with_options(other)
        found.append(make(generator))
    # Graphs of the options in between must not answer for the first ones, in either generator.
    again = make(first), make(generator.with_options(options[0]))
    del first, generator
    # A bit that Infinity draws may be a tie but for rounding; the image then differs from there on.
    ties = 1 if name == "infinity" else 0
    assert all(count_different(found[0], each) <= ties for each in again)
    for place, (own, images) in enumerate(zip(options, found, strict=True)):
        torch._dynamo.reset()
        alone = make(family.load(own, runtime_of(tmp_path, "compiled")))
        eager = make(family.load(own, runtime_of(tmp_path, "eager")))
        told = f"{name} {CASES[name][place]}"
        assert count_different(images, alone) <= ties, told
        assert count_different(images, eager) <= ties, told
        assert all(count_different(images, other) > ties for other in found[:place]), f"{told} changes nothing"


def job(name: str, place: int, folder: Path, title: str) -> RoundJob:
    family, options = family_and_options(name)
    load = partial(family.load, options[place], runtime_of(folder, "compiled"))
    return RoundJob(
        load, tuple(make_requests(4)), Journal(folder / title, {}), Plan(2, 1, DEVICE), 1, (range(2), range(2, 4)),
        passes=("memory", "stages"), options=options[place], title=title,
    )  # fmt: skip


def peak_bytes(found: Snapshot) -> int:
    (finished,) = found.finished
    assert finished.peak_memory_bytes is not None
    return finished.peak_memory_bytes


@pytest.mark.parametrize("name", CASES)
def test_a_members_peak_memory_and_passes_are_its_own_and_nothing_is_left(name: str, tmp_path: Path) -> None:
    # The first load of a process leaves libraries' workspaces, which are no member's.
    time_round_alone(job(name, 0, tmp_path, "warm up"))
    before = torch.cuda.memory_allocated()
    together = [job(name, place, tmp_path, f"member {place}") for place in range(len(CASES[name]))]
    events: list[object] = []
    with ExitStack() as held:
        for each in together:
            held.enter_context(each.journal.locked())
        time_group(together, Progress(), events.append)
    assert [type(event).__name__ for event in events] == ["Began", "Ended"] * len(together)
    left = torch.cuda.memory_allocated() - before
    assert left < 64 * 2**20, f"{name} left {left} bytes behind"
    for place, each in enumerate(together):
        alone = job(name, place, tmp_path, f"alone {place}")
        time_round_alone(alone)
        found, expected = each.journal.read(), alone.journal.read()
        assert [call.pixels for call in found.timed] != []
        assert {line.name: line.reason for line in found.measured} == {
            line.name: line.reason for line in expected.measured
        }
        ratio = peak_bytes(found) / peak_bytes(expected)
        print(f"{name} {CASES[name][place]}: {peak_bytes(found)} of {peak_bytes(expected)} bytes, {ratio:.3f}")
        assert 0.6 < ratio < 1.15, "what another member held counts, or not all of its own"


def time_round_alone(alone: RoundJob) -> None:
    with alone.journal.locked():
        time_round(alone, Progress())


def test_a_members_graphs_are_gone_before_the_next_one_captures(tmp_path: Path) -> None:
    family, options = family_and_options("var")
    generator = family.load(options[0], runtime_of(tmp_path, "compiled"))
    make(generator)
    clock = Clock(DEVICE)
    clock.release_unused()
    held = torch.cuda.memory_reserved()
    for place in (1, 0, 1, 0):
        generator = generator.with_options(options[place])
        make(generator)
        clock.release_unused()
    gc.collect()
    assert torch.cuda.memory_reserved() <= 1.1 * held + 32 * 2**20
