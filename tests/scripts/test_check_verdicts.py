"""The check of verdicts: its bars, what it compares, the wait that it plants, and a run of it at a small size."""

from __future__ import annotations

import json
import pickle
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmark.measure.clock import Clock
from models.base import Request
from scripts.measuring.check_verdicts import Comparison as Compared
from scripts.measuring.check_verdicts import least_found, main, most_false, pairs_of, summarize_outcomes
from scripts.measuring.planted import Slowed, load_slowed

REQUESTS = [Request(0, "a robot", 42)]


class Slow:
    """A model whose call takes 20 ms."""

    name, image_size, parameters, notes, class_conditional = "Slow", 8, 1, ("a note",), True
    devices = ()

    def generate(self, requests: list[Request]) -> torch.Tensor:
        time.sleep(0.02)
        return torch.zeros(len(requests), 3, 8, 8, dtype=torch.uint8)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def load_slow() -> Any:
    return Slow()


def test_the_bars_are_those_that_a_rule_of_4_percent_false_winners_and_97_percent_power_hardly_misses() -> None:
    assert [most_false(runs) for runs in (20, 8, 4)] == [3, 2, 1]
    assert [least_found(runs) for runs in (10, 8)] == [9, 7]


@pytest.mark.parametrize(
    ("columns", "pairs"),
    [
        ("A,B", [("A", "B")]),
        ("A,B,P", [("A", "B"), ("A", "P")]),
        ("A,B,C,D,P,P2", [("A", "B"), ("C", "D"), ("A", "P"), ("A", "P2")]),
        ("A", []),
    ],
)
def test_equal_columns_are_compared_two_by_two_and_planted_ones_with_the_first(
    columns: str, pairs: list[tuple[str, str]]
) -> None:
    assert pairs_of(columns.split(",")) == pairs


def test_a_planted_wait_is_a_share_of_the_calls_own_time() -> None:
    load = pickle.loads(pickle.dumps(partial(load_slowed, load_slow, "cpu", 0.5)))  # as it is sent to a worker
    slowed = load()
    assert isinstance(slowed, Slowed)
    assert (slowed.name, slowed.image_size, slowed.notes, slowed.class_conditional) == ("Slow", 8, ("a note",), True)
    start = time.perf_counter()
    images_BCHW = slowed.generate(REQUESTS)
    seconds = time.perf_counter() - start
    assert images_BCHW.shape == (1, 3, 8, 8)
    assert seconds >= 1.5 * 0.02


def compared(planted: bool, outcome: str, winner: str = "") -> Compared:
    columns = ("A", "P") if planted else ("A", "B")
    return Compared("var", 1, columns, planted, outcome, winner, 1.0, (0.9, 1.1), "", ((), ()), 1.0, 0.5)


def test_only_a_win_of_the_column_that_does_not_wait_counts_as_found() -> None:
    found = [compared(True, "WIN", "VAR A"), compared(True, "WIN", "VAR P"), compared(True, "UNDECIDED")]
    equal = [compared(False, "TIE"), compared(False, "WIN", "VAR B")]
    aa, planted = summarize_outcomes([*found, *equal])
    assert (aa["runs"], aa["winners"], aa["outcomes"]) == (2, 1, {"TIE": 1, "WIN": 1})
    assert (planted["runs"], planted["found"], planted["met"]) == (3, 1, False)


def test_equal_and_slowed_columns_share_the_rounds_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "verdicts.json"
    # Of three calls of a column, one that other programs hold up leaves nothing to be decided.
    monkeypatch.setattr(Clock, "now", lambda *_, **__: time.process_time())
    flags = ["--tiny", "--models", "var", "--columns", "A,B,P", "--slowdown", "4", "--warmup", "0", "--timed", "1"]
    assert main([*flags, "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    equal, planted = report["comparisons"]
    assert (equal["columns"], equal["planted"]) == (["A", "B"], False)
    assert (planted["columns"], planted["planted"]) == (["A", "P"], True)
    assert equal["round_means_s"][0] == planted["round_means_s"][0], "of the same calls"
    assert len(equal["round_means_s"][0]) == 3
    assert planted["outcome"] == "WIN", "five times as long"
    assert planted["winner"].endswith(" A")
    assert {"A/A", "planted"} == {line["what"] for line in report["summary"]}
