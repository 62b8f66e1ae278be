"""Columns that several ranks made and that were timed on several cards, for the tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from report_cases import PIXART, SDXL, VAR, timed_round

from benchmark.measure.findings import MachineState
from benchmark.report.host_throughput import Counted, HostThroughput
from benchmark.report.model_result import Card, CardRound, ModelResult

OWN = "GPU-11111111-2222-3333-4444-555555555555"
SECOND, THIRD, FOURTH = (OWN.replace("11111111", digit * 8) for digit in "abc")
NOISE = (1.0, 1.002, 0.999, 1.001, 0.998, 1.0)  # of rounds
HOST = HostThroughput(
    "0a0a0a0a", "gpu-7", 4, "GPU", together=Counted(1000.5, 80.25), alone=Counted(64.0, 20.0)
)  # 12.47 and 3.20 images/s
SHORT = replace(HOST, together=None, no_together="4 GPUs made images together for 12 s, and 60 s are needed")
NOT_ALONE = replace(HOST, alone=None, no_alone="alone, it made 1 full calls")
MADE_BY = {"gpu-7": {"0": 300, "rank1": 300, "rank2": 200, "rank3": 200}}


def on_cards(
    model: ModelResult, means_s: dict[str, float], noise: Sequence[float] = NOISE, own: str = OWN
) -> ModelResult:
    """Return the model with rounds of these means on its own card and, likewise, on others.

    Each card has the same noise from another round on.
    """
    state = MachineState(1.0, card_uuid=own)
    rounds = [timed_round(at, means_s[own] * factor, states=(state,)) for at, factor in enumerate(noise)]
    cards = []
    for shift, (uuid, mean_s) in enumerate(means_s.items()):
        if uuid != own:
            turned = [*noise[shift:], *noise[:shift]]
            cards.append(Card(uuid, tuple(CardRound(at, (mean_s * it,), True) for at, it in enumerate(turned))))
    return replace(model, rounds=tuple(rounds), cards=tuple(cards))


EQUAL = on_cards(VAR, {OWN: 0.00910, SECOND: 0.00910, THIRD: 0.00912, FOURTH: 0.00909})
SLOW = on_cards(PIXART, {OWN: 0.200, SECOND: 0.201, THIRD: 0.216, FOURTH: 0.200})
BY_FOUR = replace(VAR, host_throughput=HOST, made_by=MADE_BY)
TOO_SHORT = replace(SDXL, host_throughput=SHORT, made_by=MADE_BY)
