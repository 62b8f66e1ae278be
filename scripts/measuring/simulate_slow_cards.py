"""Says how often one of equal cards is called slow, and how often a card that takes longer is.

    python -m scripts.measuring.simulate_slow_cards --output docs/measurements/slow-cards-simulation.json

The means of a card's rounds vary by a spread around its true one, in each of several shapes. The rule is that of
`benchmark.report.cards`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmark.measure.findings import MachineState
from benchmark.report.cards import SLOW_RATIO, compare_cards
from benchmark.report.model_result import Card, CardRound, ModelResult, Round
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.simulate_verdicts import SHAPES, Array

SHAPE_NAMES = ("normal", "heavy tails (t, 3 degrees)", "two states, 30 % slow", "skewed (exponential)")
SPREADS, ROUNDS = (0.005, 0.01), (3, 6)
LONGER = (0.0, 0.01, 0.02, 0.03, 0.05)


def column_of(means_KR: Array) -> ModelResult:
    """Return a column with these mean latencies of each card's rounds, the first card's its own."""
    rounds = [
        Round(
            number, (f"{number:08x}",), (float(mean),), images=1, complete=True, equal=0, compared=0, load_s=1.0,
            first_call_s=1.0, warmup_s=1.0, warmup_agreed=True, states=(MachineState(0.0, card_uuid="GPU-0"),),
        )
        for number, mean in enumerate(means_KR[0])
    ]  # fmt: skip
    cards = [
        Card(f"GPU-{place}", tuple(CardRound(number, (float(mean),), True) for number, mean in enumerate(means_R)))
        for place, means_R in enumerate(means_KR[1:], start=1)
    ]
    return ModelResult(
        name="VAR-d16", mode="compiled", parameters=1, image_size=256, batch_size=1, images=1, timed_images=1,
        rounds=tuple(rounds), peak_memory_bytes=None, notes=(), folder="", cards=tuple(cards),
    )  # fmt: skip


def count_slow(
    shape: str, spread: float, rounds: int, longer: float, cards: int, runs: int, random: np.random.Generator
) -> dict[str, float]:
    """Return in which share of runs the last card, which takes so much longer, was called slow, and any other was."""
    logs_NKR = spread * SHAPES[shape](random, (runs, cards, rounds))
    logs_NKR[:, -1] += np.log1p(longer)
    last = others = 0
    for logs_KR in logs_NKR:
        slow = {card.uuid for card in compare_cards(column_of(np.exp(logs_KR))) if card.is_slow}
        last += f"GPU-{cards - 1}" in slow
        others += bool(slow - {f"GPU-{cards - 1}"})
    return {"last": last / runs, "others": others / runs}


def main(given: Sequence[str] | None = None) -> int:
    """Simulate, print and write."""
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--runs", type=int, default=2000, help="of each case [%(default)s]")
    parser.add_argument("--cards", type=int, default=4, help="of the host [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    arguments = parser.parse_args(given)
    if arguments.runs < 1 or arguments.cards < 2:
        raise ValueError(f"--runs {arguments.runs} --cards {arguments.cards}: expected at least 1 run of 2 cards")
    runs = min(arguments.runs, 20) if arguments.tiny else arguments.runs
    random, about = np.random.default_rng(arguments.seed), describe_run(__file__)
    figures: dict[str, Any] = {"runs": runs, "cards": arguments.cards, "slow_ratio": SLOW_RATIO, "cases": []}
    for shape in SHAPE_NAMES:
        for spread in SPREADS:
            for rounds in ROUNDS:
                shares = [
                    {"longer": longer, **count_slow(shape, spread, rounds, longer, arguments.cards, runs, random)}
                    for longer in LONGER
                ]
                figures["cases"].append({"shape": shape, "spread": spread, "rounds": rounds, "shares": shares})
                shown = ", ".join(f"{each['longer']:.0%}: {each['last']:.1%}" for each in shares)
                others = max(each["others"] for each in shares)
                print(f"{shape}, spread {spread:.1%}, {rounds} rounds: {shown}; another card: {others:.1%}", flush=True)
                write_report(arguments.output, about, figures)
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
