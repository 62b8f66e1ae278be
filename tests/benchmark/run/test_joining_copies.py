"""`python -m benchmark.merge DIR DIR`: what is printed, exit statuses, and what is refused with nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from copies_of_a_run import TITLE, Colours, add, begin, contents
from journal_cases import FINGERPRINT, record

from benchmark.data.preparation import prepare_rows
from benchmark.merge import main
from benchmark.run.column_folder import MARK_NAME
from benchmark.run.journal import Journal
from files.locks import LOCK_NAME, locked

Prepare = Callable[[Path, Path], None]


@pytest.fixture
def copies(tmp_path: Path) -> tuple[Path, Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    begin(first)
    add(first, [4, 8], "0")
    add(second, [12, 16], "rank1")
    return first, second


def told(capsys: pytest.CaptureFixture[str], *outputs: Path | str) -> str:
    """Call the program, which must refuse without output on stdout; return its line."""
    assert main(list(map(str, outputs))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("benchmark.merge: ")
    assert err.count("\n") == 1
    return err.removeprefix("benchmark.merge: ").removesuffix("\n")


def test_it_says_for_each_column_what_was_taken_and_what_to_do_next(
    copies: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (copies[0] / "results.json").write_text("of an earlier run")
    assert main(list(map(str, copies))) == 0
    assert capsys.readouterr() == (
        f"{TITLE}: 8 images taken, 20 of 20 there now\n"
        f"joined; next, on one host: the same run_inference.py command with OUTPUT_DIR={copies[0]}\n",
        "",
    )
    assert (copies[0] / "results.json").read_text() == "of an earlier run"


def other_mark(_: Path, second: Path) -> None:
    (second / TITLE).rename(second / "old")
    journal = Journal(second / TITLE, {**FINGERPRINT, "SEED": "43"})
    with journal.locked():
        record(journal, 12)


def damaged_mark(_: Path, second: Path) -> None:
    mark = second / TITLE / MARK_NAME
    mark.write_text(mark.read_text().replace('"42"', '"43"'))


def damaged_mark_of_the_first(first: Path, _: Path) -> None:
    damaged_mark(first, first)


def no_mark(_: Path, second: Path) -> None:
    (second / TITLE / MARK_NAME).unlink()


def another_version(_: Path, second: Path) -> None:
    mark = second / TITLE / MARK_NAME
    mark.write_text(mark.read_text().replace('"schema_version": 4', '"schema_version": 3').replace("42", "41"))


def a_users_image(first: Path, _: Path) -> None:
    (first / TITLE / "output" / "00013.png").write_text("my image")


def a_users_journal(first: Path, _: Path) -> None:
    (first / TITLE / "timings-rank1.jsonl").write_text("my notes\n")


def a_users_files_where_a_column_is_to_be(first: Path, second: Path) -> None:
    column = Journal(second / "Blobs", {"SEED": "7"})
    with column.locked():
        record(column, 0)
    (first / "Blobs" / "output").mkdir(parents=True)
    (first / "Blobs" / "output" / "00000.png").write_text("my image")


def a_link_to_the_first(first: Path, second: Path) -> None:
    (second / TITLE).rename(second / "old")
    (second / TITLE).symlink_to(first / TITLE)


def another_data_set(first: Path, second: Path) -> None:
    prepare_rows(Colours(), first / "Colours", 4)
    prepare_rows(Colours(identity="other colours"), second / "Colours", 4)


def a_damaged_manifest(_: Path, second: Path) -> None:
    prepare_rows(Colours(), second / "Colours", 4)
    path = second / "Colours" / "input" / "manifest.jsonl"
    path.write_text(path.read_text().replace('"colours"', '"colourz"', 1))


@pytest.mark.parametrize(
    ("prepare", "line"),
    [
        (
            other_mark,
            "{second}/Noise holds images made with SEED=43, {first}/Noise with SEED=42: they are no copies of one run",
        ),
        (
            damaged_mark,
            "{second}/Noise/fingerprint.json is damaged (its checksum does not fit its content): copy it again, or run "
            "with OUTPUT_DIR={second}, which writes it again where the journals tell what it said",
        ),
        (
            damaged_mark_of_the_first,
            "{first}/Noise/fingerprint.json is damaged (its checksum does not fit its content): copy it again, or run "
            "with OUTPUT_DIR={first}, which writes it again where the journals tell what it said",
        ),
        (
            no_mark,
            "{second}/Noise holds timings-rank1.jsonl and no fingerprint.json, which says with what settings its "
            "images were made: copy it again, or move the folder away",
        ),
        (
            another_version,
            "{second}/Noise holds images of another version of this program (schema_version=3, now 4): choose another "
            "OUTPUT_DIR (--output-dir), or move {second}/Noise away",
        ),
        (
            a_users_image,
            "{first}/Noise holds files that may not be this program's at the names that it writes: output/00013.png; "
            "move them away",
        ),
        (
            a_users_journal,
            "{first}/Noise holds files that may not be this program's at the names that it writes: "
            "timings-rank1.jsonl; move them away",
        ),
        (
            a_users_files_where_a_column_is_to_be,
            "{first}/Blobs holds output/00000.png and no fingerprint.json, so they may not be this program's: choose "
            "another OUTPUT_DIR (--output-dir), or move {first}/Blobs away",
        ),
        (a_link_to_the_first, "{first}/Noise is a link to the other copy: there is nothing to be joined"),
        (
            another_data_set,
            "{second}/Colours/input holds the data set [other colours], {first}/Colours/input [colours]: they are no "
            "copies of one run",
        ),
        (
            a_damaged_manifest,
            "{second}/Colours/input/manifest.jsonl is damaged, its first line does not say what it holds (its checksum "
            "does not fit its content): run with OUTPUT_DIR={second}, which writes it again where the rows tell what "
            "it said",
        ),
    ],
)
def test_what_is_no_copy_of_the_same_run_is_refused_in_one_line_and_nothing_is_written(
    copies: tuple[Path, Path], capsys: pytest.CaptureFixture[str], prepare: Prepare, line: str
) -> None:
    prepare(*copies)
    for folder in copies:
        for lock in folder.rglob(f"{LOCK_NAME}*"):
            lock.unlink()
    there = contents(*copies)
    assert told(capsys, *copies) == line.format(first=copies[0], second=copies[1])
    assert contents(*copies) == there


def test_places_that_are_no_two_copies_are_refused_in_one_line_each(
    copies: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    first, second = copies
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(first)
    assert told(capsys) == "the following arguments are required: DIR"
    assert told(capsys, first) == "one copy has nothing to be joined with: name two OUTPUT_DIRs of one run, or more"
    assert told(capsys, first, second, tmp_path / "link") == (
        f"{first} and {tmp_path / 'link'} are the same folder: name each copy once"
    )
    assert told(capsys, first, tmp_path / "none") == (
        f"{tmp_path / 'none'} is no folder: name the OUTPUT_DIR of each copy"
    )
    assert told(capsys, first, tmp_path / "empty") == (
        f"{tmp_path / 'empty'} is no OUTPUT_DIR of this program: no folder in it has a fingerprint.json or "
        "input/manifest.jsonl"
    )
    assert told(capsys, first, second / TITLE) == (
        f"{second / TITLE} is the folder of one column: name the OUTPUT_DIR that it lies in"
    )
    second.rename(first / "second")
    assert told(capsys, first / "second", first) == (
        f"{first / 'second'} lies in {first}: copies that are joined lie beside each other"
    )


@pytest.mark.parametrize("place", [0, 1])
def test_a_copy_that_a_process_uses_is_refused_with_its_name(
    copies: tuple[Path, Path], capsys: pytest.CaptureFixture[str], place: int
) -> None:
    with locked(copies[place] / TITLE, "generates images"):
        line = told(capsys, *copies)
    assert line.startswith(f"{copies[place] / TITLE} is in use: process ")
    assert "generates images since" in line
    assert not (copies[0] / TITLE / "timings-rank1.jsonl").exists()


def test_prepared_data_of_the_other_copy_are_not_taken(copies: tuple[Path, Path]) -> None:
    prepare_rows(Colours(), copies[1] / "Colours", 4)
    assert main(list(map(str, copies))) == 0
    assert [path.name for path in copies[0].iterdir()] == [TITLE]


def test_other_programs_marks_and_folders_without_one_are_left_alone(copies: tuple[Path, Path]) -> None:
    (copies[1] / "notes").mkdir()
    (copies[1] / "theirs").mkdir()
    (copies[1] / "theirs" / MARK_NAME).write_text('{"of": "another program"}')
    assert main(list(map(str, copies))) == 0
    assert [path.name for path in copies[0].iterdir()] == [TITLE]


def test_no_torch_is_imported_to_join_copies(copies: tuple[Path, Path]) -> None:
    code = (
        "import sys; from benchmark.merge import main; status = main(sys.argv[1:]); "
        "sys.exit(status or 'torch' in sys.modules or 'diffusers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, *map(str, copies)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
