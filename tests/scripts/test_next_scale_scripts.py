"""The scripts that measure and check VAR and Infinity at full size, on small networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.measuring import check_next_scale, measure_next_scale


def run(script: object, *arguments: str) -> object:
    return script.main(["--tiny", "--device", "cpu", *arguments])  # type: ignore[attr-defined]


def test_both_paths_are_compared_on_the_same_codes(tmp_path: Path) -> None:
    out = tmp_path / "exactness.json"
    cases = ("--cases", "var-d16:2,infinity-0.06M:1", "--batches", "var-d16", "--output", str(out))
    assert run(check_next_scale, *cases) == 0
    report = json.loads(out.read_text())["results"]
    # On a CPU both are the plain path: it agrees with itself, and half precision is worse than float32.
    assert report["var-d16:2"]["float32_codes_compared"] == 2 * 30
    assert report["var-d16:2"]["bfloat16_error_ratio"] == 1
    assert report["infinity-0.06M:1"]["bfloat16_rms_error_eager"] > 1e-4
    assert report["var-d16 1 and 8"]["images_that_differ_eager"] == 0


def test_paths_that_differ_fail_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_next_scale, "ERROR_BAR", 0.5)
    out = tmp_path / "exactness.json"
    assert run(check_next_scale, "--cases", "var-d16:1", "--batches", "", "--output", str(out)) == 1
    assert json.loads(out.read_text())["results"]["var-d16:1"]["failures"] == ["bfloat16 error"]


def test_times_are_told_for_every_form(tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    run(measure_next_scale, "--cases", "var-d16:2", "--repeats", "3", "--output", str(out))
    figures = json.loads(out.read_text())["results"]["var-d16:2"]
    for form in measure_next_scale.FORMS:
        assert figures[form]["samples"] == 3
        assert 0 < figures[form]["min_ms"] <= figures[form]["median_ms"] <= figures[form]["max_ms"]


@pytest.mark.parametrize(
    ("kernel", "kind"),
    [
        ("attend_scale_kernel", "attention"),
        ("nvjet_sm90_tst_64x8_64x16_4x1_v_bz_bias_TNT", "matrix product"),
        ("residual_norm_kernel", "fused norm and residual"),
        ("moments_kernel", "group norm"),
        ("void at::native::elementwise_kernel<128, 4>", "other elementwise"),
    ],
)
def test_kernels_are_told_by_their_names(kernel: str, kind: str) -> None:
    assert measure_next_scale.kind_of(kernel) == kind
