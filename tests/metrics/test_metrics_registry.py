"""The registry: its names, that it imports nothing heavy, and that a metric is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import metrics
from metrics.base import Comparison, ImageSet, Score, Scoring

ROOT = Path(__file__).parents[2]


def test_reading_the_names_imports_no_heavy_library() -> None:
    heavy = ["torch", "numpy", "PIL", "torchvision", "torch_fidelity", "torchmetrics"]
    code = f"import sys, metrics; print(*metrics.METRICS); print([m for m in {heavy} if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split("\n")[:2] == [" ".join(metrics.METRICS), "[]"]


@pytest.mark.parametrize("name", list(metrics.METRICS))
def test_each_name_constructs_the_metric_of_that_key(name: str, tmp_path: Path) -> None:
    assert metrics.METRICS[name](Scoring("cpu", tmp_path, tmp_path)).key == name


def test_a_metric_is_one_file_and_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "brightness_metric.py").write_text(
        "from metrics.base import Score\n"
        "class Count:\n"
        "    key = 'count'\n"
        "    def __init__(self, scoring): pass\n"
        "    def score(self, comparison):\n"
        "        n = len(comparison.generated)\n"
        "        return [Score('count', 'Count', 'Count', n, 'higher', n, 0, 'counted')]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(metrics.METRICS, "count", metrics.Constructor("brightness_metric", "Count"))
    images = ImageSet("x", (tmp_path / "a.png",))
    (score,) = metrics.METRICS["count"](Scoring("cpu", tmp_path, tmp_path)).score(Comparison(images, images))
    assert isinstance(score, Score)
    assert score.value == 1
