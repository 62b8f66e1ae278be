"""A verdict as data: what was asked, what was found, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Question = Literal["speed", "quality", "efficiency"]
Outcome = Literal["WIN", "TIE", "UNDECIDED"]
# What decided: the better figure, the only column, the only one with a score, equal values, an interval that lies near
# no difference, an interval that holds no difference but is wide, an interval of a difference of scores that holds 0,
# a warning on the images, too few images for an interval, scores of different kinds, FID alone of too few images, no
# score at all, fewer rounds than can decide, rounds that are missing, columns that were timed in different runs, rounds
# that another process on the card has disturbed.
Rule = Literal[
    "better figure", "only model", "only score", "same value", "tie", "undecided", "within noise", "warning",
    "too few images", "not comparable", "biased", "no score", "too few rounds", "incomplete rounds",
    "other runs", "disturbed rounds",
]  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two columns and one question; the first one has the better figure.

    value: how many times better the first column's figure is (speed, efficiency), or the first column's score minus the
    second's (quality).
    interval: its 95 % interval, None where it is not known. A TIE is decided by this one.
    win_interval: its interval at `confidence`, by which a WIN is decided.
    look: 1 where no verdict on other rounds was formed before of either column; 0 where rounds are not what counts, and
    where there are too few that one run of the program timed for both.
    rounds: how many rounds both have in common, each timed by the same run and without another process on the card; 0
    where rounds are not what counts.
    """

    first: str
    second: str
    outcome: Outcome
    value: float
    interval: tuple[float, float] | None = None
    win_interval: tuple[float, float] | None = None
    confidence: float = 0.95
    look: int = 0
    rounds: int = 0


@dataclass(frozen=True)
class Verdict:
    """The answer to one question within one group of columns; `format_verdict` prints it.

    group: the mode and the dtype of the columns, of those that the run has several of: "compiled, bfloat16", or "".
    rule: what decided.
    ranked: the columns that were compared, the best first. winner: the first of them where the outcome is WIN, else "".
    runner_up: the second of them where the outcome is WIN, else the closest that the first does not beat, or "".
    metric: key of the figure that was compared, "throughput_per_s", "efficiency", "fid" or "kid"; "" where none was.
    short: a score's name in the line, "FID". better: which of its values are better.
    ratio: how many times better the first column's figure is than the runner-up's. difference: the first column's
    score - the runner-up's. interval, win_interval, confidence, look: as those two columns' `Pair` has them.
    decimals: with how many the difference is shown.
    pairs: every two columns that were compared.
    rounds: how many were asked for; 0 where rounds are not what counts. `Pair.rounds` is how many decided.
    rounds_needed: how many rounds would decide, at the measured mean and spread, or would time both columns in the same
    run; None where it is decided, and where more than `MOST_ROUNDS` would be needed.
    disturbed: rounds of a compared column were left out, since another process had the card in use.
    left_out: columns that were not compared, since they lack rounds, or, of quality, since they failed.
    reason: why there is no score, or which column lacks rounds. biased: what the line adds where FID could not decide.
    """

    question: Question
    group: str
    outcome: Outcome
    rule: Rule
    winner: str = ""
    runner_up: str = ""
    ranked: tuple[str, ...] = ()
    metric: str = ""
    short: str = ""
    better: Literal["lower", "higher"] = "higher"
    ratio: float | None = None
    difference: float | None = None
    interval: tuple[float, float] | None = None
    win_interval: tuple[float, float] | None = None
    confidence: float | None = None
    look: int = 0
    decimals: int = 1
    pairs: tuple[Pair, ...] = ()
    rounds: int = 0
    rounds_needed: int | None = None
    disturbed: bool = False
    left_out: tuple[str, ...] = ()
    reason: str = ""
    biased: str = ""
