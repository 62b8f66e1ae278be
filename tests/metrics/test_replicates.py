"""Arithmetic of intervals that reports need: it is there without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROBE = """
import sys
import benchmark.report.results, benchmark.report.verdicts
from benchmark.report.numbers import paired_interval
from metrics.base import Score

one, other = (
    Score("kid", "KID", "KID", value, "lower", 9, 9, "x", replicates={"generated": (value,) * 6})
    for value in (2.0, 1.5)
)
assert paired_interval(one, other) == (0.5, 0.5)
assert "torch" not in sys.modules
"""


def test_results_verdicts_and_differences_of_scores_need_no_torch() -> None:
    subprocess.run([sys.executable, "-c", PROBE], check=True, cwd=ROOT)
