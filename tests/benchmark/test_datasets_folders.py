"""Local folders of pictures in the layouts that people have, and the names that DATASET takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmark.datasets import DATASETS, open_dataset
from benchmark.datasets.base import CaptionedImages

ASSETS = Path(__file__).parents[2] / "assets"


def draw(path: Path, colour: str = "red", size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def open_named(name: Path | str, **columns: str) -> CaptionedImages:
    return open_dataset(str(name), assets=ASSETS, seed=0, **columns)


def captions(dataset: CaptionedImages) -> list[str]:
    return [example.caption for example in dataset.examples()]


def test_metadata_jsonl_gives_the_rows_in_its_order(tmp_path: Path) -> None:
    draw(tmp_path / "pictures" / "a.png")
    draw(tmp_path / "b.jpg")
    lines = [{"file_name": "b.jpg", "text": "Bé\u2028b"}, {"file_name": "pictures/a.png", "text": "A"}]
    text = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    (tmp_path / "metadata.jsonl").write_text(text + "\n\n", encoding="utf-8")
    assert captions(open_named(tmp_path)) == ["Bé\u2028b", "A"]


def test_metadata_csv_may_quote_commas_and_name_its_columns(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text('\ufefffile_name,prompt,blurb\na.png,"one, two",three\n', encoding="utf-8")
    assert captions(open_named(tmp_path)) == ["one, two"]
    assert captions(open_named(tmp_path, caption_column="blurb")) == ["three"]


def test_tables_in_subfolders_name_files_beside_them(tmp_path: Path) -> None:
    for split in ("test", "train"):
        draw(tmp_path / split / "a.png")
        (tmp_path / split / "metadata.csv").write_text(f"file_name,text\na.png,{split}\n")
    examples = list(open_named(tmp_path).examples())
    assert [(example.caption, example.image is not None) for example in examples] == [("test", True), ("train", True)]


def test_a_file_that_metadata_names_in_vain_is_a_row_without_picture(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\nlost.png,a caption\n")
    [example] = open_named(tmp_path).examples()
    assert (example.caption, example.image) == ("a caption", None)
    assert "lost.png" in example.error


def test_captions_may_stand_beside_the_pictures_in_any_of_three_ways(tmp_path: Path) -> None:
    for picture, text in (
        ("00000_input.png", "00000_caption.txt"),
        ("one.jpg", "one.txt"),
        ("two.PNG", "two_caption.txt"),
    ):
        draw(tmp_path / picture)
        (tmp_path / text).write_text(f"of {picture}\n")
    assert captions(open_named(tmp_path)) == ["of 00000_input.png", "of one.jpg", "of two.PNG"]


def test_rows_split_over_train_and_test_come_back_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number, split in enumerate(["train", "test", "train"]):
        draw(tmp_path / split / f"{number:05d}_input.png")
        (tmp_path / split / f"{number:05d}_caption.txt").write_text(str(number))
    (tmp_path / "manifest.jsonl").write_text("{}\n")
    draw(tmp_path / ".hidden" / "00009_input.png")
    assert captions(open_named(tmp_path)) == ["0", "1", "2"]


def test_a_start_skips_rows(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.txt").write_text(name)
    assert [example.caption for example in open_named(tmp_path).examples(2)] == ["c"]


def test_the_identity_follows_captions_and_files_and_not_the_place(tmp_path: Path) -> None:
    folder = tmp_path / "here" / "mine"
    draw(folder / "a.png")
    (folder / "a.txt").write_text("one")
    first = open_named(folder)
    assert first.name == "mine"
    moved = folder.rename(tmp_path / "mine")
    assert open_named(moved).identity == first.identity
    (moved / "a.txt").write_text("two")
    assert open_named(moved).identity != first.identity


def test_what_a_folder_lacks_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither pictures nor parquet"):
        open_named(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"1 of 1 pictures .* no caption, first a\.png.*metadata\.jsonl"):
        open_named(tmp_path)
    with pytest.raises(ValueError, match="CAPTION_COLUMN=x"):
        open_named(tmp_path, caption_column="x")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(ValueError, match=r"row 1: no text in column 'text'.*file_name"):
        open_named(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{file_name\n")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        open_named(tmp_path)


def test_a_name_that_stands_for_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gundam, wikiart, robots, emoji"):
        open_named("gundma")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_named(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        open_named(draw(tmp_path / "a.png"))
    with pytest.raises(ValueError, match="IMAGE_COLUMN=x"):
        open_named("robots", image_column="x")


def test_the_data_sets_that_ship_open_offline() -> None:
    assert set(DATASETS) == {"gundam", "wikiart", "robots", "emoji"}
    for name in ("robots", "emoji"):
        example = next(open_named(name).examples())
        assert example.image is not None
        assert example.caption


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, benchmark.datasets; print([m for m in ('torch', 'datasets', 'PIL', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"
