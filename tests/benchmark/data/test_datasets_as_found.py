"""Folders as people have them: other suffixes, other encodings, tables of other names, and what is told of the rest."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.sources.folder import ImageFolder, image_files, open_folder

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30)


def draw(path: Path, format: str = "JPEG") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = BytesIO()
    Image.new("RGB", (6, 4), "red").save(file, format=format)
    path.write_bytes(file.getvalue())
    return path


def opened(folder: Path, image_column: str = "", caption_column: str = "") -> ImageFolder:
    found = open_folder(folder, image_column, caption_column)
    assert isinstance(found, ImageFolder)
    return found


def captions(folder: Path) -> list[str]:
    """Return the captions of a folder's rows, each of which must have its image."""
    rows = list(opened(folder).examples())
    assert [row.error for row in rows if row.image is None] == []
    return [row.caption for row in rows]


def left_out(folder: Path) -> dict[str, str]:
    return {entry.name: entry.reason for entry in opened(folder).survey.left_out}


def write_lines(path: Path, rows: Iterable[object]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.png", "a", "a.JPG", "a.dat"])
def test_an_image_of_any_suffix_is_a_row(tmp_path: Path, name: str) -> None:
    draw(tmp_path / name)
    draw(tmp_path / "b.png", "PNG")
    for text in "ab":
        (tmp_path / f"{text}.txt").write_text(text)
    assert captions(tmp_path) == ["a", "b"]
    assert opened(tmp_path).survey.summary("mine") == "mine: 4 files, all used"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("name", ["a.txt", "a_caption.txt", "a.jpg.txt", "a.TXT", "a.caption"])
def test_a_caption_beside_an_image_is_read_by_its_mark(tmp_path: Path, encoding: str, name: str) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / name).write_bytes("a café\r\n".encode(encoding))
    assert captions(tmp_path) == ["a café"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv", "Metadata.CSV", "metadata.tsv", "metadata.json"])
def test_a_table_is_read_by_its_mark(tmp_path: Path, encoding: str, name: str) -> None:
    draw(tmp_path / "a.jpg")
    row = {"file_name": "a.jpg", "text": "a café, 猫"}
    separator = "\t" if name.endswith("tsv") else ","
    text = {
        "metadata.jsonl": json.dumps(row, ensure_ascii=False), "metadata.json": json.dumps([row], ensure_ascii=False),
    }.get(name, f'file_name{separator}text\na.jpg{separator}"a café, 猫"\n')  # fmt: skip
    text = text.replace('"', "") if separator == "\t" else text
    mark = codecs.BOM_UTF16_BE if encoding == "utf-16-be" else b""
    (tmp_path / name).write_bytes(mark + text.encode(encoding))
    assert captions(tmp_path) == ["a café, 猫"]


@pytest.mark.parametrize(
    "content",
    [
        "file;caption\r\nIMG_1.JPG;a dog, running\r\nIMG_2.JPG;a cat\r\n",
        "sep=;\r\nfile;caption\r\nIMG_1.JPG;a dog, running\r\nIMG_2.JPG;a cat\r\n",
        'filename,description\nIMG_1.JPG,"a dog, running"\nIMG_2.JPG,a cat\n,\n,\n',
        'Photo,Title\nIMG_1.JPG,"a dog, running"\nIMG_2.JPG,a cat\n',
        'File Name\tText\nIMG_1.JPG\t"a dog, running"\nIMG_2.JPG\ta cat\n',
        'image_path,prompt\nimg_1.jpg,"a dog, running"\nIMG_2,a cat\n',
        'id,path,caption\n1,images\\IMG_1.JPG,"a dog, running"\n2,images/IMG_2.JPG,a cat\n',
    ],
)
@pytest.mark.parametrize("place", ["", "images"])
def test_a_spreadsheets_table_of_any_name_gives_the_captions(tmp_path: Path, content: str, place: str) -> None:
    if not place and "images" in content:
        content = content.replace("images\\", "").replace("images/", "")
    draw(tmp_path / place / "IMG_2.JPG")
    draw(tmp_path / place / "IMG_1.JPG")
    (tmp_path / "captions.csv").write_text(content, newline="")
    assert captions(tmp_path) == ["a dog, running", "a cat"]
    assert left_out(tmp_path) == {}


@pytest.mark.parametrize(("separator", "encoding"), [("\t", "utf-16"), (",", "utf-8")])
def test_a_table_with_the_suffix_of_a_text_is_found_by_its_first_line(
    tmp_path: Path, separator: str, encoding: str
) -> None:
    draw(tmp_path / "Images" / "a.jpg")
    (tmp_path / "notes.txt").write_text("image, caption and more")
    rows = [("image", "caption"), ("a.jpg", "a café")]
    text = "".join(f"{separator.join(row)}\r\n" for row in rows)
    (tmp_path / "captions.txt").write_bytes(text.encode(encoding))
    assert captions(tmp_path) == ["a café"]
    assert left_out(tmp_path) == {"notes.txt": "a text that no image takes its caption from"}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
@pytest.mark.parametrize("shift", range(4))
def test_a_long_table_with_the_suffix_of_a_text_is_found_wherever_its_head_ends(
    tmp_path: Path, encoding: str, shift: int
) -> None:
    draw(tmp_path / "a.jpg")
    caption = "x" * shift + "\U0001f600" * 3000
    (tmp_path / "captions.txt").write_bytes(f"image\tcaption\r\na.jpg\t{caption}\r\n".encode(encoding))
    assert captions(tmp_path) == [caption]


def test_a_table_of_any_name_that_is_json_lines_or_one_among_others_is_found(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    write_lines(tmp_path / "train.jsonl", [{"image": "a.jpg", "caption": "one"}])
    (tmp_path / "prices.csv").write_text("item,price\nfilm,7\n")
    (tmp_path / "broken.json").write_bytes(b"\xff\xfe\0")
    assert captions(tmp_path) == ["one"]
    assert sorted(left_out(tmp_path)) == ["broken.json", "prices.csv"]
    assert [file.caption for file in image_files(tmp_path)] == ["one"]  # what fine-tuning reads
    write_lines(tmp_path / "more.jsonl", [{"image": "a.jpg", "caption": "two"}])
    with pytest.raises(ValueError, match=r"2 tables of images \(more\.jsonl, train\.jsonl\): rename the one to use"):
        open_folder(tmp_path)


def test_columns_of_any_name_may_be_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "mine.csv").write_text("what,blurb\na.jpg,one\n")
    assert [row.caption for row in opened(tmp_path, "what", "blurb").examples()] == ["one"]
    with pytest.raises(ValueError, match=r"1 of 1 images .* have no caption"):
        open_folder(tmp_path)


def test_another_programs_metadata_json_changes_nothing(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("beside")
    for content in ('{"a.jpg": {"tags": "x"}}', '[{"id": 7}]', "[1"):
        (tmp_path / "metadata.json").write_text(content)
        assert captions(tmp_path) == ["beside"]
        assert list(left_out(tmp_path)) == ["metadata.json"]


def test_captions_beside_all_images_win_over_a_table_of_another_name(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_text("beside")
    (tmp_path / "notes.csv").write_text("file,title\na.jpg,in the table\n")
    assert captions(tmp_path) == ["beside"]
    assert left_out(tmp_path)["notes.csv"].startswith("a table that is not used")


def test_two_tables_with_the_same_rows_give_each_row_once(tmp_path: Path) -> None:
    for name in "ab":
        draw(tmp_path / f"{name}.jpg")
    rows = [{"file_name": f"{name}.jpg", "text": name} for name in "ab"]
    write_lines(tmp_path / "metadata.jsonl", rows)
    (tmp_path / "metadata.csv").write_text("file_name,text\na.jpg,a\nb.jpg,b\n")
    assert captions(tmp_path) == ["a", "b"]
    again = "a row that names the same image with the same caption again"
    assert left_out(tmp_path) == {"metadata.jsonl, row 1": again, "metadata.jsonl, row 2": again}


def test_an_image_that_is_named_twice_is_told_and_used_twice_where_the_captions_differ(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    write_lines(
        tmp_path / "metadata.jsonl",
        [{"file_name": name, "text": text} for name, text in (("a.jpg", "one"), ("./a.jpg", "two"), ("a.jpg", "one"))],
    )
    assert captions(tmp_path) == ["one", "two"]
    assert list(left_out(tmp_path)) == ["metadata.jsonl, row 3"]
    told = opened(tmp_path).survey.summary("mine")
    assert "1 row names an image that another row names with another caption; it is used too" in told


def test_an_absolute_name_outside_of_the_folder_is_one_clear_line(tmp_path: Path) -> None:
    outside = draw(tmp_path / "outside" / "a.jpg")
    draw(tmp_path / "mine" / "b.jpg")
    write_lines(
        tmp_path / "mine" / "metadata.jsonl", [{"file_name": str(name), "text": "x"} for name in (outside, "b.jpg")]
    )
    bad, good = opened(tmp_path / "mine").examples()
    assert bad.error == f"{outside} leads outside of {tmp_path / 'mine'}; a path must stay inside the data set"
    assert good.image is not None
    assert [entry.name for entry in opened(tmp_path / "mine").losses()] == ["row 0"]


def test_an_empty_caption_is_replaced_by_that_of_another_column_and_told(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    draw(tmp_path / "b.jpg")
    rows = [{"file_name": "a.jpg", "text": "", "prompt": "real"}, {"file_name": "b.jpg", "text": "b", "prompt": "no"}]
    write_lines(tmp_path / "metadata.jsonl", rows)
    assert captions(tmp_path) == ["real", "b"]
    told = "metadata.jsonl: rows whose caption is that of prompt, since text is empty: 1"
    assert told in opened(tmp_path).survey.notes
    assert [row.caption for row in opened(tmp_path, caption_column="text").examples()] == ["", "b"]


def test_cells_beyond_the_header_are_told(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / "captions.csv").write_text("file,caption\na.jpg,a dog, running\n")
    assert captions(tmp_path) == ["a dog"]
    assert "a caption with the separator in it needs quotes" in opened(tmp_path).survey.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metadata.json1", '{"file_name": "a.jpg", "text": "x"}', r"rename metadata\.json1, if it is meant to be one"),
        ("metdata.csv", "fil,txt\na.jpg,x\n", r"rename metdata\.csv, if it is meant"),
        ("metadata.csv", "fil_name,text\na.jpg,x\n", r"no text in column 'file_name'.*\(fil_name was probably meant\)"),
        ("metadata.csv", "file_name,txet\na.jpg,x\n", r"no text in column 'text'.*CAPTION_COLUMN \(txet was probably"),
    ],
)
def test_what_is_almost_right_is_named(tmp_path: Path, name: str, content: str, says: str) -> None:
    draw(tmp_path / "a.jpg")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=says) as caught:
        open_folder(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_folders_of_pixart_sigma_are_read(tmp_path: Path) -> None:
    draw(tmp_path / "InternImgs" / "part" / "0.png")
    draw(tmp_path / "InternImgs" / "1.png")
    rows = [
        {"width": 6, "height": 4, "ratio": 0.67, "path": name, "prompt": f"a {name}", "sharegpt4v": "longer"}
        for name in ("1.png", "part/0.png")
    ]
    (tmp_path / "InternData").mkdir()
    (tmp_path / "InternData" / "data_info.json").write_text(json.dumps(rows))
    assert captions(tmp_path) == ["a 1.png", "a part/0.png"]
    assert left_out(tmp_path) == {}


def test_nothing_in_a_folder_of_photos_vanishes_without_a_word(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "extra.jpg"):
        draw(tmp_path / name)
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    (tmp_path / "clip.mov").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
    (tmp_path / "notes.txt").write_text("to do")
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "Thumbs.db").write_text("")
    (tmp_path / "captions.csv").write_text("file,caption\na.jpg,a\nb.jpg,b\nlost.jpg,c\n")
    found = opened(tmp_path)
    assert left_out(tmp_path) == {
        "IMG_1.HEIC": "HEIC, which is not opened: convert it to JPEG or PNG",
        "clip.mov": "a video, which is no image",
        "extra.jpg": "captions.csv does not name it",
        "notes.txt": "a text that no image takes its caption from",
    }
    assert [entry.reason for entry in found.losses()] == [f"there is no file {tmp_path / 'lost.jpg'}"]
    assert found.survey.files == 7
    assert found.survey.summary("mine").startswith("mine: 7 files, 3 used, 4 files or rows of tables left out: 1 (")


def test_an_image_without_a_caption_among_many_is_left_out_and_half_of_them_are_refused(tmp_path: Path) -> None:
    for name in "abc":
        draw(tmp_path / f"{name}.jpg")
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(ValueError, match=r"2 of 3 images .* have no caption, first b\.jpg"):
        open_folder(tmp_path)
    (tmp_path / "b.txt").write_text("b")
    assert captions(tmp_path) == ["a", "b"]
    assert left_out(tmp_path) == {"c.jpg": "an image without a caption beside it"}


def test_a_folder_of_a_phones_photos_alone_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "IMG_1.HEIC").write_bytes(HEIC)
    with pytest.raises(ValueError, match=r"neither images nor parquet shards \(left out: 1 \(IMG_1\.HEIC\): HEIC, "):
        open_folder(tmp_path)


def test_a_reference_without_captions_takes_all_images_and_names_the_rest(tmp_path: Path) -> None:
    draw(tmp_path / "a")
    draw(tmp_path / "b.jpg")
    (tmp_path / "captions.csv").write_text("file,caption\nb.jpg,b\n")
    found = open_folder(tmp_path, captions_needed=False)
    assert isinstance(found, ImageFolder)
    assert len(found) == 2
    assert [entry.name for entry in found.survey.left_out] == ["captions.csv"]


def test_one_file_is_left_out_in_the_singular(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        draw(tmp_path / name)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    (tmp_path / "notes.csv").write_text("item,price\n")
    told = opened(tmp_path).survey.summary("mine")
    assert told.startswith("mine: 5 files, 4 used, 1 file or row of a table left out: 1 (")


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("00000.tar", "00001.tar"), r"2 \(00000\.tar, 00001\.tar\): a tar archive, .* unpack it"),
        (("dataset_info.json", "state.json", "data-00000-of-00001.arrow"), r"an Arrow file, .*save .* with to_parquet"),
    ],
)
def test_a_data_set_of_another_form_is_told_with_what_to_do(tmp_path: Path, names: tuple[str, ...], says: str) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(ValueError, match=f"neither images nor parquet shards .*{says}"):
        open_folder(tmp_path)
