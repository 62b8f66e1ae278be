"""What is measured of bulk: that the script works, and how hours follow from seconds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.measuring import measure_bulk
from scripts.measuring.measure_bulk import Speed


def test_bulk_is_measured_and_its_images_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "bulk.json"
    assert measure_bulk.main(["--tiny", "--output", str(output)]) == 0
    report = json.loads(output.read_text())
    (speed,) = report["speeds"]
    assert speed["bulk"]["batch_size"] in (1, 2)
    assert speed["fixed"][0]["batch_size"] == 1
    assert speed["hours_for_10000"].keys() == {"before", "after"}
    in_float32, in_bfloat16 = report["differences"]
    assert (in_float32["dtype"], in_bfloat16["dtype"]) == ("float32", "bfloat16")
    assert in_float32["largest_of_255"] <= 1
    assert in_float32["scores"].keys() == {"1", "2"}
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(speed["fixed"]) + 2


def test_hours_are_those_of_one_process_and_of_rounds_with_bulk() -> None:
    speed = Speed(load_s=10.0, warm_s=2.0, alone_image_s=1.0, search_s=30.0, images=100, loop_s=20.0)
    hours = speed.hours()
    assert hours["before"] * 3600 == pytest.approx(10 + 2 + 10_000)
    assert hours["after"] * 3600 == pytest.approx(4 * (10 + 2 + 25) + 10 + 30 + 9_975 * 0.2)
