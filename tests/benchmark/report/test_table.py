"""The table is exactly the promised one, and winners are computed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from costs_cases import energy, large_run, with_findings
from report_cases import PIXART, SDXL, VAR, column, report, timed_round, with_rounds, with_scores

from benchmark.measure.findings import Findings
from benchmark.report.results import Bulk
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
Median Inference Time (s)           3.45                 1.89                

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


def test_the_table_has_what_was_measured_beside_the_seven_rows() -> None:
    many = replace(VAR, rounds=tuple(timed_round(at, 1.0, 1.0, 1.0, 2.0, 5.0) for at in range(4)))
    bulk = replace(SDXL, mode="compiled", bulk=Bulk((64,), 100, 8.0, 12.5), peak_memory_bytes=8_000_000_000)
    lines = format_report(report(many, bulk)).splitlines()
    start = next(place for place, line in enumerate(lines) if line.startswith("FID"))
    assert [line.split("  ")[0] for line in lines[start:start + 6]] == [
        "FID Score (lower = better)", "Median Inference Time (s)", "p95 Inference Time (s)", "Images in bulk/s",
        "Peak Device Memory (GB)", "Compile + First Call (s)",
    ]  # fmt: skip
    assert lines[start + 1].split()[-2:] == ["1.00", "3.45"]
    assert lines[start + 2].split()[-2:] == ["5.00", "n/a"], "8 batches have no 95th percentile"
    assert lines[start + 3].split()[-2:] == ["n/a", "12.50"]


@pytest.mark.parametrize(("batches", "expected"), [(19, None), (20, 19.05), (101, 96.0)])
def test_the_95th_percentile_is_that_of_numpy_from_20_batches_on(batches: int, expected: float | None) -> None:
    model = replace(VAR, rounds=(timed_round(0, *map(float, range(batches, 0, -1))),))
    assert model.p95_latency_s == (None if expected is None else pytest.approx(expected))
    if expected is not None:
        assert model.p95_latency_s == pytest.approx(np.percentile(model.latencies_s, 95))


def test_std_min_and_max_are_over_the_batches_of_all_rounds() -> None:
    model = with_rounds(VAR, 1.0, 2.0, 3.0, spread=0.5)
    assert sorted(model.latencies_s) == [0.5, 1.0, 1.5, 1.5, 3.0, 4.5]
    lines = format_report(report(model)).splitlines()
    assert "Std Inference Time (s)              1.48                " in lines
    assert "Min Inference Time (s)              0.50                " in lines
    assert "Max Inference Time (s)              4.50                " in lines


def test_the_footer_says_what_is_partial_and_how_to_go_on() -> None:
    begun = replace(VAR.rounds[2], images=1, complete=False)
    lines = format_report(
        report(replace(SDXL, images=1), replace(VAR, rounds=(*VAR.rounds[:2], begun)), interrupted=True)
    ).splitlines()
    assert "SDXL: 1 of 2 images" in lines
    assert "VAR-d16: 2 of 4 rounds complete; round 3: 1 of 2 images" in lines
    assert not any(line.startswith("SDXL: ") and "rounds" in line for line in lines)
    assert lines[-1] == "Interrupted; partial results. Run the same command to resume."


def test_the_footer_gives_rounds_timed_images_and_the_spread_between_rounds() -> None:
    lines = format_report(report(with_rounds(SDXL, 1.0, 1.02, 0.98), with_rounds(VAR, 2.0, 2.0, 2.0), rounds=3))
    assert "\nRounds: 3, each in a fresh process, 2 timed images\n" in lines
    assert "\nSpread between rounds (standard deviation of round means): SDXL 2.0 %, VAR-d16 0.00 %\n" in lines
    single = format_report(
        report(with_rounds(SDXL, 1.0), replace(VAR, rounds=VAR.rounds[:1], timed_images=5), rounds=1)
    )
    assert "\nRounds: 1, in a fresh process, 2 (SDXL), 5 (VAR-d16) timed images\n" in single
    assert "Spread" not in single
    assert "later rounds" not in single


def test_a_round_that_is_not_complete_has_no_part_in_the_spread() -> None:
    model = with_rounds(VAR, 1.0, 1.02, 9.0)
    begun = replace(model, rounds=(*model.rounds[:2], replace(model.rounds[2], complete=False)))
    assert begun.round_spread == pytest.approx(0.02 / 2**0.5 / 1.01)


def test_images_of_later_rounds_that_are_others_stand_out_in_the_footer() -> None:
    other = replace(VAR, rounds=(*VAR.rounds[:2], replace(VAR.rounds[2], equal=0), replace(VAR.rounds[3], equal=1)))
    text = format_report(report(SDXL, other))
    assert "\nImages of later rounds equal to those that were kept, in each column: 6 of 6 (SDXL)\n" in text
    assert (
        "\nVAR-d16: 3 of 6 images of later rounds differ from those that were kept, if only in rounding (rounds 3, 4)"
        in text
    )
    equal = format_report(report(SDXL, VAR))
    assert "\nImages of later rounds equal to those that were kept, in each column: 6 of 6\n" in equal
    assert "WARNING" not in equal


def test_the_footer_gives_the_batch_sizes_of_bulk_beside_that_of_the_timed_images() -> None:
    one, other = (replace(model, bulk=Bulk((64,), 10, 1.0, 10.0)) for model in (SDXL, VAR))
    assert "\nBulk: images beyond the timed ones at batch size 64; the timed ones at batch size 1\n" in format_report(
        report(one, other)
    )
    halved = replace(other, bulk=Bulk((64, 32), 10, 1.0, 10.0))
    assert "at batch size 64 (SDXL), 64, then 32 (VAR-d16); the timed ones at batch size 1\n" in format_report(
        report(one, halved)
    )
    assert "Bulk" not in format_report(report(SDXL, VAR))


def test_a_warm_up_that_did_not_settle_is_named_with_its_rounds() -> None:
    restless = replace(VAR, rounds=tuple(replace(it, warmup_agreed=it.number % 2 == 0) for it in VAR.rounds))
    lines = format_report(report(SDXL, restless)).splitlines()
    assert [line for line in lines if "settle" in line] == [
        "VAR-d16: the warm-up calls did not settle on one time in rounds 2, 4 of 4"
    ]


def test_a_csv_cell_without_a_value_is_empty(tmp_path: Path) -> None:
    write_csv(report(replace(VAR, rounds=(timed_round(0, 1.5),)), SDXL), tmp_path / "results.csv")
    (_, single, _) = (tmp_path / "results.csv").read_text().splitlines()
    assert single.split(",")[6:10] == ["1.5", "", "1.5", "1.5"], "one batch has no spread"


def test_energy_has_two_rows_behind_all_others() -> None:
    lines = format_report(large_run()).splitlines()
    at = next(place for place, line in enumerate(lines) if line.startswith("Compile + First Call"))
    assert lines[at + 1].split() == ["Energy", "(J/image)", "3.10", "1,560", "512", "702"]
    assert lines[at + 2].split() == ["Images", "per", "kWh", "1,160,000", "2,310", "7,030", "5,130"]
    assert not lines[at + 3]


def test_where_energy_cannot_be_measured_the_rows_say_why_and_where_it_was_not_asked_for_there_are_none() -> None:
    reason = "other processes on the card: python3 (4711)"
    models = [
        with_findings(with_rounds(model, 1.0, 1.0, 1.0), [found] * 3) for model, found in (
            (SDXL, Findings(unmeasured={"energy": "no GPU"})), (VAR, Findings(energy=energy(2.0))),
            (PIXART, Findings(unmeasured={"energy": reason})),
        )
    ]  # fmt: skip
    text = format_report(report(*models, rounds=3))
    assert f"\n{'Energy (J/image)':<35} {'n/a (no GPU)':<20} {'2.00':<20} {'n/a (shared card)':<20}\n" in text
    assert f"\n{'Images per kWh':<35} {'n/a (no GPU)':<20} {'1,800,000':<20} {'n/a (shared card)':<20}\n" in text
    assert f"Not measured for PixArt: energy ({reason})" in text.splitlines()
    assert "Energy" not in format_report(report(SDXL, VAR))


def test_csv_has_energy_and_images_per_kwh_as_plain_numbers(tmp_path: Path) -> None:
    run = large_run()
    write_csv(replace(run, models=(run.models[0], SDXL)), tmp_path / "results.csv")
    head, first, other = (line.split(",") for line in (tmp_path / "results.csv").read_text().splitlines())
    at = head.index("energy_j_per_image")
    assert head[at + 1] == "images_per_kwh"
    assert [float(cell) for cell in first[at : at + 2]] == pytest.approx([3.1, 3.6e6 / 3.1])
    assert other[at : at + 2] == ["", ""]
