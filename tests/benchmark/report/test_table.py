"""The table is exactly the promised one, and winners are computed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.report.results import ModelResult, RunResult, write_csv, write_json
from benchmark.report.table import format_report
from benchmark.report.verdicts import name_winners
from metrics.base import Score

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


def fid(value: float) -> Score:
    return Score("fid", "FID Score (lower = better)", "FID", value, "lower", 6000, 6000, "inception")


def column(name: str, mean_s: float, std_s: float, parameters: float, fid_value: float | None) -> ModelResult:
    return ModelResult(
        name=name, mode="eager", parameters=int(parameters * 1e6), image_size=512, batch_size=1, images=3,
        latencies_s=(mean_s - std_s, mean_s, mean_s + std_s), left_out_batches=0, load_s=1.0, first_call_s=2.0,
        warmup_s=3.0, peak_memory_bytes=None, notes=(), folder="",
        scores=() if fid_value is None else (fid(fid_value),), unscored={},
    )  # fmt: skip


SDXL = column("SDXL", 3.45, 0.23, 2600, 15.2)
VAR = column("VAR-d16", 1.89, 0.15, 310, 12.8)
PIXART = column("PixArt", 2.10, 0.10, 610.9, 13.0)


def report(*models: ModelResult, **changes: object) -> RunResult:
    run = RunResult(
        models=models, failures={}, dataset="Gundam", dataset_note="", num_samples=3, device="a GPU", dtype="bfloat16",
        weights="pretrained", versions={"torch": "2"}, settings={}, started="2026-01-01", protocol="timed",
    )  # fmt: skip
    return replace(run, **changes)  # type: ignore[arg-type]


def test_two_columns_print_the_promised_table() -> None:
    assert format_report(report(SDXL, VAR)).startswith(PROMISED)


def test_a_winner_among_three_names_the_runner_up() -> None:
    lines = name_winners([SDXL, VAR, PIXART])
    assert lines[0] == "Speed Winner: VAR-d16 (1.1x faster than PixArt)"
    assert lines[1] == "Quality Winner: VAR-d16 (FID lower by 0.2 than PixArt)"


def test_the_rules_grow_with_the_columns() -> None:
    lines = format_report(report(SDXL, VAR, PIXART, replace(PIXART, name="Other"))).splitlines()
    assert len(lines[1]) == len(lines[2]) == 35 + 4 * 21


def test_efficiency_is_throughput_per_parameter() -> None:
    assert abs(VAR.efficiency - (1 / 1.89) / 310) < 1e-12


@pytest.mark.parametrize(
    ("value", "expected"),
    [(12.796, "PixArt (FID lower by 0.004 than VAR-d16)"), (12.8, "none (VAR-d16 and PixArt have the same FID)")],
)
def test_a_small_gap_is_told_with_its_digits_and_none_at_all_is_no_win(value: float, expected: str) -> None:
    close = column("PixArt", 2.10, 0.10, 610.9, value)
    assert name_winners([SDXL, VAR, close])[1] == f"Quality Winner: {expected}"


def test_random_weights_have_no_quality_figure_and_no_quality_winner() -> None:
    models = [replace(model, scores=(), unscored={"fid": "random weights"}) for model in (SDXL, VAR)]
    text = format_report(report(*models, no_quality="random weights"))
    assert "FID Score (lower = better)          n/a (random weights) n/a (random weights)" in text
    assert "Quality Winner: n/a (random weights)" in text


def test_scores_of_different_counts_have_no_winner() -> None:
    fewer = replace(VAR, scores=(replace(fid(1.0), n_generated=10),))
    assert name_winners([SDXL, fewer])[1].startswith("Quality Winner: none")


def with_scores(model: ModelResult, count: int, kid: float, spread: float = 0.001) -> ModelResult:
    """Return the model with an FID of so many images and a KID with replicates."""
    replicates = {"generated": tuple(kid + spread * (i % 5 - 2) for i in range(20))}
    kernel = Score(
        "kid", "KID Score (lower = better)", "KID", kid, "lower", count, 2000, "inception",
        interval=(kid - spread, kid + spread), replicates=replicates, decimals=4,
    )  # fmt: skip
    return replace(model, scores=(replace(fid(20.0), n_generated=count), kernel))


def test_few_images_are_judged_by_kid_and_the_line_says_so() -> None:
    lines = name_winners([with_scores(SDXL, 64, 0.0321), with_scores(VAR, 64, 0.0300)])
    assert lines[1] == "Quality Winner: VAR-d16 (KID lower by 0.0021; FID is biased at N=64)"


def test_a_difference_within_noise_wins_nothing() -> None:
    noisy = with_scores(SDXL, 64, 0.0012)
    (kernel,) = (score for score in with_scores(PIXART, 64, 0.0).scores if score.key == "kid")
    apart = replace(kernel, replicates={"generated": tuple(0.002 * (i % 3 - 1) for i in range(20))})
    lines = name_winners([noisy, replace(PIXART, scores=(replace(fid(20.0), n_generated=64), apart))])
    assert lines[1] == "Quality Winner: none (PixArt's KID lower by 0.0012, within noise; FID is biased at N=64)"


def test_fid_of_enough_images_decides_even_where_kid_is_there() -> None:
    models = [with_scores(SDXL, 2048, 0.1), with_scores(VAR, 2048, 0.2)]
    better = replace(models[1], scores=(replace(models[1].scores[0], value=18.0), models[1].scores[1]))
    assert name_winners([models[0], better])[1] == "Quality Winner: VAR-d16 (FID lower by 2.0)"


def test_biased_fid_alone_names_nobody() -> None:
    models = [replace(model, scores=(replace(fid(20.0), n_generated=64),)) for model in (SDXL, VAR)]
    assert name_winners(models)[1] == "Quality Winner: none (FID is biased at N=64; add kid to METRICS)"


def test_degenerate_images_and_shared_reasons_stand_in_the_footer() -> None:
    reasons = {"cmmd": "no CLIP", "clipscore": "no CLIP"}
    models = [replace(SDXL, unscored=reasons, warnings=("3 of 3 images are of one colour (00000)",)),
              replace(VAR, unscored=reasons | {"psnr": "asked for a class"})]  # fmt: skip
    lines = format_report(report(*models)).splitlines()
    assert "SDXL: WARNING: 3 of 3 images are of one colour (00000)" in lines
    assert "No cmmd, clipscore: no CLIP" in lines
    assert "No psnr for VAR-d16: asked for a class" in lines
    assert any(line.startswith("CMMD (lower = better)") and line.count("n/a") == 2 for line in lines)


def test_kid_of_too_few_images_names_nobody() -> None:
    models = []
    for model, value in ((SDXL, 0.3), (VAR, 0.1)):
        (kernel,) = (score for score in with_scores(model, 4, value).scores if score.key == "kid")
        models.append(replace(model, scores=(replace(kernel, replicates={}, interval=None),)))
    assert name_winners(models)[1] == "Quality Winner: none (VAR-d16's KID lower by 0.2000, of too few images to tell)"


def test_a_model_with_a_warning_wins_no_quality() -> None:
    models = [with_scores(SDXL, 64, 0.0321), replace(with_scores(VAR, 64, 0.0300), warnings=("copies",))]
    assert "none (VAR-d16 scores best, but it has a warning, see below" in name_winners(models)[1]


def test_a_lone_model_with_a_warning_wins_no_quality() -> None:
    model = replace(with_scores(VAR, 64, 0.0300), warnings=("trained on 3 of the 3 reference rows",))
    assert "none (VAR-d16 is the only model with a score, but it has a warning" in name_winners([model])[1]


def test_an_adapted_column_is_told_against_its_baseline_in_pairs() -> None:
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


def test_winners_are_named_within_one_mode() -> None:
    compiled = [replace(model, mode="compiled", name=f"{model.name} (compiled)") for model in (SDXL, VAR)]
    lines = name_winners([SDXL, VAR, *compiled])
    assert lines[0] == "Speed Winner [eager]: VAR-d16 (1.8x faster)"
    assert lines[3] == "Speed Winner [compiled]: VAR-d16 (compiled) (1.8x faster)"


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


def test_json_keeps_raw_latencies_and_has_a_schema_version(tmp_path: Path) -> None:
    single = replace(VAR, latencies_s=(1.5,))
    write_json(report(SDXL, single), tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["schema_version"] == 1
    assert content["models"][0]["latencies_s"] == list(SDXL.latencies_s)
    assert content["models"][1]["latency_s"]["std"] is None, "one batch has no spread, and JSON has no NaN"


def test_csv_has_a_line_for_each_model(tmp_path: Path) -> None:
    write_csv(report(SDXL, VAR), tmp_path / "results.csv")
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith(",fid")
    assert lines[2].startswith("VAR-d16,eager,310000000")
