"""The simulation of slow cards gives each card the means that it drew, and counts the card that takes longer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.report.cards import compare_cards
from scripts.measuring.simulate_slow_cards import column_of, count_slow, main


def test_a_column_has_the_means_of_each_card() -> None:
    means_KR = np.array([[1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]])
    cards = compare_cards(column_of(means_KR))
    assert [(card.uuid, card.seconds) for card in cards] == [
        ("GPU-0", pytest.approx(1)), ("GPU-1", pytest.approx(2)), ("GPU-2", pytest.approx(4)),
    ]  # fmt: skip


def test_the_card_that_takes_longer_is_counted_apart_from_the_others() -> None:
    random = np.random.default_rng(0)
    assert count_slow("normal", 0.001, 6, 0.05, 4, 10, random) == {"last": 1.0, "others": 0.0}
    assert count_slow("normal", 0.001, 6, 0.0, 4, 10, random) == {"last": 0.0, "others": 0.0}


def test_the_figures_have_a_share_for_each_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tiny", "--output", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(found["cases"]) == len(capsys.readouterr().out.splitlines()) == 16
    assert {len(case["shares"]) for case in found["cases"]} == {5}
    with pytest.raises(ValueError, match="--cards 1"):
        main(["--cards", "1", "--output", str(tmp_path / "out.json")])
