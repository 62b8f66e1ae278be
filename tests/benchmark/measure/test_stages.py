"""Every moment of a call is in one stage; the embedded models' stages add up to their latency and change no image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import models
from benchmark.data.sources.robots import Robots
from benchmark.measure.clock import Clock
from benchmark.measure.stages import StageTime, Timeline, time_stages
from models.base import ImageGenerator, Request, Runtime, Stage, StageWatch
from models.stages import inside

ASSETS = Path(__file__).parents[3] / "assets"
ROBOTS = Robots(ASSETS, 0)
REPEATS = 5
# Of a call: text encoder, backbone, decoder. Guidance is one batch; SDXL's negative prompt is all zeros unencoded.
STEPS = 4
CALLS = {"sdxl": (2, STEPS, 1), "pixart": (2, STEPS, 1), "var": (1, 1), "infinity": (1, 1, 1)}


class FakeClock(Clock):
    """A clock that is told the time, and counts how often it waited for the device."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.seconds, self.waits = 0.0, 0

    def now(self, wait: bool = True) -> float:
        self.waits += wait
        return self.seconds


def spent(*script: tuple[str, float]) -> tuple[dict[Any, float], dict[Any, int], int]:
    """Return each stage's seconds, calls, and the waits, of a call: edges "<stage" and "stage>", and when they come."""
    clock = FakeClock()
    timeline = Timeline(clock)
    timeline.start()
    waits = clock.waits
    for edge, seconds in script:
        clock.seconds = seconds
        if edge == "end":
            timeline.stop()
        elif edge.startswith("<"):
            timeline.enter(edge[1:])  # type: ignore[arg-type]
        else:
            timeline.leave(edge[:-1])  # type: ignore[arg-type]
    return timeline.seconds(), dict(timeline.calls), clock.waits - waits


def test_what_lies_between_two_stages_is_the_loops() -> None:
    seconds, calls, _ = spent(
        ("<text encoder", 1), ("text encoder>", 3), ("<text encoder", 4), ("text encoder>", 6),
        ("<backbone", 10), ("backbone>", 20), ("<backbone", 21), ("backbone>", 31),
        ("<decoder", 33), ("decoder>", 40), ("end", 44),
    )  # fmt: skip
    assert seconds == {"text encoder": 6, "backbone": 27, "decoder": 11}
    assert calls == {"text encoder": 2, "backbone": 2, "decoder": 1}


def test_nested_networks_are_not_counted_twice() -> None:
    seconds, calls, _ = spent(
        ("<backbone", 0), ("<backbone", 1), ("backbone>", 2), ("<text encoder", 3), ("text encoder>", 7),
        ("backbone>", 10), ("end", 10),
    )  # fmt: skip
    assert seconds == {"backbone": 6, "text encoder": 4}
    assert calls == {"backbone": 1, "text encoder": 1}


def test_a_backbone_alone_has_the_whole_call() -> None:
    assert spent(("<backbone", 2), ("backbone>", 3), ("end", 9))[0] == {"backbone": 9}
    assert spent(("<backbone", 2), ("backbone>", 3), ("<decoder", 4), ("decoder>", 5), ("end", 9))[0] == {
        "backbone": 4, "decoder": 5,
    }  # fmt: skip


def test_the_loop_does_not_wait_for_the_device() -> None:
    loop = [edge for step in range(50) for edge in (("<backbone", 10.0 + step), ("backbone>", 10.5 + step))]
    edges = [("<text encoder", 1.0), ("text encoder>", 2.0), *loop, ("<decoder", 70.0), ("decoder>", 71.0)]
    assert spent(*edges, ("end", 72.0))[2] == 5


class Parts(ImageGenerator):
    """A model that spends told seconds of a fake clock in its stages."""

    name, image_size, parameters = "parts", 8, 1

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.checked = clock, 0
        self.watch: StageWatch | None = None

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        for stage, seconds in zip(self.stages(), (1.0, 5.0, 2.0), strict=True):
            with inside(self.watch, stage.name):
                self.clock.seconds += seconds * len(requests)
        return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)

    def check(self) -> None:
        self.checked += 1

    def stages(self) -> tuple[Stage, ...]:
        return Stage("text encoder"), Stage("backbone", 1), Stage("decoder", 1)

    @contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        self.watch = watch
        yield
        self.watch = None


def test_one_call_is_timed_and_every_call_is_checked() -> None:
    clock = FakeClock()
    generator = Parts(clock)
    assert time_stages(generator, [Request(0, "a", 0), Request(1, "b", 1)], clock) == [
        StageTime("text encoder", 2.0, 1), StageTime("backbone", 10.0, 1), StageTime("decoder", 4.0, 1),
    ]  # fmt: skip
    assert generator.checked == 2
    assert generator.watch is None


