"""Says how often the rule of the verdicts on speed names a winner among equals, and how many rounds find a slowdown.

    python -m scripts.measuring.simulate_verdicts --output docs/measurements/verdict-simulation.json

A run has four columns: two are equally fast, and two are slower. Processes differ by a spread and in a shape that are
given. The columns are looked at after 4 rounds and again after 8. Every winner is a false one, at either look. How much
slower the others are, what else disturbs the machine, and the places of the two equal columns are those of the worst
case, which is then repeated with fresh numbers. The rule is that of `benchmark.report.latency_ratios`, for many runs at
once.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri, ndtr

from benchmark.report.latency_ratios import (
    FIRST_CONFIDENCE,
    LEAST_ROUNDS,
    TIE_CONFIDENCE,
    TIE_RATIO,
    confidence_at,
    student_t,
)
from benchmark.run.rounds import in_order
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]
WIN, TIE, UNDECIDED = 0, 1, 2
COLUMNS = 4
LOOKS = (4, 8)
GAPS = (0.0, 0.01, 0.03, 0.1, 0.5, 9.0)
SPREADS = (0.003, 0.01, 0.05, 0.15)
PLACES = ((0, 1), (0, 2), (0, 3), (1, 2))
# What a machine does besides: nothing; it grows slower all the time; its speed wanders from process to process by as
# much as processes differ; whoever is the first in a round is slower.
STILL, DRIFT, WANDER = "nothing else", "drift of 20 % over the run", "the machine wanders"
DISTURBANCES = (STILL, DRIFT, WANDER)
SLOW_FIRST = "the first in a round is 5 % slower"
POWER = 0.97
SLOWDOWNS = (0.2, 0.03, 0.05, 0.1, 0.5)
FALSE_WINNERS_BAR = 0.05
# Seconds per image of VAR-d16 in five processes on an H200, and the standard error of such a mean.
MEASURED = {
    "measured, eager": ((0.162, 0.129, 0.131, 0.115, 0.135), 0.026),
    "measured, compiled": ((9.25, 9.15, 9.09, 9.14, 9.19), 0.006),
}


def decide_all(logs_NCR: Array, confidence: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the outcomes and the best columns of many runs: `decide` of a run's columns, on speed.

    logs_NCR: log of the mean latency of each round, for runs and columns.
    """
    rounds = logs_NCR.shape[2]
    ranks_NC = logs_NCR.mean(axis=2).argsort(axis=1, kind="stable")
    ranked_NCR = np.take_along_axis(logs_NCR, ranks_NC[:, :, None], axis=1)
    ratios_NCR = ranked_NCR[:, 1:] - ranked_NCR[:, :1]
    means_NC, spreads_NC = ratios_NCR.mean(axis=2), ratios_NCR.std(axis=2, ddof=1)
    errors_NC = spreads_NC / math.sqrt(rounds)
    tied_NC = means_NC + student_t(TIE_CONFIDENCE, rounds - 1) * errors_NC <= math.log(TIE_RATIO)
    beaten_NC = ~tied_NC & (means_NC > student_t(confidence, rounds - 1) * errors_NC)
    closest_N = (~beaten_NC).argmax(axis=1)  # of those that are not beaten
    tied_N = np.take_along_axis(tied_NC, closest_N[:, None], axis=1)[:, 0]
    outcomes_N = np.where(beaten_NC.all(axis=1), WIN, np.where(tied_N, TIE, UNDECIDED))
    return outcomes_N.astype(np.int64), ranks_NC[:, 0]


def share_of_winners(logs_NCR: Array, looks: Sequence[int], confidences: Sequence[float]) -> list[float]:
    """Return, after each look, in what share of the runs it or an earlier one has named a winner."""
    named_N = np.zeros(len(logs_NCR), dtype=bool)
    shares = []
    for rounds, confidence in zip(looks, confidences, strict=True):
        named_N |= decide_all(logs_NCR[:, :, :rounds], confidence)[0] == WIN
        shares.append(float(named_N.mean()))
    return shares


