"""Figures of scaling follow from the records of runs: windows, rates, seconds by phase, and hours for more images."""

from __future__ import annotations

import json
import math
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.ranks.division import LEAST_SHARED_SECONDS, SECONDS_ALONE
from benchmark.run.journal_lines import Batch
from benchmark.run.recorded import recorded_lines
from scripts.measuring import measure_costs, measure_scaling
from scripts.measuring.measure_scaling import Launcher, limit_of, ratios, together_within
from scripts.measuring.run_records import (
    ColumnSeconds,
    RunSeconds,
    columns_of,
    extrapolate,
    rate_of,
    read_seconds,
    with_shares,
)


def calls(ends_s: list[float], seconds: float = 1.0, size: int = 4) -> list[Batch]:
    """Calls of one rank that end at these moments."""
    return [
        Batch(tuple(range(size)), seconds, ("a robot",) * size, batch_size=size, purpose="bulk", ended_at_s=end_s)
        for end_s in ends_s
    ]


def test_the_window_is_while_all_ranks_make_images_and_an_edge_cuts_a_call() -> None:
    first, second = calls([1, 2, 3, 4, 5]), calls([2.5, 3.5, 4.5])
    assert together_within([first, second]) == (2.0, 0.5 * 4 + 4 + 0.5 * 4 + 2 * 4)
    assert together_within([first]) == (4.0, 16.0)
    assert together_within([calls([1, 2]), calls([8, 9])])[0] == 0.0


def test_the_rate_of_a_rank_is_from_the_end_of_its_first_call_to_that_of_its_last() -> None:
    assert rate_of(calls([5, 1, 3])) == 2.0
    assert rate_of(calls([1])) is None


def test_ratios_are_against_the_run_on_one_gpu_and_wall_times_are_of_the_same_images() -> None:
    row = {
        "1 ranks": {"asked_images": 100, "wall_s": 60.0, "alone_images_per_s": 4.0, "together_images_per_s": 4.0},
        "4 ranks": {
            "asked_images": 1300, "wall_s": 120.0, "alone_images_per_s": 3.9, "together_images_per_s": 15.6,
        },
    }  # fmt: skip
    assert ratios(row, 4) == {
        "ratio_in_the_same_run": 15.6 / 3.9, "ratio": 15.6 / 4, "wall_of_one_for_the_same_images_s": 360.0,
        "ratio_of_wall_times": 3.0,
    }  # fmt: skip
    assert ratios({"4 ranks": row["4 ranks"]}, 4) == {"ratio_in_the_same_run": 15.6 / 3.9}
    assert ratios({"4 ranks": row["4 ranks"] | {"together_images_per_s": None}}, 4) == {}


RUN = RunSeconds(500.0, (ColumnSeconds("A", 40, 30, 20, 200, 375, 25), ColumnSeconds("B", 10, 10, 0, 75, 375, 25)))


def test_hours_of_more_images_on_one_gpu_are_those_of_its_phases() -> None:
    seconds = extrapolate(RUN, 10_000, 1, features_per_s=500.0, decoded_per_s=1000.0)
    assert seconds == {
        "loading and compiling": 50, "rounds": 40, "passes": 20, "bulk": pytest.approx(9975 * 275 / 375),
        "features": 3 * 10_000 / 500, "looking for copies": 2 * 10_000 / 1000, "rest": RUN.rest_s,
    }  # fmt: skip
    assert RUN.rest_s == 500 - 290 - 95
    same = extrapolate(RUN, 400, 1)
    assert sum(same.values()) == pytest.approx(RUN.wall_s), "the run itself"


def test_several_gpus_share_bulk_and_the_look_for_copies_and_the_last_images_are_one_gpus() -> None:
    one, four = extrapolate(RUN, 10_000, 1), extrapolate(RUN, 10_000, 4, efficiency=0.95)
    assert four["bulk"] == pytest.approx(one["bulk"] / (4 * 0.95) + 2 * SECONDS_ALONE * 3 / 4)
    assert {name: value for name, value in four.items() if name != "bulk"} == {
        name: value for name, value in one.items() if name != "bulk"
    }
    assert extrapolate(RUN, 10_000, 4, decoded_per_s=1000.0)["looking for copies"] == 2 * 10_000 / 4000
    short = replace(RUN, columns=(replace(RUN.columns[0], bulk_s=1.0),))
    assert extrapolate(short, 10_000, 4)["bulk"] == pytest.approx(9975 / 375 / 4)
    assert LEAST_SHARED_SECONDS > 9975 / 375 / 4, "too short for images of one GPU alone"


