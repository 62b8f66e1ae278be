"""report.html: verdicts behind their outcomes, every pair with its intervals, batches and rounds as marks."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from report_cases import PIXART, SDXL, VAR, report, with_rounds, with_scores

from benchmark.report.html.page import write_html_report
from benchmark.report.model_result import ModelResult
from benchmark.report.results import RunResult, read_results, write_results

FAST = with_rounds(VAR, 1.0, 1.002, 0.999)
LIKE_IT = with_rounds(replace(VAR, name="Like it"), 1.01, 1.012, 1.008)
UNSTEADY = with_rounds(PIXART, 1.5, 0.8, 1.7)
SLOW = with_rounds(SDXL, 3.0, 3.01, 2.99)


def page_of(run: RunResult, folder: Path) -> str:
    write_html_report(run, None, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def cells_of(page: str) -> list[list[str]]:
    """Return the texts of the cells of every row of every table."""
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[re.sub("<.*?>", "", cell) for cell in re.findall(r"<t[dh]>(.*?)</t[dh]>", row)] for row in rows]


@pytest.mark.parametrize(
    ("other", "outcome"),
    [(SLOW, "WIN"), (LIKE_IT, "TIE"), (UNSTEADY, "UNDECIDED")],
    ids=["slow", "like it", "unsteady"],
)
def test_a_verdict_stands_behind_its_outcome(tmp_path: Path, other: object, outcome: str) -> None:
    page = page_of(report(FAST, other, rounds=3), tmp_path)  # type: ignore[arg-type]
    assert f'<li><b class="outcome {outcome}">{outcome}</b> Speed Winner: ' in page


def test_every_pair_is_there_with_its_ratio_both_intervals_and_its_outcome(tmp_path: Path) -> None:
    run = report(FAST, LIKE_IT, UNSTEADY, SLOW, rounds=3)
    rows = [row for row in cells_of(page_of(run, tmp_path)) if row[0] == "Speed"]
    speed = run.verdicts[0]
    assert len(rows) == len(speed.pairs) == 6
    for row, pair in zip(rows, speed.pairs, strict=True):
        assert pair.interval is not None
        assert pair.win_interval is not None
        assert row[1:] == [
            f"{pair.first} to {pair.second}", f"{pair.value:.3f}x", f"{pair.interval[0]:.3f}..{pair.interval[1]:.3f}",
            f"{pair.win_interval[0]:.3f}..{pair.win_interval[1]:.3f} (96 %)", pair.outcome,
        ]  # fmt: skip
    assert {row[-1] for row in rows} == {"WIN", "TIE", "UNDECIDED"}


def test_a_look_after_added_rounds_is_told_with_its_level(tmp_path: Path) -> None:
    run = report(replace(FAST, looks=(2,)), SLOW, rounds=3)
    (row,) = [row for row in cells_of(page_of(run, tmp_path)) if row[0] == "Speed"]
    assert row[4].endswith("(99 %, look 2)")


def test_a_pair_that_rests_on_fewer_rounds_says_on_how_many_and_one_on_too_few_has_no_interval(tmp_path: Path) -> None:
    def with_runs(model: ModelResult, *runs: str) -> ModelResult:
        rounds = [replace(found, sessions=(run,)) for found, run in zip(model.rounds, runs, strict=True)]
        return replace(model, rounds=tuple(rounds))

    models = [with_rounds(SDXL, *[1.0] * 5), replace(with_rounds(VAR, *[2.0] * 5), name="Later")]
    apart = report(with_runs(models[0], *"aabbb"), with_runs(models[1], *"bbbbb"), rounds=5)
    (row,) = [row for row in cells_of(page_of(apart, tmp_path)) if row[0] == "Speed"]
    assert row[2:] == ["2.000x", "2.000..2.000", "2.000..2.000 (96 %, 3 of 5 rounds)", "WIN"]
    apart = report(with_runs(models[0], *"aaabb"), with_runs(models[1], *"bbbbb"), rounds=5)
    (row,) = [row for row in cells_of(page_of(apart, tmp_path)) if row[0] == "Speed"]
    assert row[2:] == ["2.000x", "n/a", "n/a", "UNDECIDED"]


def test_scores_are_compared_by_their_difference_and_columns_of_a_mode_with_each_other(tmp_path: Path) -> None:
    models = [with_scores(SDXL, 64, 0.0321), with_scores(VAR, 64, 0.0300)]
    compiled = [replace(model, name=f"{model.name} (compiled)", mode="compiled") for model in models]
    rows = cells_of(page_of(report(*models, *compiled), tmp_path))
    assert ["Quality [eager]", "VAR-d16 to SDXL", "KID -0.0021"] in [row[:3] for row in rows]
    assert ["Speed [compiled]", "VAR-d16 (compiled) to SDXL (compiled)", "1.825x"] in [row[:3] for row in rows]
    assert not any("(compiled) to SDXL<" in cell or "VAR-d16 to SDXL (c" in cell for row in rows for cell in row)


def test_a_lone_column_has_no_pairs(tmp_path: Path) -> None:
    assert "Every pair of columns" not in page_of(report(VAR), tmp_path)


def test_there_is_a_dot_for_each_timed_batch_and_a_mark_for_each_complete_round(tmp_path: Path) -> None:
    begun = replace(SLOW, rounds=(*SLOW.rounds[:2], replace(SLOW.rounds[2], complete=False)))
    page = page_of(report(FAST, begun, rounds=3), tmp_path)
    assert page.count("<circle ") == 2 * 3 + 2 * 3
    assert page.count("<path ") == 3 + 2
    assert ["Round 3", "0.9990", "2.990 (incomplete)"] in cells_of(page)


def test_one_round_alone_has_no_plot_of_rounds(tmp_path: Path) -> None:
    page = page_of(report(with_rounds(SDXL, 1.0), with_rounds(VAR, 2.0), rounds=1), tmp_path)
    assert "each in a fresh process</h2>" not in page
    assert "<path " not in page


def test_the_interval_of_the_mean_of_rounds_is_students(tmp_path: Path) -> None:
    page = page_of(report(with_rounds(SDXL, 1.0, 2.0, 3.0), rounds=3), tmp_path)
    # 2 -+ 4.3027 x 1 / sqrt(3): the 97.5 % point for two degrees of freedom stands in any table.
    assert ["95 % interval of the mean", "-0.484..4.484"] in cells_of(page)
    assert ["Spread between rounds", "50.0 %"] in cells_of(page)
    assert ">-124 %</text>" in page
    assert ["Equal images of later rounds", "4 of 4"] in cells_of(page)


def test_the_page_of_results_that_were_read_back_is_the_same(tmp_path: Path) -> None:
    run = report(FAST, LIKE_IT, UNSTEADY, with_scores(SLOW, 64, 0.03), rounds=3)
    write_results(run, tmp_path / "results.json")
    assert page_of(read_results(tmp_path / "results.json"), tmp_path) == page_of(run, tmp_path)


@pytest.mark.parametrize("seconds", [1e-7, 1e7])
def test_times_of_any_size_can_be_drawn(tmp_path: Path, seconds: float) -> None:
    page = page_of(report(with_rounds(SDXL, seconds, 1.01 * seconds, seconds), FAST, rounds=3), tmp_path)
    assert "Every pair of columns" in page
    assert not re.search(r"e\+\d+ %", page)
