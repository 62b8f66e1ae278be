"""The table is exactly the promised one, and winners are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from report_cases import PIXART, SDXL, VAR, column, report, with_scores

from benchmark.report.table import format_report
from benchmark.report.table_csv import write_csv

PROMISED = """\
COMPREHENSIVE BENCHMARK RESULTS
================================================================================
Metric                              SDXL                 VAR-d16             
--------------------------------------------------------------------------------
Model Size (M params)               2600.0               310.0               
Avg Inference Time (s)              3.45                 1.89                
Std Inference Time (s)              0.23                 0.15                
Min Inference Time (s)              3.22                 1.74                
Max Inference Time (s)              3.68                 2.04                
Throughput (images/sec)             0.29                 0.53                
FID Score (lower = better)          15.2                 12.8                

PERFORMANCE ANALYSIS:
----------------------------------------
Speed Winner: VAR-d16 (1.8x faster)
Quality Winner: VAR-d16 (FID lower by 2.4)
Efficiency Winner: VAR-d16 (15.3x more efficient)
"""  # noqa: W291  # the promised form pads the last column


def test_two_columns_print_the_promised_table() -> None:
    assert format_report(report(SDXL, VAR)).startswith(PROMISED)


def test_the_rules_grow_with_the_columns() -> None:
    lines = format_report(report(SDXL, VAR, PIXART, replace(PIXART, name="Other"))).splitlines()
    assert len(lines[1]) == len(lines[2]) == 35 + 4 * 21


def test_random_weights_have_no_quality_figure_and_no_quality_winner() -> None:
    models = [replace(model, scores=(), unscored={"fid": "random weights"}) for model in (SDXL, VAR)]
    text = format_report(report(*models, no_quality="random weights"))
    assert "FID Score (lower = better)          n/a (random weights) n/a (random weights)" in text
    assert "Quality Winner: n/a (random weights)" in text


def test_degenerate_images_and_shared_reasons_stand_in_the_footer() -> None:
    reasons = {"cmmd": "no CLIP", "clipscore": "no CLIP"}
    models = [replace(SDXL, unscored=reasons, warnings=("3 of 3 images are of one colour (00000)",)),
              replace(VAR, unscored=reasons | {"psnr": "asked for a class"})]  # fmt: skip
    lines = format_report(report(*models)).splitlines()
    assert "SDXL: WARNING: 3 of 3 images are of one colour (00000)" in lines
    assert "No cmmd, clipscore: no CLIP" in lines
    assert "No psnr for VAR-d16: asked for a class" in lines
    assert any(line.startswith("CMMD (lower = better)") and line.count("n/a") == 2 for line in lines)


def test_a_column_with_a_lora_is_compared_with_its_baseline_in_pairs() -> None:
    base = with_scores(PIXART, 64, 0.0321)
    (frechet, kernel) = with_scores(PIXART, 64, 0.0300).scores
    frechet = replace(frechet, value=18.5)
    adapted = replace(base, name="PixArt+LoRA", scores=(frechet, kernel), baseline="PixArt")
    lines = format_report(report(base, adapted)).splitlines()
    # The same replicates but for the shift: what both share leaves no spread at all.
    assert "PixArt+LoRA against PixArt, paired: FID -1.5, KID -0.0021 (95 %: -0.0021..-0.0021)" in lines
    for other in (replace(kernel, identity="else"), replace(kernel, n_generated=63)):
        text = format_report(report(base, replace(adapted, scores=(other,))))
        assert "paired" not in text
    assert "paired" not in format_report(report(SDXL, adapted)), "its baseline failed"


def test_a_failed_model_is_named_with_its_reason() -> None:
    text = format_report(report(VAR, failures={"SDXL": "OutOfMemoryError: 80 GB"}))
    assert "SDXL: failed: OutOfMemoryError: 80 GB" in text
    assert "Speed Winner: VAR-d16 (the only model)" in text


def test_a_run_without_results_prints_its_reasons() -> None:
    assert "SDXL: failed: no weights" in format_report(report(failures={"SDXL": "no weights"}))


def test_small_times_keep_digits_that_tell_models_apart() -> None:
    text = format_report(report(column("A", 0.0091, 0.0002, 1, None), column("B", 0.0088, 0.0002, 1, None)))
    assert "0.0091" in text
    assert "0.0088" in text


def test_csv_has_a_line_for_each_model(tmp_path: Path) -> None:
    write_csv(report(SDXL, VAR), tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(",fid")
    assert lines[2].startswith("VAR-d16,eager,310000000")


def test_the_reason_that_there_are_no_references_is_in_the_cells_as_a_whole() -> None:
    reasons = {"fid": "no reference images", "kid": "no reference images", "psnr": "captions do not fix an image"}
    models = [replace(model, scores=(), unscored=reasons) for model in (SDXL, VAR)]
    lines = format_report(report(*models)).splitlines()
    cell = "n/a (no reference images)"
    assert f"{'FID Score (lower = better)':<35} {cell} {cell}" in lines
    assert f"{'PSNR dB (higher = better)':<35} {'n/a':<25} {'n/a':<25}" in lines
    assert len({len(line) for line in lines[4:13]}) == 1, "all rows are as wide"
    assert "Quality Winner: n/a (no reference images)" in lines
    assert "No fid, kid: no reference images" in lines


def test_the_footer_says_what_is_partial_and_how_to_go_on() -> None:
    lines = format_report(
        report(replace(SDXL, images=2, left_out_batches=1), replace(VAR, left_out_batches=2), interrupted=True)
    ).splitlines()
    assert "SDXL: 2 of 3 images" in lines
    assert "SDXL: 1 batch not in the times (first call, or another size)" in lines
    assert "VAR-d16: 2 batches not in the times (first call, or another size)" in lines
    assert lines[-1] == "Interrupted; partial results. Run the same command to resume."


def test_a_csv_cell_without_a_value_is_empty(tmp_path: Path) -> None:
    write_csv(report(replace(VAR, latencies_s=(1.5,)), SDXL), tmp_path / "results.csv")
    (_, single, _) = (tmp_path / "results.csv").read_text().splitlines()
    assert single.split(",")[6:10] == ["1.5", "", "1.5", "1.5"], "one batch has no spread"
