"""Where the seconds of a call go: text encoder, backbone and decoder, timed in a pass of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from benchmark.measure.clock import Clock
from models.base import ImageGenerator, Request, StageName


@dataclass(frozen=True)
class StageTime:
    """What one call of `generate` spent in a stage, and how often it entered the stage's networks."""

    name: StageName
    seconds: float
    calls: int


def time_stages(generator: ImageGenerator, requests: Sequence[Request], clock: Clock) -> list[StageTime]:
    """Return the times of one call's stages, in their order; empty where the model does not tell its stages apart.

    Another call goes before it, which is not timed: it compiles and captures what only a watched call needs. Every
    moment of the timed call is in one stage, so that the seconds add up to its latency (see `Timeline`).

    requests: as `prepare` returned them.
    """
    stages = generator.stages()
    if not stages:
        return []
    timeline = Timeline(clock)
    with generator.watched(timeline):
        for _ in range(2):
            timeline.start()
            generator.generate(requests)
            timeline.stop()
            generator.check()
    seconds, calls = timeline.seconds(), timeline.calls
    assert seconds.keys() <= {stage.name for stage in stages}, "a generator enters only stages that it names"
    return [StageTime(stage.name, seconds.get(stage.name, 0.0), calls[stage.name]) for stage in stages]


@dataclass(frozen=True)
class Moment:
    """When a stage was entered or left, and in which stage the call was from then on: None between two networks."""

    seconds: float
    stage: StageName | None


class Timeline:
    """Watches one call, and gives each of its moments to one stage.

    What lies between two networks of a stage belongs to that stage; what comes before the first network or after the
    last one, to that network's stage (reading the prompt; converting pixels). All else is the backbone's: its loop
    begins where the prompt is encoded and ends where the decoder starts. A network that runs inside of another stage's
    takes its time out of that stage.

    At the edges of text encoder and decoder the host waits for the device. At those of the backbone it does not: its
    loop runs ahead of the device, and would be slower if it had to wait at every step.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.start()

    def start(self) -> None:
        """Forget what was seen: a call begins now."""
        self._open: list[StageName] = []
        self.calls: Counter[StageName] = Counter()
        self._moments = [Moment(self._clock.now(), None)]

    def stop(self) -> None:
        """The call is over."""
        assert not self._open, "every stage that was entered is left again"
        self._moments.append(Moment(self._clock.now(), None))

    def enter(self, stage: StageName) -> None:
        """Note that a network of this stage begins. Inside of the same stage it is a part of the outer call."""
        self.calls[stage] += stage not in self._open
        self._open.append(stage)
        self._note(stage)

    def leave(self, stage: StageName) -> None:
        """Note that it ends."""
        left = self._open.pop()
        assert left == stage, "stages are nested"
        self._note(stage)

    def _note(self, stage: StageName) -> None:
        seconds = self._clock.now(wait=stage != "backbone")
        self._moments.append(Moment(seconds, self._open[-1] if self._open else None))

    def seconds(self) -> dict[StageName, float]:
        """Return the seconds of each stage that was entered; they add up to the time from `start` to `stop`."""
        total: dict[StageName, float] = {}
        for place, (moment, following) in enumerate(pairwise(self._moments)):
            stage = moment.stage or self._owner(place)
            if stage is not None:
                total[stage] = total.get(stage, 0.0) + following.seconds - moment.seconds
        return total

    def _owner(self, place: int) -> StageName | None:
        """Return whose time it is from the moment at this place, at which the call is in no network."""
        before = next((moment.stage for moment in reversed(self._moments[:place]) if moment.stage), None)
        after = next((moment.stage for moment in self._moments[place:] if moment.stage), None)
        if before is None or after is None:
            return before or after
        return before if before == after else "backbone"
