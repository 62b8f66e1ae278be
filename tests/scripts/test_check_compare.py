"""The check of comparisons: its bars, the pairs that it makes, and a slowed run at a small size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from metrics.base import Score
from scripts.measuring.check_compare import Pair, call_compare, main, make_model, make_run, recorded_pairs, summarize
from scripts.measuring.spoiled_runs import SPOILED_BY, score_spoiled_runs


def pair(what: str, exit_status: int, arguments: str = "") -> Pair:
    return Pair(what, 1, arguments, exit_status, [], (), 1.0)


def line_of(what: str, statuses: list[int], arguments: str = "") -> dict[str, Any]:
    (line,) = summarize([pair(what, status, arguments) for status in statuses])
    return line


def test_the_bars_are_one_false_alarm_of_twenty_seven_slowdowns_of_eight_and_nine_spoiled_of_ten() -> None:
    assert line_of("equal", [0] * 19 + [1])["met"]
    assert not line_of("equal", [0] * 18 + [1, 1])["met"]
    assert line_of("slowed", [1] * 7 + [0])["met"]
    assert not line_of("slowed", [1] * 6 + [0, 0])["met"]
    assert line_of("blur, 1 px, kid", [1] * 9 + [0], "--worse kid=0")["met"]
    assert not line_of("blur, 1 px, kid", [1] * 8 + [0, 0], "--worse kid=0")["met"]
    assert not line_of("slowed", [2] * 8)["met"], "what cannot be compared is not found"


def test_with_the_default_margin_spoiled_images_are_told_without_a_bar() -> None:
    assert "met" not in line_of("blur, 1 px, kid", [0])


def test_recorded_runs_are_paired_with_the_run_that_follows() -> None:
    def run(number: int, planted: bool = False) -> dict[str, Any]:
        return {"planted": planted, "round_means_s": [[number + 0.1], [number + 0.2]]}

    record = {"comparisons": [run(1), run(9, planted=True), run(2), run(3)]}
    expected = [[[1.1], [2.1]], [[1.2], [2.2]], [[2.1], [3.1]], [[2.2], [3.2]]]
    assert recorded_pairs(record) == expected
    several = {"gpu": {"about": {"device": "NVIDIA"}}, "cpu": {"about": {"device": "CPU (x86_64)"}, **record}}
    assert recorded_pairs(several) == expected


def a_score(value: float) -> Score:
    replicates = {"generated": tuple(value + 1e-5 * place for place in range(20))}
    return Score("kid", "KID", "KID", value, "lower", 20, 20, "x", replicates=replicates, floor_interval=(0.0, 0.01))


def test_a_pair_is_what_the_program_itself_says_of_two_files(tmp_path: Path) -> None:
    runs = [
        make_run(make_model("A", means_s, [a_score(value)], 20), 3, 42, "CPU", "tiny")
        for means_s, value in (([1.0, 1.001, 0.999], 0.01), ([1.1, 1.101, 1.099], 0.01), ([1.0, 1.0, 1.001], 0.05))
    ]
    assert call_compare(runs[0], runs[0], tmp_path)[0] == 0
    status, told = call_compare(runs[0], runs[1], tmp_path)
    assert (status, [test["result"] for test in told["gate"]["tests"]]) == (1, ["FAILED", "PASSED"])
    status, told = call_compare(runs[0], runs[2], tmp_path)
    assert (status, [test["result"] for test in told["gate"]["tests"]]) == (1, ["PASSED", "FAILED"])
    assert call_compare(runs[0], runs[2], tmp_path, "--worse", "none")[0] == 0


def test_robots_are_spoiled_as_they_are_scored_and_each_run_has_others(tmp_path: Path) -> None:
    first, second = score_spoiled_runs(2, 12, 40, tmp_path, ("kid",))
    assert first.keys() == second.keys() == {"real", *SPOILED_BY}
    values = {name: first[name]["kid"].value for name in first}
    assert len(set(values.values())) == 3, "each way of spoiling shows"
    assert first["real"]["kid"].value != second["real"]["kid"].value
    assert first["real"]["kid"].n_generated == 12


def test_a_slowed_run_follows_a_plain_one_and_waits_in_its_calls(tmp_path: Path) -> None:
    output = tmp_path / "slowed.json"
    flags = ["--tiny", "--models", "var-d16", "--planted", "4", "--warmup", "0", "--timed", "1", "--runs", "1"]
    assert main(["slowed", *flags, "--output", str(output)]) == 0
    (made,) = json.loads(output.read_text())["pairs"]
    plain, slowed = made["round_means_s"]
    assert len(plain) == len(slowed) == 3
    assert min(slowed) > max(plain), "five times as long"
    assert made["exit_status"] in (1, 2), "2 where other work on the CPU leaves no round that counts"