def test_a_model_without_stages_has_no_times() -> None:
    class Whole(ImageGenerator):
        name, image_size, parameters = "whole", 8, 1

        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            raise AssertionError(f"{requests} need not be made")

    assert time_stages(Whole(), [Request(0, "a", 0)], FakeClock()) == []


def load(key: str, tmp_path: Path, **changes: Any) -> ImageGenerator:
    (family,) = (family for family in models.FAMILIES if family.key == key)
    runtime = Runtime("tiny", "cpu", "float32", 64, ASSETS, tmp_path, label_names=ROBOTS.label_names, **changes)
    options = family.options(**family.tiny_options)
    if hasattr(options, "steps"):
        options = replace(options, steps=STEPS)
    return family.load(options, runtime)


def requests(generator: ImageGenerator, count: int) -> list[Request]:
    examples = zip(range(count), ROBOTS.examples(), strict=False)
    return generator.prepare([Request(i, example.caption, 100 + i, example.label) for i, example in examples])


class ProcessorClock(Clock):
    """A clock of this process's processor time, which other processes of a busy machine do not take part in."""

    def now(self, wait: bool = True) -> float:  # noqa: ARG002
        return time.process_time()


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Threads that wait for each other spend processor time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("key", CALLS)
def test_stages_add_up_to_the_latency_and_change_no_image(key: str, tmp_path: Path) -> None:
    clock, generator = ProcessorClock("cpu"), load(key, tmp_path)
    asked = requests(generator, 2)
    expected = generator.generate(asked)
    latencies_s, sums_s = [], []
    for _ in range(REPEATS):
        times = time_stages(generator, asked, clock)
        sums_s.append(sum(part.seconds for part in times))
        images, latency_s = clock.time(lambda: generator.generate(asked))
        latencies_s.append(latency_s)
        assert torch.equal(images, expected)
        assert tuple(part.calls for part in times) == CALLS[key]
    # The least of several: whatever disturbs a call makes it longer.
    assert 0.9 <= min(sums_s) / min(latencies_s) <= 1.1, (sums_s, latencies_s)
    for stage, part in zip(generator.stages(), times, strict=True):
        assert stage.name == part.name
        assert stage.calls in (None, part.calls)
        assert part.seconds > 0


def watched_images(generator: ImageGenerator, asked: list[Request]) -> torch.Tensor:
    timeline = Timeline(Clock("cpu"))
    with generator.watched(timeline):
        images = generator.generate(asked)
    assert timeline.calls["decoder"] == 1
    return images


@pytest.mark.parametrize("key", CALLS)
def test_images_are_the_same_while_a_call_is_watched(key: str, tmp_path: Path) -> None:
    generator = load(key, tmp_path)
    asked = requests(generator, 2)
    before = generator.generate(asked)
    assert torch.equal(watched_images(generator, asked), before)
    assert torch.equal(generator.generate(asked), before)


@pytest.mark.parametrize(("key", "calls"), [("sdxl", (2, STEPS, 1)), ("pixart", (1, STEPS, 1))])
def test_compiled_networks_are_watched_as_plain_ones(key: str, calls: tuple[int, ...], tmp_path: Path) -> None:
    generator: Any = load(key, tmp_path)
    strategy = {"sdxl": models.sdxl.FASTEST, "pixart": models.pixart.FASTEST}[key]
    # Traced as for inductor and run by torch itself, which needs no compiler. PixArt then keeps its empty prompt.
    generator.speed_up(strategy, "cpu", backend="eager")
    asked = requests(generator, 2)
    before = generator.generate(asked)
    compilations = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert tuple(part.calls for part in time_stages(generator, asked, Clock("cpu"))) == calls
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compilations, "watching compiles nothing anew"
    assert torch.equal(watched_images(generator, asked), before)
    torch._dynamo.reset()


@pytest.mark.parametrize("key", ["var", "infinity"])
def test_compiled_programs_are_watched_as_plain_ones(key: str, tmp_path: Path) -> None:
    generator = load(key, tmp_path, mode="compiled")
    asked = requests(generator, 2)
    before = generator.generate(asked)
    assert torch.equal(watched_images(generator, asked), before)


def test_a_call_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    generator: Any = load("pixart", tmp_path)
    asked = requests(generator, 1)
    forward: Callable[..., Any] = generator.pipeline.transformer.forward

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("the network fails")

    generator.pipeline.transformer.forward = fail
    timeline = Timeline(Clock("cpu"))
    with pytest.raises(RuntimeError, match="the network fails"), generator.watched(timeline):
        generator.generate(asked)
    generator.pipeline.transformer.forward = forward
    entered = sum(timeline.calls.values())
    generator.generate(asked)
    assert sum(timeline.calls.values()) == entered