def draw_normal(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_normal(shape)


def draw_heavy_tails(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_t(3, shape) / math.sqrt(3)


def draw_two_states(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Three of ten processes are slow, all by the same."""
    return (random.random(shape) < 0.3) / math.sqrt(0.21) + 0.1 * random.standard_normal(shape)


def draw_even_states(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Every other process is slow, all by the same."""
    return 2.0 * (random.random(shape) < 0.5) + 0.1 * random.standard_normal(shape)


def draw_skewed(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return random.standard_exponential(shape)


# Shapes of how processes differ, of standard deviation 1 (two of 1.005).
SHAPES: dict[str, Draw] = {
    "normal": draw_normal,
    "heavy tails (t, 3 degrees)": draw_heavy_tails,
    "two states, 30 % slow": draw_two_states,
    "two states, 50 % slow": draw_even_states,
    "skewed (exponential)": draw_skewed,
}


def measured_spread(name: str) -> tuple[float, Draw]:
    """Return the spread of a mean drawn from the measured ones, with its standard error, and the draw of its shape."""
    means, error = MEASURED[name]
    logs = np.log(np.array(means))
    spread = math.hypot(float(logs.std()), error)

    def draw(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
        return (random.choice(logs, shape) + error * random.standard_normal(shape)) / spread

    return spread, draw


def slots_of(columns: int, rounds: int) -> NDArray[np.int64]:
    """Return when each column runs in each round of a benchmark, `slots_CR`."""
    slots_CR = np.zeros((columns, rounds), dtype=np.int64)
    for number in range(rounds):
        slots_CR[in_order(range(columns), number), number] = number * columns + np.arange(columns)
    return slots_CR


def disturb(kind: str, random: np.random.Generator, slots_CR: NDArray[np.int64], runs: int, spread: float) -> Array:
    """Return what a machine adds to the logs, `disturbance_NCR`, by when each process ran; N is 1 where it is fixed."""
    if kind == DRIFT:
        return (0.2 * slots_CR / slots_CR.size)[None]
    if kind == SLOW_FIRST:
        return np.where(slots_CR % len(slots_CR) == 0, 0.05, 0.0)[None]
    if kind == WANDER:
        return spread * random.standard_normal((runs, slots_CR.size)).cumsum(axis=1)[:, slots_CR]
    assert kind == STILL
    return np.zeros((1, *slots_CR.shape))


def false_winners(
    draw: Draw, spread: float, gap: float, disturbance: str, places: tuple[int, int], runs: int,
    random: np.random.Generator, looks: Sequence[int] = LOOKS,
) -> list[float]:  # fmt: skip
    """Return in what share of the runs a winner was named, after each look.

    draw: logs of how processes differ, times `spread`. gap: how much slower all but the two columns at `places` are.
    """
    slots_CR = slots_of(COLUMNS, looks[-1])
    logs_NCR = spread * draw(random, (runs, *slots_CR.shape))
    logs_NCR = logs_NCR + disturb(disturbance, random, slots_CR, runs, spread)
    slower_C = np.array([0.0 if place in places else math.log1p(gap) for place in range(COLUMNS)])
    confidences = [confidence_at(look) for look in range(1, len(looks) + 1)]
    return share_of_winners(logs_NCR + slower_C[:, None], looks, confidences)


def worst_case(draw: Draw, spread: float, runs: int, random: np.random.Generator) -> dict[str, Any]:
    """Return the case with the most false winners, and their share in as many fresh runs, times ten."""
    cases = list(itertools.product(GAPS, DISTURBANCES, PLACES))
    searched = [false_winners(draw, spread, *case, runs, random)[-1] for case in cases]
    gap, disturbance, places = cases[searched.index(max(searched))]
    repeated = [false_winners(draw, spread, gap, disturbance, places, runs, random) for _ in range(10)]
    first, either = (float(np.mean([shares[look] for shares in repeated])) for look in (0, -1))
    return {
        "gap": gap, "disturbance": disturbance, "places": places, "searched": max(searched), "first_look": first,
        "either_look": either,
    }  # fmt: skip


def stop_at_first_win(
    looks: Sequence[int], confidences: Sequence[float], columns: int, runs: int, random: np.random.Generator
) -> float:
    """Return in what share of runs of equal columns a winner was named, where each look is at these levels."""
    logs_NCR = 0.05 * random.standard_normal((runs, columns, looks[-1]))
    return share_of_winners(logs_NCR, looks, confidences)[-1]


def hit_by_turns(runs: int, random: np.random.Generator) -> float:
    """Return the share of false winners where chance slows one of two equal columns in every round, by the same."""
    hit_NR = random.random((runs, LOOKS[-1])) < 0.5
    logs_NCR = 0.2 * np.stack([hit_NR, ~hit_NR], axis=1) + 0.001 * random.standard_normal((runs, 2, LOOKS[-1]))
    return share_of_winners(logs_NCR, LOOKS, [confidence_at(1), confidence_at(2)])[-1]


def win_probability(rounds: int, spread: float, slowdown: float, confidence: float = FIRST_CONFIDENCE) -> float:
    """Return how likely the faster of two columns wins after so many rounds.

    spread: standard deviation of a process's mean latency, relative; normal. slowdown: 0.03 for 3 %.
    """
    degrees = rounds - 1
    true, error = math.log1p(slowdown), spread * math.sqrt(2 / rounds)
    # The measured spread is independent of the measured mean: the mean's chance at equally likely measured spreads.
    errors = error * _measured_spreads(degrees)
    no_tie = math.log(TIE_RATIO) - student_t(TIE_CONFIDENCE, degrees) * errors
    least = np.maximum(student_t(confidence, degrees) * errors, no_tie)
    return float(ndtr((true - least) / error).mean())


@functools.cache
def _measured_spreads(degrees: int, points: int = 2000) -> Array:
    """Return equally likely measured spreads of normal values whose spread is 1, the largest first."""
    tails = (np.arange(points) + 0.5) / points
    return np.asarray(np.sqrt(chdtri(degrees, tails) / degrees))


def rounds_for_power(spread: float, slowdown: float, power: float = POWER, most: int = 1000) -> int | None:
    """Return the fewest rounds that name the faster of two columns with this probability at the first look.

    spread: standard deviation of a process's mean latency, relative. slowdown: 0.2 for 20 %. None: more than `most`.
    """
    assert spread > 0
    return next(
        (rounds for rounds in range(LEAST_ROUNDS, most + 1) if win_probability(rounds, spread, slowdown) >= power), None
    )


def _worst_cases(spreads: Sequence[float], runs: int, random: np.random.Generator) -> Iterator[dict[str, Any]]:
    for name, draw in SHAPES.items():
        for spread in spreads:
            yield {"processes": name, "spread": spread, **worst_case(draw, spread, runs, random)}
    for name in MEASURED:
        spread, draw = measured_spread(name)
        yield {"processes": name, "spread": spread, **worst_case(draw, spread, runs, random)}


def main(given: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--runs", type=int, default=10_000, help="of each case [%(default)s]")
    parser.add_argument(
        "--spreads", type=lambda text: tuple(map(float, text.split(","))), default=SPREADS,
        help="standard deviations between processes, relative, comma-separated [0.003,0.01,0.05,0.15]",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args(given)
    runs, spreads = arguments.runs, arguments.spreads
    if runs < 1 or not all(spread > 0 for spread in spreads):
        raise ValueError(f"--runs {runs} --spreads {spreads}: expected 1 run or more, and spreads above 0")
    if arguments.tiny:
        runs, spreads = min(runs, 200), spreads[:1]
    random = np.random.default_rng(arguments.seed)
    about = describe_run(__file__)
    figures: dict[str, Any] = {"runs": runs, "looks": LOOKS, "bar": FALSE_WINNERS_BAR, "worst_cases": []}
    for case in _worst_cases(spreads, runs, random):
        figures["worst_cases"].append(case)
        print(
            f"{case['processes']}, spread {100 * case['spread']:.1f} %: false winners {100 * case['first_look']:.2f} % "
            f"at the first look, {100 * case['either_look']:.2f} % at either; others {100 * case['gap']:.0f} % slower, "
            f"{case['disturbance']}, equal columns at {case['places']}",
            flush=True,
        )
        write_report(arguments.output, about, figures)
    figures["slow_first"] = [
        {
            "processes": "normal", "spread": spread, "looks": looks,
            "share": max(
                false_winners(draw_normal, spread, GAPS[-1], SLOW_FIRST, places, runs, random, looks)[-1]
                for places in PLACES
            ),
        }
        for spread in spreads
        for looks in (LOOKS, (16,))
    ]  # fmt: skip
    figures["hit_by_turns"] = hit_by_turns(runs, random)
    looks = (3, 6, 9, 12)
    figures["stop_at_first_win"] = [
        {
            "looks": looks, "columns": columns, "confidences": confidences,
            "share": stop_at_first_win(looks, confidences, columns, runs, random),
        }
        for columns in (2, 4)
        for confidences in ((0.95, 0.95, 0.95, 0.95), (0.96, 0.99, 0.99, 0.99))
    ]  # fmt: skip
    figures["rounds_for_power"] = [
        {"slowdown": slowdown, "spread": spread, "power": POWER, "rounds": rounds_for_power(spread, slowdown)}
        for slowdown in (SLOWDOWNS[:1] if arguments.tiny else SLOWDOWNS)
        for spread in (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.15)
    ]
    for name in ("slow_first", "hit_by_turns", "stop_at_first_win"):
        print(f"{name}: {figures[name]}")
    for row in figures["rounds_for_power"]:
        print(f"slowdown {row['slowdown']:.0%}, spread {row['spread']:.1%}: ROUNDS={row['rounds']}")
    write_report(arguments.output, about, figures)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
