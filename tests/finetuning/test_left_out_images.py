"""What lies in a folder of fine-tuning and is no row of it is told, and its tables are read as the benchmark's are."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from finetuning.held_out import read_held_out
from finetuning.images import prompt_files, read_images
from scripts.pixart_scripts.common.infer_finetuned import read_prompts


def draw(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (40 * number, 0, 0)).save(folder / name)
    return folder


def write_lines(path: Path, names: Sequence[str]) -> None:
    rows = ({"file_name": name, "text": f"image {name}"} for name in names)
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def test_two_tables_give_the_rows_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, "a.png", "b.png", "c.png")
    write_lines(tmp_path / "metadata.jsonl", ["a.png"])
    (tmp_path / "metadata.csv").write_text("file_name,text\nb.png,b\nc.png,c\n")
    assert sorted(image.caption for image in read_images(tmp_path)) == ["b", "c", "image a.png"]
    assert capsys.readouterr().err == ""


def test_images_that_the_table_does_not_name_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, "a.png", "b.png", "c.png", "sub/d.png")
    (tmp_path / "a.txt").write_text("what the table says too")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30))
    write_lines(tmp_path / "metadata.jsonl", ["a.png", "b.png"])
    assert len(read_images(tmp_path)) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "3 files or rows of tables left out: 2 (c.png, sub/d.png): metadata.jsonl does not name it; 1 (phone" in told


def test_what_lies_beside_captioned_images_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, "a.png", "sub/d.png")
    (tmp_path / "a.txt").write_text("a")
    assert len(read_images(tmp_path)) == 1
    assert "left out: 1 (sub): a subfolder, which is not entered" in capsys.readouterr().err


def test_a_folder_that_is_used_whole_is_told_nothing_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw(tmp_path, "00000_input.png")
    (tmp_path / "00000_caption.txt").write_text("a")
    write_lines(tmp_path / "metadata.jsonl", ["00000_input.png"])  # as make_imagefolder_metadata.py writes it
    assert len(read_images(tmp_path)) == 1
    assert capsys.readouterr().err == ""


def test_prompts_and_reports_tell_what_they_leave_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw(tmp_path / "input" / "test", "a.png", "b.png")
    (folder / "metadata.csv").write_text("file_name,text\na.png,a\n,no name\n")
    assert [file.caption for file in prompt_files(tmp_path, folder)] == ["a"]
    told = capsys.readouterr().err
    assert "left out: 1 (b.png): metadata.csv does not name it" in told
    assert "1 of 2 rows cannot be used and are left out, first: " in told
    (folder / "metadata.csv").write_text("file_name,text\na.png,a\n")
    assert read_prompts(Namespace(use_meta=True, base_dir=tmp_path))[0] == ["a"]
    assert "left out: 1 (b.png)" in capsys.readouterr().err
    assert len(read_held_out(tmp_path).rows) == 1
    assert "left out: 1 (b.png)" in capsys.readouterr().err


def test_several_tables_of_other_names_are_refused_by_name(tmp_path: Path) -> None:
    draw(tmp_path, "a.png")
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("file,caption\na.png,a\n")
    with pytest.raises(ValueError, match=r"2 tables of images \(one\.csv, two\.csv\): rename the one to use"):
        read_images(tmp_path)
