"""A leaderboard of three runs or more: who is ranked with whom, and the files that are written."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from comparison_cases import a_run, kid, model, written
from report_cases import hostile_name, run_with

from benchmark.compare import main
from benchmark.report.comparison.leaderboard import Leaderboard, rank_runs
from benchmark.report.comparison.loading import NamedRun
from benchmark.report.html.page import write_html_report
from benchmark.report.results import RunResult


def rank(*runs: RunResult, sort: str | None = None, across_machines: bool = False) -> Leaderboard:
    return rank_runs([NamedRun(f"run{number}", run) for number, run in enumerate(runs)], sort, across_machines)


def ranked(board: Leaderboard) -> list[list[tuple[str, str, str | None]]]:
    return [[(entry.run, entry.column, entry.behind) for entry in section.entries] for section in board.sections]


def test_columns_of_all_runs_are_ranked_by_the_score_that_decides() -> None:
    board = rank(
        a_run(model(scores=[kid(0.02)])), a_run(model("VAR-d16", scores=[kid(0.01)])), a_run(model(scores=[kid(0.01)]))
    )
    assert (board.sort, board.key, board.short) == ("score", "kid", "KID")
    assert ranked(board) == [[("run1", "VAR-d16", None), ("run2", "SDXL", "TIE"), ("run0", "SDXL", "WIN")]]


def test_of_a_score_of_which_more_is_better_the_highest_is_first() -> None:
    runs = [a_run(model(scores=[kid(value, better="higher")])) for value in (0.1, 0.3, 0.2)]
    assert [name for name, _, _ in ranked(rank(*runs))[0]] == ["run1", "run2", "run0"]


def test_scores_that_cannot_be_compared_stand_in_sections_of_their_own() -> None:
    runs = [a_run(model(scores=[kid(0.01, **changes)])) for changes in ({}, {"identity": "b"}, {"n_generated": 9}, {})]  # type: ignore[arg-type]
    others = a_run(model(scores=[kid(0.01)]), reference_identity="other")
    board = rank(*runs, others, a_run(model()))
    assert [len(section.entries) for section in board.sections] == [2, 1, 1, 1, 1]
    assert board.sections[0].title == "KID: inception, N = 256 against 2000, references references"
    assert board.sections[-1].title == "columns without this score"


def test_references_that_are_told_apart_by_their_last_letter_alone_stand_in_two_sections() -> None:
    runs = [a_run(model(scores=[kid(0.01)]), reference_identity=f"robots seed=42 parts={which}") for which in "aab"]
    assert [len(section.entries) for section in rank(*runs).sections] == [2, 1]


def test_without_scores_or_on_request_speed_ranks_within_one_machine() -> None:
    runs = [a_run(model(means_s=(mean, mean, mean), card=card)) for mean, card in ((2.0, "A"), (1.0, "A"), (1.5, "B"))]
    board = rank(*runs)
    assert board.sort == "speed"
    assert ranked(board) == [[("run1", "SDXL", None), ("run0", "SDXL", "WIN")], [("run2", "SDXL", None)]]
    together = rank(*runs, across_machines=True)
    assert [name for name, _, _ in ranked(together)[0]] == ["run1", "run2", "run0"]
    assert together.sections[0].title == "all machines (of different machines)"
    scored = [replace(run, models=(replace(run.models[0], scores=(kid(0.01),)),)) for run in runs]
    assert rank(*scored, sort="speed").sort == "speed"


def test_ranking_by_a_score_that_no_run_has_is_refused() -> None:
    with pytest.raises(ValueError, match="no run has a score that decides"):
        rank(a_run(model()), a_run(model()), sort="score")


def test_each_entry_says_its_card_and_the_settings_that_are_not_the_same() -> None:
    runs = [
        a_run(replace(model(scores=[kid(0.01)], card=f"GPU-{steps}"), options={"SDXL_STEPS": steps}), seed=seed)
        for steps, seed in (("10", 42), ("20", 43))
    ]
    entries = rank(*runs).sections[0].entries
    assert [dict(entry.differing) for entry in entries] == [
        {"SDXL_STEPS": "10", "seed": "42"}, {"SDXL_STEPS": "20", "seed": "43"},
    ]  # fmt: skip
    assert [(entry.card, entry.driver, entry.settings["MODE"]) for entry in entries] == [
        ("GPU-10", "570.86", "eager"), ("GPU-20", "570.86", "eager"),
    ]  # fmt: skip


def three(folder: Path, name: str = "a GPU") -> list[str]:
    runs = {f"run{place}": a_run(model(scores=[kid(0.01 * (place + 1))]), device=name) for place in range(3)}
    return written(folder, **runs)


def test_it_is_printed_and_written_as_csv_and_html(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = three(tmp_path)
    assert main(places) == 0
    out, err = capsys.readouterr()
    assert err == "benchmark.compare: written to leaderboard.csv and leaderboard.html\n"
    assert out.startswith("LEADERBOARD, by KID (lower = better)\n")
    assert [line.split()[:3] for line in out.splitlines() if line[:1].isdigit()] == [
        ["1", "SDXL", "0.0100"], ["2", "SDXL", "0.0200"], ["3", "SDXL", "0.0300"],
    ]  # fmt: skip
    rows = list(csv.DictReader((tmp_path / "leaderboard.csv").open(newline="", encoding="utf-8")))
    assert [(row["rank"], row["run"], float(row["value"]), row["card"]) for row in rows] == [
        (str(place + 1), places[place], pytest.approx(0.01 * (place + 1)), "GPU-1") for place in range(3)
    ]
    assert "SDXL_STEPS=20" in rows[0]["settings"]
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert page.count("<tr>") == 4
    assert main(places) == 0, "its own files are written anew"


def test_json_has_the_leaderboard_as_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*three(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["score"]["value"] for entry in told["sections"][0]["entries"]] == pytest.approx([0.01, 0.02, 0.03])


@pytest.mark.parametrize("flag", ["--csv", "--html"])
def test_a_file_that_is_not_a_leaderboard_is_never_replaced(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = three(tmp_path)
    mine = tmp_path / "mine.txt"
    mine.write_text("my notes")
    (tmp_path / "link").symlink_to(mine)
    for name, reason in (("mine.txt", "is not a leaderboard"), ("link", "is not a leaderboard"), (".", "is a folder")):
        assert main([*places, flag, name]) == 2
        assert reason in capsys.readouterr().err
    assert mine.read_text() == "my notes"
    assert not list(tmp_path.glob("leaderboard.*")), "neither file is written where one cannot be"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("number", range(12))
def test_text_from_elsewhere_is_text_in_the_page_and_no_formula_in_the_csv(number: int, tmp_path: Path) -> None:
    name = hostile_name(number).encode("utf-8", "replace").decode()
    hostile = [replace(run_with(name), started=f"202{place}") for place in range(3)]
    files = tmp_path / "x.csv", tmp_path / "x.html"
    assert (
        main(
            [
                *written(tmp_path, a=hostile[0], b=hostile[1], c=hostile[2]),
                "--csv",
                str(files[0]),
                "--html",
                str(files[1]),
            ]
        )
        == 0
    )
    parser = _Tags()
    parser.feed(files[1].read_text(encoding="utf-8"))
    known = {
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "h1",
        "h2",
        "p",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "ul",
        "li",
    }
    assert set(parser.tags) <= known
    for row in csv.reader(io.StringIO(files[0].read_text(encoding="utf-8"), newline="")):
        assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "@", "\t", "\r"))]


def test_the_report_of_a_run_is_not_replaced_by_a_leaderboard(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "report.html"
    write_html_report(run_with("SDXL"), None, page)
    before = page.read_bytes()
    assert main([*three(tmp_path), "--csv", str(tmp_path / "x.csv"), "--html", str(page)]) == 2
    assert "report.html is not a leaderboard of this program" in capsys.readouterr().err
    assert page.read_bytes() == before
    assert not (tmp_path / "x.csv").exists()


def test_one_name_for_both_files_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "board"
    assert main([*three(tmp_path), "--csv", str(place), "--html", str(tmp_path / "." / "board")]) == 2
    assert "board cannot be both files: give --csv and --html two names" in capsys.readouterr().err
    assert not place.exists()


def test_flags_of_two_runs_are_refused_for_a_leaderboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for flags in (["--worse", "1"], ["--slower", "5%"], ["--slower", "3%"]):  # the last is what two runs have anyway
        assert main([*three(tmp_path), *flags]) == 2
        told = "--slower and --worse belong to the comparison of two runs; 3 are named"
        assert capsys.readouterr().err == f"benchmark.compare: {told}\n"
