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
from scripts.measuring.batch_sweep import PANELS, Point, row_of, write_plot

POINT = Point("VAR-d16", "compiled", "bfloat16", 4, 10, 0.02, 0.001, 200.0, 1_500_000_000, 2_100_000_000, 3.25, {})
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
    assert "no energy: no GPU" in told
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
    assert batch_sweep.main(["--models", "var", "--weights", "tiny", "--device", "cpu", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["failed"] == {"VAR-d16": "OutOfMemoryError: CUDA out of memory"}
    assert "VAR-d16: no larger batch size: OutOfMemoryError: CUDA out of memory" in capsys.readouterr().out


@pytest.mark.parametrize("sizes", ["", "0", "a,b", "1,,2", "1,-2"])
def test_batch_sizes_that_are_none_are_refused(sizes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        batch_sweep.main(["--batch-sizes", sizes])
    assert "expected numbers from 1 on, with commas" in capsys.readouterr().err
