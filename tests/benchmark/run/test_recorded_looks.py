"""Which columns a run records a look at: those whose speeds were compared, for a winner or for equal quality."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmark.console.progress import Progress
from benchmark.report.equal_quality import Alternative, EqualQuality, Judgement
from benchmark.report.results import RunResult
from benchmark.report.verdict import Pair
from benchmark.run.phases import record_looks


@dataclass
class Job:
    """A column whose journal notes the looks that are recorded."""

    title: str
    looks: list[int] = field(default_factory=list)

    @property
    def journal(self) -> Any:
        return self

    def record_look(self, rounds: int) -> None:
        self.looks.append(rounds)


def test_a_speed_that_was_compared_for_equal_quality_was_looked_at() -> None:
    speed = Pair("A (steps 8)", "A (steps 20)", "WIN", 2.4, look=1, confidence=0.96, rounds=4)
    alternative = Alternative("A (steps 8)", 0.0, Judgement("EQUAL"), speed)
    run = RunResult(
        (), {}, "robots", "", 8, 4, "a CPU", "float32", "tiny", {}, {}, "2026-01-01", "timed",
        equal_quality=(EqualQuality("A", "FOUND", alternatives=(alternative,)),),
    )  # fmt: skip
    jobs = [Job("A (steps 8)"), Job("A (steps 20)"), Job("A (steps 4)")]
    record_looks(run, jobs, Progress())  # type: ignore[arg-type]
    assert [job.looks for job in jobs] == [[4], [4], []]
