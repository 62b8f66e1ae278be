"""The memory of a model on several GPUs: the table has the sum, and the footer each card's peak."""

from __future__ import annotations

from costs_cases import with_findings
from report_cases import SDXL, VAR, with_rounds

from benchmark.measure.findings import Findings, Memory
from benchmark.report.cell_reasons import LONGEST_SHORT_REASON, shorten_reason
from benchmark.report.cost_notes import list_cost_notes
from benchmark.report.typed_json import from_json, to_json

SPREAD = Memory(34_600_000_000, 36_000_000_000, "call", False, {"cuda:0": 24_100_000_000, "cuda:1": 10_500_000_000})
WHOLE = Memory(5_000_000_000, 6_000_000_000, "call", False)


def test_the_footer_says_how_much_is_on_each_card() -> None:
    spread = with_findings(with_rounds(VAR, 1.0, 1.0, 1.0), [Findings(memory=SPREAD)] * 3)
    whole = with_findings(with_rounds(SDXL, 1.0, 1.0, 1.0), [Findings(memory=WHOLE)] * 3)
    assert list_cost_notes([spread, whole]) == [
        "VAR-d16: peak memory of a call: 24.1 GB on cuda:0, 10.5 GB on cuda:1; the table has the sum of each card's "
        "peak"
    ]


def test_peaks_by_card_are_read_back_and_a_record_without_them_is_of_one_card() -> None:
    assert from_json(Memory, to_json(SPREAD), "memory") == SPREAD
    earlier = to_json(WHOLE)
    del earlier["card_peaks_bytes"]
    assert from_json(Memory, earlier, "memory") == WHOLE


def test_the_cell_of_energy_says_several_gpus() -> None:
    assert shorten_reason("components on several GPUs") == "several GPUs"
    assert len("several GPUs") <= LONGEST_SHORT_REASON