def test_a_run_without_images_in_bulk_tells_nothing_of_more_images() -> None:
    column = replace(RUN.columns[0], bulk_s=0.0, bulk_images=0)
    with pytest.raises(ValueError, match="A has no images in bulk: give a run with a larger NUM_SAMPLES"):
        extrapolate(replace(RUN, columns=(column,)), 10_000, 4)


def test_shares_of_phases_are_those_of_the_whole() -> None:
    found = with_shares({"bulk": 5400.0, "rest": 1800.0})
    assert found == {
        "hours": 2.0,
        "phases": {"bulk": {"seconds": 5400.0, "share": 0.75}, "rest": {"seconds": 1800.0, "share": 0.25}},
    }


@pytest.mark.parametrize(
    ("features", "decoding", "extracting", "limit"),
    [
        (1500, 2000, 1000, "decoding"),  # four networks take 4,000 a second
        (1500, 2000, 450, "the network"),
        (1100, 2000, 1000, "something else"),
        (1201, 2000, 1000, "decoding"),
    ],
)
def test_what_limits_features_is_what_alone_is_slower(
    features: float, decoding: float, extracting: float, limit: str
) -> None:
    told = {"features_per_s": features, "decode_per_s": decoding, "extract_per_s": extracting}
    assert limit_of(told, gpus=4) == limit


def test_what_an_image_costs_is_measured_at_a_small_size(tmp_path: Path) -> None:
    output = tmp_path / "costs.json"
    assert measure_costs.main(["--tiny", "--what", "png,journal,gather,copies", "--output", str(output)]) == 0
    found = json.loads(output.read_text())
    assert found["png"]["64"]["pack"]["cpu_ms"] > 0
    assert found["copies"]["comparing them"]["cpu_ms"] > 0
    assert found["gather"]["bytes_per_image"] == pytest.approx(2048 * 4, rel=0.01)
    # A line of one image repeats what a line of many says once.
    assert math.inf > found["journal"]["bytes_per_image"]["1"] > found["journal"]["bytes_per_image"]["64"] > 2 * 64


def test_a_folder_without_columns_has_no_lines(tmp_path: Path) -> None:
    assert columns_of(tmp_path) == []
    assert recorded_lines(tmp_path) == []
    with pytest.raises(OSError, match=r"results\.json"):
        read_seconds(tmp_path)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--parts", "bulk,latencies"], "no part 'latencies'; there are bulk, features, latency, hours"),
        (["--parts", "hours"], "--parts hours needs --run, the OUTPUT_DIR of a run on one GPU"),
        (["--parts", "hours", "--run", ".", "--features-per-second", "1=400"], "needs the rates of 1, 2 and 4 GPUs"),
        (["--images-per-second", "sdxl"], "sdxl: expected NAME=NUMBER,NAME=NUMBER"),
    ],
)
def test_flags_that_cannot_be_used_are_refused(flags: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        measure_scaling.main(flags)
    assert refused.value.code == 2
    assert told in capsys.readouterr().err


def test_a_program_gets_the_first_gpus_and_is_asked_to_stop_when_the_time_of_its_part_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    launcher = Launcher(gpus=2, on_cpu=False, part_s=0.2)
    program = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['X'])"
    told = launcher.run(tmp_path / "new" / "1.log", ["-c", program], 1, X=2)
    assert (told.status, told.stopped, told.told) == (0, False, ())
    assert (tmp_path / "new" / "1.log").read_text() == "3 2\n"
    launcher.begin_part()
    late = launcher.run(tmp_path / "2.log", ["-c", "import time; time.sleep(60)"], 1)
    assert late.stopped
    assert late.status == -signal.SIGTERM
    assert late.wall_s < 30


def test_a_program_that_fails_leaves_its_own_line(tmp_path: Path) -> None:
    lines = "print('noise'); print('run_inference.py: no such model'); print('more noise'); raise SystemExit(2)"
    ran = Launcher(gpus=1, on_cpu=True, part_s=60).run(tmp_path / "x.log", ["-c", lines], 1)
    assert (ran.status, ran.told) == (2, ("run_inference.py: no such model",))
