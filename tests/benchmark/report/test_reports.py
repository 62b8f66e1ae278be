"""The report files: no name breaks out of them, they are written whole or not at all, and read back only if whole."""

from __future__ import annotations

import base64
import csv
import json
import os
import resource
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from report_cases import SDXL, column, hidden, hostile_name, report, run_with

from benchmark.console.progress import Progress
from benchmark.report.contact_sheet import SheetRow, draw_contact_sheet
from benchmark.report.files import write_reports
from benchmark.report.html.page import write_html_report
from benchmark.report.ownership import CSV_COLUMNS, REPORT_NAMES, foreign_reports
from benchmark.report.results import RunResult, read_results, write_results
from benchmark.report.table import format_report
from benchmark.report.table_csv import write_csv
from benchmark.run.check import describe_run
from benchmark.settings.command_line import parse_command
from files.images import is_our_png, save_png
from files.writing import PREFIX

NAMES_TRIED = 500


class Page(HTMLParser):
    """The tags of a page with their attributes, and the text between them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[Any] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, attrs))

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags.append(("comment", data))


def test_no_name_gets_out_of_table_csv_json_or_html(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # 1,500 files that no power failure threatens
    plain = run_with("plain")
    table_lines = format_report(plain).count("\n")
    write_html_report(plain, None, tmp_path / "plain.html")
    tags = Page((tmp_path / "plain.html").read_text(encoding="utf-8")).tags
    for number in range(NAMES_TRIED):
        name = hostile_name(number)
        run = run_with(name)
        table = format_report(run)
        assert table.count("\n") == table_lines, repr(name)
        assert not hidden(table.replace("\n", "")), repr(name)

        write_csv(run, tmp_path / "results.csv")
        content = (tmp_path / "results.csv").read_bytes().decode("utf-8")
        rows = list(csv.reader(content.splitlines(keepends=True), strict=True))
        assert [len(row) for row in rows] == [29, 29, 29], repr(name)
        assert not hidden(content.replace("\r\n", ""))
        assert not [cell for row in rows for cell in row if cell.lstrip()[:1] in tuple("=+-@\t\r＝＋－＠")], repr(name)
        assert abs(float(rows[1][6]) - 3.45) < 1e-9, "numbers are numbers"
        # A program that splits at semicolons sees no formula either: such cells are quoted.
        for separator in ";|\t":
            for row in csv.reader(content.splitlines(keepends=True), delimiter=separator):
                assert not [cell for cell in row[1:] if cell.lstrip()[:1] in tuple("=+-@＝＋－＠")], repr(name)

        write_results(run, tmp_path / "results.json")
        found = read_results(tmp_path / "results.json")
        assert (tmp_path / "results.json").read_bytes().isascii()
        assert found == run, repr(name)
        assert format_report(found) == table

        write_html_report(run, None, tmp_path / "report.html")
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert page.tags == tags, repr(name)
        assert not hidden("".join(page.texts).replace("\n", "")), repr(name)


def test_numbers_are_never_defused(tmp_path: Path) -> None:
    negative = column("A", 3.0, 0.1, 10, -1.5)
    write_csv(report(negative), tmp_path / "results.csv")
    assert (tmp_path / "results.csv").read_text(encoding="utf-8").splitlines()[1].endswith(",-1.5")


def test_notes_and_tasks_are_shown_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    progress.note("a\x1b[31m\nb\u202e")
    with progress.task("c\x1b[2J", 1):
        pass
    assert capsys.readouterr().err == "a\\x1b[31m\\nb\\u202e\nc\\x1b[2J: 0/1\n"


def test_the_plan_that_check_prints_is_shown_escaped(tmp_path: Path) -> None:
    plain, hostile = (
        describe_run(parse_command(["--models", "var", "--output-dir", str(tmp_path / name)], {}).settings)[0]
        for name in ("out", "o\n\x1b[2Jut\u202e")
    )
    assert hostile.count("\n") == plain.count("\n")
    assert not hidden(hostile.replace("\n", ""))


# The contact sheet.


def drawn(path: Path, rows: list[SheetRow], columns: list[str]) -> np.ndarray:
    draw_contact_sheet(rows, columns, path)
    with Image.open(path) as sheet:
        return np.asarray(sheet.convert("RGB"))


def test_a_tile_that_is_missing_or_damaged_is_an_empty_tile(tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")
    os.mkfifo(tmp_path / "pipe.png")
    empty = drawn(tmp_path / "empty", [SheetRow("a", {"A": None}, {})], ["A"])
    for name in ("damaged.png", "missing.png", "pipe.png"):
        sheet = drawn(tmp_path / "sheet", [SheetRow("a", {"A": tmp_path / name}, {})], ["A"])
        assert np.array_equal(sheet, empty), name
    Image.new("RGB", (8, 8), "red").save(tmp_path / "whole.png")
    sheet = drawn(tmp_path / "sheet", [SheetRow("a", {"A": tmp_path / "whole.png"}, {})], ["A"])
    assert not np.array_equal(sheet, empty)


def test_hostile_names_are_drawn_as_their_escapes(tmp_path: Path) -> None:
    for number in range(20):
        name = hostile_name(number)
        draw_contact_sheet([SheetRow(name, {}, {name: name})], [name], tmp_path / "sheet.png")
    hostile = drawn(tmp_path / "a", [SheetRow("\x1b\ud800", {}, {})], ["\u202e"])
    assert np.array_equal(hostile, drawn(tmp_path / "b", [SheetRow(r"\x1b\ud800", {}, {})], [r"\u202e"]))


# Whole or not at all.

WRITERS: dict[str, Callable[[RunResult, Path], None]] = {
    "results.json": write_results,
    "results.csv": write_csv,
    "report.html": lambda run, path: write_html_report(run, None, path),
    "samples.png": lambda run, path: draw_contact_sheet(
        [SheetRow(f"prompt {index}", {}, {}) for index in range(8)], [model.name for model in run.models], path
    ),
}


@pytest.mark.parametrize("name", REPORT_NAMES)
def test_a_disk_that_fills_up_leaves_the_former_report_and_names_the_path(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    WRITERS[name](run_with("before"), path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))  # as on a full disk, a longer file cannot be written
    try:
        with pytest.raises(OSError, match="File too large") as failure:
            WRITERS[name](run_with("after"), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert failure.value.filename == str(path)
    assert path.read_bytes() == before
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_results_json_has_the_failures_of_the_other_files(tmp_path: Path) -> None:
    for name in ("results.csv", "samples.png", "report.html"):
        (tmp_path / name).mkdir()
    run = write_reports(run_with("a"), [], tmp_path, print)
    assert {"results.csv", "samples.png", "report.html"} <= run.failures.keys()
    assert read_results(tmp_path / "results.json") == run


def test_the_page_holds_the_sheet_that_was_drawn(tmp_path: Path) -> None:
    write_reports(run_with("a"), [SheetRow("prompt", {}, {})], tmp_path, print)
    sheet = base64.b64encode((tmp_path / "samples.png").read_bytes()).decode()
    assert f'src="data:image/png;base64,{sheet}"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_sheet_that_cannot_be_drawn_leaves_no_former_sheet_in_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_reports(run_with("a"), [SheetRow("former", {}, {})], tmp_path, print)
    assert "data:image/png" in (tmp_path / "report.html").read_text(encoding="utf-8")

    def broken(*_: object) -> bytes:
        raise OSError("no font")

    monkeypatch.setattr("benchmark.report.files.draw_contact_sheet", broken)
    run = write_reports(run_with("a"), [SheetRow("new", {}, {})], tmp_path, print)
    assert run.failures["samples.png"] == "no font"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "data:image/png" not in page
    assert "samples.png: failed: no font" in page


def test_a_run_without_references_has_no_column_for_them_on_the_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn_columns: list[Sequence[str]] = []

    def draw(_: object, columns: Sequence[str], path: Path) -> bytes:
        drawn_columns.append(columns)
        path.write_bytes(b"drawn")
        return b"drawn"

    monkeypatch.setattr("benchmark.report.files.draw_contact_sheet", draw)
    for tiles in ({"SDXL": None}, {"SDXL": None, "reference": None}):
        write_reports(report(SDXL), [SheetRow("a prompt", tiles, {})], tmp_path, print)
    assert drawn_columns == [["SDXL"], ["SDXL", "reference"]]


def test_a_run_without_any_result_leaves_the_former_reports_and_says_so(tmp_path: Path) -> None:
    write_reports(run_with("a"), [], tmp_path, print)
    before = {name: (tmp_path / name).read_bytes() for name in REPORT_NAMES}
    notes: list[str] = []
    run = write_reports(report(failures={"SDXL": "no weights"}), [], tmp_path, notes.append)
    assert {name: (tmp_path / name).read_bytes() for name in REPORT_NAMES} == before
    assert notes == [
        f"no model has a result: results.json, results.csv, samples.png, report.html in {tmp_path} stay as they were"
    ]
    assert run.failures == {"SDXL": "no weights"}
    write_reports(report(), [], tmp_path / "empty", notes.append)
    assert len(notes) == 1, "nothing is said of files that are not there"


# Which files are ours.


def test_what_a_run_wrote_is_ours(tmp_path: Path) -> None:
    assert foreign_reports(tmp_path) == []
    assert foreign_reports(tmp_path / "missing") == []
    write_reports(run_with("a"), [SheetRow("a", {}, {})], tmp_path, print)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_NAMES)
    assert foreign_reports(tmp_path) == []
    assert is_our_png(tmp_path / "samples.png")


def test_files_of_others_at_our_names_are_foreign(tmp_path: Path) -> None:
    (tmp_path / "results.json").write_text('{"models": [], "schema_version": 1}')
    (tmp_path / "results.csv").write_text("model,accuracy\nmine,0.9\n")
    Image.new("RGB", (8, 8)).save(tmp_path / "samples.png")
    (tmp_path / "report.html").write_text("<html><head><title>Text-to-image benchmark</title></head></html>")
    assert foreign_reports(tmp_path) == list(REPORT_NAMES)


@pytest.mark.parametrize("name", REPORT_NAMES)
def test_a_symlink_a_folder_and_a_pipe_are_foreign(tmp_path: Path, name: str) -> None:
    ours, other = tmp_path / "ours", tmp_path / "other"
    other.mkdir()
    write_reports(run_with("a"), [], ours, print)
    (other / name).symlink_to(ours / name)
    assert foreign_reports(other) == [name]
    (other / name).unlink()
    (other / name).symlink_to(ours / "nowhere")
    assert foreign_reports(other) == [name]
    (other / name).unlink()
    (other / name).mkdir()
    assert foreign_reports(other) == [name]
    (other / name).rmdir()
    os.mkfifo(other / name)
    assert foreign_reports(other) == [name]


def test_a_damaged_results_json_is_ours_while_it_names_the_program(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(run_with("a"), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert foreign_reports(tmp_path) == []
    path.write_bytes(whole.replace(b"text-to-image-benchmark", b"text-to-image-benchmurk"))
    assert foreign_reports(tmp_path) == ["results.json"]
    path.write_bytes(b"")
    assert foreign_reports(tmp_path) == ["results.json"]


def test_results_of_an_earlier_version_are_ours(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    write_results(run_with("a"), path)
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["program"], content["checksum"]
    path.write_text(json.dumps(content, indent=1))
    assert foreign_reports(tmp_path) == []
    with pytest.raises(ValueError, match="checksum is missing"):
        read_results(path)


def test_a_csv_of_a_version_without_rounds_is_ours(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(",".join((*CSV_COLUMNS, "fid")) + "\r\n")
    assert foreign_reports(tmp_path) == []


def test_our_sheet_is_told_from_a_png_of_another(tmp_path: Path) -> None:
    save_png(Image.new("RGB", (2, 2)), tmp_path / "ours.png")
    Image.new("RGB", (2, 2)).save(tmp_path / "other.png")
    assert is_our_png(tmp_path / "ours.png")
    assert not is_our_png(tmp_path / "other.png")
