"""Where the seconds of a call go: text encoder, backbone and decoder, timed in calls of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmark.measure.clock import Clock, Mark
from benchmark.measure.findings import NotMeasured, Stages, StageTime
from models.base import ImageGenerator, Request, Stage, StageName

MOST_CALLS = 25
SECONDS = 0.5  # of watched calls, and as much of those that are not watched
LEAST_CALLS = 2
LONG_CALL_SECONDS = 10.0  # one call is enough where it takes longer


@dataclass(frozen=True)
class WatchedCall:
    """A call's seconds by stage, those that each call of a stage's networks took, and those from its start to its end.

    call_seconds: of a stage's calls in their order; what lies between them is in `stage_seconds` alone.
    """

    seconds: float
    stage_seconds: dict[StageName, float]
    call_seconds: dict[StageName, list[float]]


def time_stages(
    generator: ImageGenerator,
    requests: Sequence[Request],
    clock: Clock,
    timed_seconds: float,
    stopped: Callable[[], bool] = lambda: False,
    most_calls: int = MOST_CALLS,
) -> Stages:
    """Return the times of a call's stages, the means over a few watched calls, between calls that are not watched.

    As many are made unwatched, half of them before and half after: a process that grows faster or slower does so for
    both. A watched call that does not count goes first: it compiles and captures what only such calls need. Each moment
    of a call is in one stage, so that the stages add up to its latency (see `Timeline`). No image is kept.

    requests: of one call, as `prepare` returned them. timed_seconds: the mean of the calls that were timed before.
    stopped: is asked before each call.

    Raises:
        NotMeasured: the model does not tell its stages apart, or was stopped before it had told them.
    """
    stages = generator.stages()
    if not stages:
        raise NotMeasured("the model does not tell its stages apart")
    count = _count_calls(timed_seconds, most_calls)
    half, timeline = math.ceil(count / 2), Timeline(clock)

    def call() -> None:
        if stopped():
            raise NotMeasured("stopped")
        generator.generate(requests)

    def time_unwatched() -> float:
        seconds = clock.time(call)[1]
        generator.check()
        return seconds

    unwatched_s = [time_unwatched() for _ in range(half)]
    counted: list[WatchedCall] = []
    with generator.watched(timeline):
        for number in range(count + 1):
            timeline.start()
            call()
            timeline.stop()
            generator.check()
            counted += [timeline.read()] if number else []
    unwatched_s += [time_unwatched() for _ in range(half)]
    return summarize_stages(stages, counted, unwatched_s, timed_seconds, len(requests))


def summarize_stages(
    stages: Sequence[Stage],
    watched: Sequence[WatchedCall],
    unwatched_s: Sequence[float],
    timed_seconds: float,
    batch_size: int,
) -> Stages:
    """Return the means over watched calls, beside the mean of unwatched ones.

    Raises:
        NotMeasured: the calls entered no stage.
    """
    entered = {name for call in watched for name in call.stage_seconds}
    assert entered <= {stage.name for stage in stages}, "a generator enters only stages that it names"
    if not entered:
        raise NotMeasured("its call runs none of the networks that are its stages")
    return Stages(
        tuple(_mean(stage.name, watched) for stage in stages),
        seconds=fmean(call.seconds for call in watched),
        unwatched_seconds=fmean(unwatched_s),
        timed_seconds=timed_seconds,
        watched_calls=len(watched),
        batch_size=batch_size,
    )


def _count_calls(timed_seconds: float, most_calls: int) -> int:
    """Return how many calls are watched: as many as take SECONDS, but for the least."""
    least = 1 if timed_seconds > LONG_CALL_SECONDS else LEAST_CALLS
    return min(most_calls, max(least, math.ceil(SECONDS / timed_seconds)))


def _mean(name: StageName, calls: Sequence[WatchedCall]) -> StageTime:
    seconds = fmean(call.stage_seconds.get(name, 0.0) for call in calls)
    each = [call.call_seconds.get(name, []) for call in calls]
    # The same requests run the same networks; where a pipeline does not, there is no mean of its third call.
    alike = len({len(one) for one in each}) == 1
    call_seconds = tuple(map(fmean, zip(*each, strict=True))) if alike else ()
    return StageTime(name, seconds, round(fmean(map(len, each))), call_seconds)


@dataclass(frozen=True)
class Moment:
    """When a stage was entered or left, and in which call of which stage the work was from then on.

    stage, call: None between two networks. call: counted for each stage from 0.
    """

    mark: Mark
    stage: StageName | None = None
    call: int | None = None


class Timeline:
    """Watches one call, and gives each of its moments to one stage.

    What lies between two networks of a stage belongs to that stage; what comes before the first network or after the
    last one, to that network's stage (reading the prompt; converting pixels). All else is the backbone's: its loop
    begins where the prompt is encoded and ends where the decoder starts. A network that runs inside another stage's
    takes its time out of that stage, and out of that one call.

    On a GPU the moments are events in its stream, also those inside a CUDA graph: the host waits before the first
    and after the last one alone. So a pipeline that calls its backbone once a step has the device's time of each step's
    network in `call_seconds`; the scheduler, guidance and whatever else lies between two steps is in the stage's
    seconds, from the end of the text encoder to the start of the decoder.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Forget what was seen: a call begins now, with an idle device."""
        self._open: list[tuple[StageName, int]] = []
        self.calls: dict[StageName, int] = {}
        self._clock.synchronize()
        self._moments = [Moment(self._clock.mark())]

    def stop(self) -> None:
        """The call is over, once the device has done its work."""
        assert not self._open, "every stage that was entered is left again"
        self._moments.append(Moment(self._clock.mark()))
        self._clock.synchronize()

    def enter(self, stage: StageName, event: Mark | None = None) -> None:
        """Note that a network of this stage begins. Inside the same stage it is a part of the outer call."""
        outer = next((call for name, call in self._open if name == stage), None)
        if outer is None:
            outer = self.calls.get(stage, 0)
            self.calls[stage] = outer + 1
        self._open.append((stage, outer))
        self._note(event)

    def leave(self, stage: StageName, event: Mark | None = None) -> None:
        """Note that it ends."""
        left, _ = self._open.pop()
        assert left == stage, "stages are nested"
        self._note(event)

    def _note(self, event: Mark | None) -> None:
        assert event is None or all(event is not moment.mark for moment in self._moments), (
            "a call launches a graph once: its next launch would record the same events again"
        )
        mark = self._clock.mark() if event is None else event
        stage, call = self._open[-1] if self._open else (None, None)
        self._moments.append(Moment(mark, stage, call))

    def read(self) -> WatchedCall:
        """Return the seconds of the call that was stopped. Those of its stages add up to those from start to stop."""
        stage_seconds: dict[StageName, float] = {}
        call_seconds: dict[StageName, list[float]] = {name: [0.0] * count for name, count in self.calls.items()}
        whole = 0.0
        for place, (moment, following) in enumerate(pairwise(self._moments)):
            seconds = self._clock.seconds_between(moment.mark, following.mark)
            whole += seconds
            stage = moment.stage or self._owner(place)
            if stage is not None:
                stage_seconds[stage] = stage_seconds.get(stage, 0.0) + seconds
            if moment.stage is not None and moment.call is not None:
                call_seconds[moment.stage][moment.call] += seconds
        return WatchedCall(whole, stage_seconds, call_seconds)

    def _owner(self, place: int) -> StageName | None:
        """Return whose time it is from the moment at this place, at which the call is in no network."""
        before = next((moment.stage for moment in reversed(self._moments[:place]) if moment.stage), None)
        after = next((moment.stage for moment in self._moments[place:] if moment.stage), None)
        if before is None or after is None:
            return before or after
        return before if before == after else "backbone"
