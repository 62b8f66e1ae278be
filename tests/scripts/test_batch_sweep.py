"""A sweep over batch sizes: figures of each size from a process of its own, and a plot of what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmark.run.servers import WorkerFailed
from scripts.measuring import batch_sweep
from scripts.measuring.batch_sweep import PANELS, Point, reasons_of, row_of, write_plot

POINT = Point("VAR-d16", "compiled", "bfloat16", 4, 10, 0.02, 0.001, 200.0, 1_500_000_000, 2_100_000_000, 3.25, {})
ON_CPU = ["--models", "var", "--weights", "tiny", "--device", "cpu"]
ABOUT = {"device": "a GPU", "date": "2026-11-27"}


def test_the_script_measures_each_size_in_a_process_of_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "sweep.json"
    assert batch_sweep.main(["--tiny", "--output", str(output)]) == 0
    points = json.loads(output.read_text())["points"]
    assert [point["batch_size"] for point in points] == [1, 2]
    assert all(point["calls"] == 2 and point["images_per_s"] > 0 for point in points)
    assert all(point["images_per_s"] == pytest.approx(point["batch_size"] / point["call_s"]) for point in points)
    assert all(point["joules_per_image"] is None for point in points)
    told = capsys.readouterr().out
    assert told.index("no memory (VAR-d16): no GPU") < told.index("no energy (VAR-d16): no GPU")
    with Image.open(tmp_path / "sweep.png") as plot:
        assert plot.width < 1200, "two panels: nothing was measured of memory and energy"


def test_a_row_has_units_and_says_where_there_is_no_figure() -> None:
    assert row_of(POINT) == ("VAR-d16", "4", "0.02", "0.005", "200", "1.5", "2.1", "3.25")
    assert row_of(replace(POINT, peak_tensor_bytes=None, joules_per_image=None))[-3:] == ("n/a", "2.1", "n/a")


def test_the_plot_has_a_panel_for_each_figure_that_some_column_has(tmp_path: Path) -> None:
    write_plot([POINT, replace(POINT, batch_size=8, joules_per_image=None)], ABOUT, tmp_path / "all.png")
    without = replace(POINT, joules_per_image=None, peak_tensor_bytes=None)
    write_plot([without], ABOUT, tmp_path / "two.png")
    with Image.open(tmp_path / "all.png") as full, Image.open(tmp_path / "two.png") as two:
        assert full.width == pytest.approx(two.width * len(PANELS) / 2, abs=4)


def test_a_size_that_fails_ends_its_column_and_keeps_the_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep(*_: object) -> Iterator[Point]:
        yield POINT
        raise WorkerFailed("OutOfMemoryError: CUDA out of memory")

    monkeypatch.setattr(batch_sweep, "sweep", sweep)
    output = tmp_path / "sweep.json"
    assert batch_sweep.main([*ON_CPU, "--output", str(output)]) == 0
    assert json.loads(output.read_text())["failed"] == {"VAR-d16": "OutOfMemoryError: CUDA out of memory"}
    assert "VAR-d16: no larger batch size: OutOfMemoryError: CUDA out of memory" in capsys.readouterr().out


def test_reasons_are_in_the_order_of_the_passes_and_name_their_columns() -> None:
    points = [
        replace(POINT, reasons={"energy": "shared", "memory": "no GPU"}), replace(POINT, batch_size=8, reasons={}),
        replace(POINT, column="SDXL", reasons={"memory": "no GPU", "energy": "a MIG slice"}),
    ]  # fmt: skip
    assert reasons_of(points) == [
        "no memory (VAR-d16, SDXL): no GPU", "no energy (VAR-d16): shared", "no energy (SDXL): a MIG slice",
    ]  # fmt: skip


def test_a_first_size_that_fails_is_no_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep(*_: object) -> Iterator[Point]:
        raise WorkerFailed("it cannot be loaded")
        yield POINT

    monkeypatch.setattr(batch_sweep, "sweep", sweep)
    assert batch_sweep.main([*ON_CPU, "--output", str(tmp_path / "sweep.json")]) == 1
    assert "VAR-d16: no batch size: it cannot be loaded" in capsys.readouterr().out


def test_a_column_without_time_for_any_size_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "sweep.json"
    assert batch_sweep.main([*ON_CPU, "--seconds", "1e-9", "--output", str(output)]) == 1
    assert json.loads(output.read_text())["failed"] == {"VAR-d16": "no time for any batch size"}
    assert "VAR-d16: no time for any batch size" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--output", "sweep.png"], "--output sweep.png: the plot goes there"),
        (["--seconds", "0"], "0: expected seconds above 0"),
        (["--seconds", "-1"], "-1: expected seconds above 0"),
        (["--seconds", "nan"], "nan: expected seconds above 0"),
        (["--calls", "0"], "--calls 0: expected 1 or more"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_measured(
    flags: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        batch_sweep.main(flags)
    assert refused.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("sizes", ["", "0", "a,b", "1,,2", "1,-2"])
def test_batch_sizes_that_are_none_are_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        batch_sweep.main(["--batch-sizes", sizes])
    assert "expected numbers from 1 on, with commas" in capsys.readouterr().err
