"""The spread of processes: what it is, and that the script measures it both ways."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest

from benchmark.run.journal_lines import Timed
from scripts.measuring import measure_spread
from scripts.measuring.spreading import Spread, spread_of


def test_calls_of_one_round_are_of_one_process_and_count_per_image() -> None:
    calls = [
        Timed((2, 3), 4.0, ("", ""), batch_size=2, round=2, process="0" * 8),
        Timed((0, 1), 2.0, ("", ""), batch_size=2, round=1, process="1" * 8),
        Timed((2, 3), 6.0, ("", ""), batch_size=2, round=1, process="1" * 8),
    ]
    assert spread_of(calls).latencies_s == ((1.0, 3.0), (2.0,))


def test_the_spread_is_that_of_means_beside_what_the_calls_alone_would_give() -> None:
    spread = Spread(((1.0, 3.0), (2.0, 4.0), (3.0, 5.0)))
    assert spread.means_s == [2.0, 3.0, 4.0]
    assert spread.between == pytest.approx(statistics.stdev([2.0, 3.0, 4.0]) / 3.0)
    assert spread.expected == pytest.approx((2.0 / 2) ** 0.5 / 3.0)  # each process has variance 2 and two calls
    assert spread.figures()["largest_over_smallest"] == 2.0


def test_processes_that_do_not_differ_spread_as_their_calls_say() -> None:
    assert Spread(((1.0, 3.0), (3.0, 1.0))).between == 0.0


def test_the_script_times_the_same_requests_in_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "spread.json"
    assert measure_spread.main(["--tiny", "--output", str(output)]) == 0
    (column,) = json.loads(output.read_text())["columns"]
    for way in ("one_server", "own_servers"):
        assert [len(process) for process in column[way]["latencies_s"]] == [3, 3]
    assert "VAR-d16, eager, 2 processes: one server" in capsys.readouterr().out


def test_a_spread_of_one_process_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure_spread.main(["--repeats", "1"])
    assert "expected 2 or more" in capsys.readouterr().err
