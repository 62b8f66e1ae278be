"""Every moment of a call is in one stage; the embedded models' stages add up to their latency and change no image."""

from __future__ import annotations

import time
import weakref
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
from benchmark.measure.findings import NotMeasured, Stages, StageTime
from benchmark.measure.stages import MOST_CALLS, Timeline, time_stages
from models.base import ImageGenerator, Request, Runtime, Stage, StageWatch
from models.stages import inside

ASSETS = Path(__file__).parents[3] / "assets"
ROBOTS = Robots(ASSETS, 0)
REPEATS, MOST_REPEATS = 5, 50
# Of a call: text encoder, backbone, decoder. Guidance is one batch; SDXL's negative prompt is all zeros unencoded.
STEPS = 4
# VAR's and Infinity's backbone is entered once a scale.
CALLS = {"sdxl": (2, STEPS, 1), "pixart": (2, STEPS, 1), "var": (8, 1), "infinity": (1, 8, 1)}


class FakeClock(Clock):
    """A clock that is told the time, and counts how often it waited for the device."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.seconds, self.waits = 0.0, 0

    def synchronize(self) -> None:
        self.waits += 1

    def now(self, wait: bool = True) -> float:  # noqa: ARG002
        return self.seconds


def spent(*script: tuple[str, float]) -> tuple[dict[Any, float], dict[Any, list[float]], int]:
    """Return each stage's seconds, those of its calls, and the waits, of a call whose edges are "<stage" and "stage>"
    with the seconds at which they come."""
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
    found = timeline.read()
    assert found.seconds == script[-1][1] == sum(found.stage_seconds.values())
    return found.stage_seconds, found.call_seconds, clock.waits - waits


def test_what_lies_between_two_stages_is_the_loops() -> None:
    seconds, calls, _ = spent(
        ("<text encoder", 1), ("text encoder>", 3), ("<text encoder", 4), ("text encoder>", 6),
        ("<backbone", 10), ("backbone>", 20), ("<backbone", 21), ("backbone>", 31),
        ("<decoder", 33), ("decoder>", 40), ("end", 44),
    )  # fmt: skip
    assert seconds == {"text encoder": 6, "backbone": 27, "decoder": 11}
    assert calls == {"text encoder": [2, 2], "backbone": [10, 10], "decoder": [7]}


def test_nested_networks_are_not_counted_twice() -> None:
    seconds, calls, _ = spent(
        ("<backbone", 0), ("<backbone", 1), ("backbone>", 2), ("<text encoder", 3), ("text encoder>", 7),
        ("backbone>", 10), ("end", 10),
    )  # fmt: skip
    assert seconds == {"backbone": 6, "text encoder": 4}
    assert calls == {"backbone": [6], "text encoder": [4]}


def test_a_backbone_alone_has_the_whole_call() -> None:
    assert spent(("<backbone", 2), ("backbone>", 3), ("end", 9))[0] == {"backbone": 9}
    assert spent(("<backbone", 2), ("backbone>", 3), ("<decoder", 4), ("decoder>", 5), ("end", 9))[0] == {
        "backbone": 4, "decoder": 5,
    }  # fmt: skip


def test_the_host_waits_for_the_device_after_the_call_alone() -> None:
    loop = [edge for step in range(50) for edge in (("<backbone", 10.0 + step), ("backbone>", 10.5 + step))]
    edges = [("<text encoder", 1.0), ("text encoder>", 2.0), *loop, ("<decoder", 70.0), ("decoder>", 71.0)]
    assert spent(*edges, ("end", 72.0))[2] == 1


class Parts(ImageGenerator):
    """A model that spends told seconds of a fake clock in its stages.

    In each call it spends `growth` seconds more in its backbone than in the one before, the first time 5 seconds.
    steps: how often a call runs the backbone, call by call and then always so.
    """

    name, image_size, parameters = "parts", 8, 1

    def __init__(self, clock: FakeClock, growth: float = 0.0, steps: Sequence[int] = (1,)) -> None:
        self.clock, self.growth, self.steps, self.generated, self.checked = clock, growth, steps, 0, 0
        self.watch: StageWatch | None = None

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        steps = self.steps[min(self.generated, len(self.steps) - 1)]
        backbone = [("backbone", (5.0 + self.growth * self.generated) / steps)] * steps
        for stage, seconds in (("text encoder", 1.0), *backbone, ("decoder", 2.0)):
            with inside(self.watch, stage):  # type: ignore[arg-type]
                self.clock.seconds += seconds * len(requests)
        self.generated += 1
        return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)

    def check(self) -> None:
        self.checked += 1

    def stages(self) -> tuple[Stage, ...]:
        return Stage("text encoder"), Stage("backbone", 1), Stage("decoder", 1)

    @contextmanager
    def watched(self, watch: StageWatch) -> Iterator[None]:
        self.watch = watch
        try:
            yield
        finally:
            self.watch = None


ONE, TWO = Request(0, "a", 0), Request(1, "b", 1)


def test_one_long_call_is_timed_between_unwatched_ones_after_one_that_does_not_count_and_all_are_checked() -> None:
    clock = FakeClock()
    generator = Parts(clock, growth=1.0)
    stages = (
        StageTime("text encoder", 2.0, 1, (2.0,)), StageTime("backbone", 14.0, 1, (14.0,)),
        StageTime("decoder", 4.0, 1, (4.0,)),
    )  # fmt: skip
    found = time_stages(generator, [ONE, TWO], clock, timed_seconds=16.0)
    # Calls of 16, 18, 20 and 22 seconds: the second is the one that does not count, the third the one that is watched.
    assert found == Stages(
        stages, seconds=20.0, unwatched_seconds=19.0, timed_seconds=16.0, watched_calls=1, batch_size=2
    )  # fmt: skip
    assert found.ratio == 20 / 19
    assert generator.checked == 4
    assert generator.watch is None


def test_the_seconds_are_the_mean_of_the_watched_calls() -> None:
    clock = FakeClock()
    found = time_stages(Parts(clock, growth=0.5, steps=[2]), [ONE], clock, timed_seconds=9.0)
    assert found.watched_calls == 2
    assert (found.seconds, found.unwatched_seconds) == (9.25, 9.0)  # of 9 and 9.5 seconds, of 8 and 10
    assert found.stages[1] == StageTime("backbone", 6.25, 2, (3.125, 3.125))


def test_short_calls_are_watched_more_often() -> None:
    class Quick(Parts):
        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            self.clock.seconds -= 7.875
            return super().generate(requests)

    clock = FakeClock()
    assert time_stages(Quick(clock), [ONE], clock, 0.125).watched_calls == 4
    assert time_stages(Quick(clock), [ONE], clock, 0.125, most_calls=3).watched_calls == 3
    assert time_stages(Quick(clock), [ONE], clock, 1e-3).watched_calls == MOST_CALLS


def test_calls_of_a_number_that_changes_have_no_seconds_of_their_own() -> None:
    clock = FakeClock()
    found = time_stages(Parts(clock, steps=[1, 1, 2, 4]), [ONE], clock, timed_seconds=8.0)
    assert found.stages[1] == StageTime("backbone", 5.0, 3, ())
    assert found.ratio == 1.0


def test_a_run_that_is_stopped_has_no_stages() -> None:
    clock, asked = FakeClock(), iter([False, False, True])
    generator = Parts(clock)
    with pytest.raises(NotMeasured, match="stopped"):
        time_stages(generator, [ONE], clock, 8.0, lambda: next(asked))
    assert (generator.generated, generator.watch) == (2, None)


def test_no_image_of_a_watched_call_is_kept() -> None:
    kept: list[weakref.ref[torch.Tensor]] = []

    class Seen(Parts):
        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            assert not any(image() is not None for image in kept)
            images = super().generate(requests)
            kept.append(weakref.ref(images))
            return images

        def check(self) -> None:
            assert not any(image() is not None for image in kept)

    clock = FakeClock()
    time_stages(Seen(clock), [ONE], clock, 8.0)
    assert len(kept) == 5


def test_a_model_without_stages_has_no_times() -> None:
    class Whole(ImageGenerator):
        name, image_size, parameters = "whole", 8, 1

        def generate(self, requests: Sequence[Request]) -> torch.Tensor:
            raise AssertionError(f"{requests} need not be made")

    with pytest.raises(NotMeasured, match=r"^the model does not tell its stages apart$"):
        time_stages(Whole(), [ONE], FakeClock(), 1.0)


def test_a_model_whose_stages_are_never_entered_has_no_times() -> None:
    class Elsewhere(Parts):
        @contextmanager
        def watched(self, watch: StageWatch) -> Iterator[None]:  # noqa: ARG002
            yield

    clock = FakeClock()
    with pytest.raises(NotMeasured, match=r"^its call runs none of the networks that are its stages$"):
        time_stages(Elsewhere(clock), [ONE], clock, 1.0)


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
    latencies_s, sums_s, ratio = [], [], 0.0
    # The least of several, since whatever disturbs a call makes it longer; of more of them on a machine that disturbs
    # many. Stages that left out or counted twice a tenth of the call would never come to its latency.
    while len(sums_s) < REPEATS or (not 0.9 <= ratio <= 1.1 and len(sums_s) < MOST_REPEATS):
        times = time_stages(generator, asked, clock, 1.0, most_calls=1).stages
        sums_s.append(sum(part.seconds for part in times))
        images, latency_s = clock.time(lambda: generator.generate(asked))
        latencies_s.append(latency_s)
        assert torch.equal(images, expected)
        assert tuple(part.calls for part in times) == CALLS[key]
        ratio = min(sums_s) / min(latencies_s)
    assert 0.9 <= ratio <= 1.1, (sums_s, latencies_s)
    for stage, part in zip(generator.stages(), times, strict=True):
        assert stage.name == part.name
        assert stage.calls in (None, part.calls)
        assert len(part.call_seconds) == part.calls
        assert 0 < sum(part.call_seconds) <= part.seconds * 1.000001


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
    found = time_stages(generator, asked, Clock("cpu"), 1.0, most_calls=1)
    assert tuple(part.calls for part in found.stages) == calls
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
