"""Local folders of images in the layouts that people have."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.sources import open_dataset
from benchmark.data.sources.base import CaptionedImages, Example
from benchmark.data.sources.folder import check_captions, image_files

ASSETS = Path(__file__).parents[3] / "assets"


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


def test_a_file_that_metadata_names_in_vain_is_a_row_without_image(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text("file_name,text\nlost.png,a caption\n")
    [example] = open_named(tmp_path).examples()
    assert (example.caption, example.image) == ("a caption", None)
    assert "lost.png" in example.error


def test_captions_may_stand_beside_the_images_in_any_of_three_ways(tmp_path: Path) -> None:
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
    with pytest.raises(ValueError, match="neither images nor parquet"):
        open_named(tmp_path)
    draw(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"1 of 1 images .* no caption, first a\.png.*metadata\.jsonl"):
        open_named(tmp_path)
    with pytest.raises(ValueError, match="CAPTION_COLUMN=x"):
        open_named(tmp_path, caption_column="x")
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}\n')
    with pytest.raises(ValueError, match=r"row 1: no text in column 'text'.*file_name"):
        open_named(tmp_path)
    (tmp_path / "metadata.jsonl").write_text("{file_name\n")
    with pytest.raises(ValueError, match="line 1 is not JSON"):
        open_named(tmp_path)


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A folder with a good image, and a secret one beside the folder."""
    draw(tmp_path / "secret.png", "lime")
    draw(tmp_path / "mine" / "good.png")
    (tmp_path / "mine" / "sub").mkdir()
    return tmp_path / "mine"


def write_table(folder: Path, *rows: object) -> Path:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def assert_one_row_is_lost(folder: Path, says: str, lost: int = 0) -> Example:
    """Check that of two rows the one is without image and says why, and the other is the good image; return the one."""
    rows = list(open_named(folder).examples())
    assert len(rows) == 2
    assert rows[1 - lost].image is not None
    assert rows[1 - lost].error == ""
    assert rows[lost].image is None
    assert says in rows[lost].error
    assert "\n" not in rows[lost].error
    assert len(rows[lost].error) < 700
    f"{rows[lost].error}{rows[lost].caption}".encode()
    return rows[lost]


OUTSIDE = "leads outside of"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("../secret.png", OUTSIDE),
        ("sub/../../secret.png", OUTSIDE),
        ("{outside}", OUTSIDE),
        ("up/secret.png", OUTSIDE),
        ("out.png", OUTSIDE),
        ("/dev/zero", OUTSIDE),
        ("/etc/hostname", OUTSIDE),
        ("file://{outside}", "there is no file"),
        ("https://example.org/a.png", "nothing is fetched from a URL"),
        ("~/a.png", "there is no file"),
        ("pipe", "no regular file"),
        ("sub", "no regular file"),
        (".", "no regular file"),
        ("", "name is empty"),
        ("a\0b.png", "cannot be a path"),
        ("round", "cannot be a path"),
        ("a" * 5000, "cannot be a path"),
        ("\ud800.png", "cannot be a path"),
        ("no\nsuch.png", "there is no file"),
        ("huge.png", "at most 512,000,000 are read"),
    ],
)
def test_a_name_that_cannot_be_read_costs_its_row_and_says_why(named: Path, name: str, says: str) -> None:
    (named / "up").symlink_to("..")
    (named / "out.png").symlink_to("../secret.png")
    (named / "round").symlink_to("round")
    os.mkfifo(named / "pipe")
    with (named / "huge.png").open("wb") as file:
        file.truncate(600_000_000)
    name = name.format(outside=named.parent / "secret.png")
    write_table(named, {"file_name": name, "text": "bad"}, {"file_name": "good.png", "text": "good"})
    assert assert_one_row_is_lost(named, says).caption == "bad"


@pytest.mark.parametrize("name", ["sub/../good.png", "link.png", "{here}/good.png"])
def test_any_name_that_stays_inside_is_read(named: Path, name: str) -> None:
    (named / "link.png").symlink_to("good.png")
    [row] = open_named(write_table(named, {"file_name": name.format(here=named), "text": ""})).examples()
    assert row.image is not None


def test_a_table_in_a_subfolder_may_name_files_of_the_whole_data_set_and_no_others(named: Path) -> None:
    write_table(named / "sub", *({"file_name": name, "text": ""} for name in ("../../secret.png", "../good.png")))
    assert_one_row_is_lost(named, OUTSIDE)


def test_of_what_lies_outside_not_even_the_size_is_in_the_identity(named: Path) -> None:
    (named / "out.png").symlink_to("../secret.png")
    write_table(named, *({"file_name": name, "text": ""} for name in ("../secret.png", "out.png", "good.png")))
    before = open_named(named).identity
    (named.parent / "secret.png").write_bytes(b"another size")
    assert open_named(named).identity == before
    (named / "good.png").write_bytes(b"another size")
    assert open_named(named).identity != before


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{file_name", "line 1 is not JSON"),
        ("[1, 2]", "line 1 is no JSON object"),
        ("[" * 100_000, "line 1 is not JSON (it is nested too deeply)"),
        ('{"file_name": ' + "1" * 5000 + "}", "line 1 is not JSON (a number has too many digits)"),
        ('{"file_name": 7, "text": "bad"}', "row 1: no text in column 'file_name'"),
        ('{"file_name": ["good.png"], "text": "bad"}', "row 1: no text in column 'file_name'"),
        ('{"file_name": null, "text": "bad"}', "row 1: no text in column 'file_name'"),
        ('{"file_name": "good.png", "text": {"a": 1}}', "row 1: no text in column 'text'"),
        ('{"text": "bad"}', "row 1: no text in column 'file_name'"),
        ('{"file_name": "good.png"}', "row 1: no text in column 'text'"),
    ],
)
def test_a_line_of_a_table_that_cannot_be_used_costs_itself(named: Path, line: str, says: str) -> None:
    good = {"file_name": "good.png", "text": "good"}
    assert_one_row_is_lost(write_table(named, line, good), says)
    assert_one_row_is_lost(write_table(named, good, line), says.replace(" 1", " 2"), lost=1)
    with pytest.raises(ValueError, match=r"metadata\.jsonl") as caught:  # nothing is left of this table
        open_named(write_table(named, line, line))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_line_that_is_not_utf_8_costs_itself_and_a_byte_order_mark_nothing(named: Path) -> None:
    good = b'{"file_name": "good.png", "text": "good"}'
    (named / "metadata.jsonl").write_bytes(b"\xef\xbb\xbf" + good + b'\n{"file_name": "good.png", "text": "\xff"}\n')
    assert_one_row_is_lost(named, "line 2 is not UTF-8", lost=1)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (b"good.png,\xff", "line 2 is not UTF-8"),
        (b"../secret.png,bad", OUTSIDE),
        (b"good.png", "row 1: no text in column 'text'"),
        (b'good.png,"' + b"a" * 200_000 + b'"', "line 2 is not CSV"),
    ],
)
def test_a_row_of_a_csv_that_cannot_be_used_costs_itself(named: Path, row: bytes, says: str) -> None:
    (named / "metadata.csv").write_bytes(b"file_name,text\n" + row + b"\ngood.png,good,and more\n")
    assert_one_row_is_lost(named, says)


@pytest.mark.parametrize(("header", "says"), [(b"\xff\xfef\0i\0", "not UTF-8"), (b"a" * 200_000, "no header")])
def test_a_csv_without_a_readable_header_is_one_line(named: Path, header: bytes, says: str) -> None:
    (named / "metadata.csv").write_bytes(header + b"\ngood.png,good\n")
    with pytest.raises(ValueError, match=says):
        open_named(named)


def test_a_caption_is_valid_text_and_keeps_its_other_characters(named: Path) -> None:
    write_table(named, r'{"file_name": "good.png", "text": "a\ud800b \u0000\u001b[31m\u202e =1+1 \ud83d\ude00"}')
    assert captions(open_named(named)) == ["a\ufffdb \0\x1b[31m\u202e =1+1 \U0001f600"]


def beside(folder: Path) -> Path:
    """A folder with two images and their captions: bad.png comes first."""
    for name in ("bad", "good"):
        draw(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(name)
    return folder


@pytest.mark.parametrize(
    ("kind", "says"), [("outside", OUTSIDE), ("latin", "not UTF-8"), ("huge", "at most 512,000,000"), ("link", OUTSIDE)]
)
def test_a_caption_file_that_cannot_be_read_costs_its_row(tmp_path: Path, kind: str, says: str) -> None:
    folder = beside(tmp_path / "mine")
    (tmp_path / "secret.txt").write_text("a secret")
    text = folder / "bad.txt"
    text.unlink()
    if kind == "latin":
        text.write_bytes(b"caf\xe9")
    elif kind == "huge":
        with text.open("wb") as file:
            file.truncate(600_000_000)
    else:
        (folder / "hop").symlink_to("../secret.txt" if kind == "link" else folder / "good.txt")
        text.symlink_to("hop" if kind == "link" else "../secret.txt")
    assert assert_one_row_is_lost(folder, says).caption == ""
    if kind == "latin":
        (folder / "good.txt").write_bytes(b"caf\xe9")
        with pytest.raises(ValueError, match=r"bad\.txt is not UTF-8"):  # no caption is left
            open_named(folder)


def test_an_image_that_is_a_link_is_read_inside_and_costs_its_row_outside(tmp_path: Path) -> None:
    folder = beside(tmp_path / "mine")
    draw(tmp_path / "secret.png", "lime")
    (folder / "bad.png").unlink()
    (folder / "bad.png").symlink_to("../secret.png")
    assert assert_one_row_is_lost(folder, OUTSIDE).caption == "bad"
    (folder / "bad.png").unlink()
    (folder / "bad.png").symlink_to("good.png")
    assert all(row.image for row in open_named(folder).examples())


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_a_table_that_is_a_link_to_the_outside_or_too_large_is_one_line(named: Path, name: str) -> None:
    outside = named.parent / "table"
    outside.write_text('{"file_name": "good.png", "text": "secret"}\n')
    (named / name).symlink_to(outside)
    with pytest.raises(ValueError, match=r"leads outside of .* remove the table$"):
        open_named(named)
    (named / name).unlink()
    with (named / name).open("wb") as file:
        file.truncate(600_000_000)
    with pytest.raises(ValueError, match=r"600,000,000 bytes; at most .* remove the table$"):
        open_named(named)


def test_a_snapshot_of_the_hub_cache_is_read_through_its_links(tmp_path: Path) -> None:
    repository = tmp_path / "datasets--org--set"
    snapshot = repository / "snapshots" / "0123abc"
    for number, name in enumerate(("a.png", "a.txt", "metadata.jsonl")):
        blob = repository / "blobs" / f"{number:040x}"
        if name == "a.png":
            Image.new("RGB", (2, 2)).save(draw(blob.with_suffix(".png")).rename(blob), format="PNG")
        else:
            blob.write_text('{"file_name": "a.png", "text": "a caption"}' if "meta" in name else "a caption")
        (snapshot).mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    for _ in range(2):
        [row] = open_named(snapshot).examples()
        assert (row.caption, row.image is not None) == ("a caption", True)
        (snapshot / "metadata.jsonl").unlink(missing_ok=True)  # then the text file counts


def test_a_linked_folder_is_not_entered_and_a_deep_one_is_no_error(tmp_path: Path) -> None:
    folder = beside(tmp_path / "mine")
    draw(tmp_path / "other" / "secret.png", "lime")
    (folder / "other").symlink_to("../other")
    (folder / "round").symlink_to(".")
    here = os.open(folder, os.O_RDONLY)
    for _ in range(1050):  # more levels than Python calls in each other, and in the end than a path can have
        os.mkdir("deep", dir_fd=here)
        below = os.open("deep", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        assert captions(open_named(folder)) == ["bad", "good"]
    finally:
        subprocess.run(["rm", "-rf", str(folder / "deep")], check=True)  # Python's own rmtree calls itself


def test_names_that_are_no_text_are_read_and_can_be_recorded(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"m\xffne")
    draw(folder / "a.png").rename(folder / os.fsdecode(b"\xff.png"))
    (folder / os.fsdecode(b"\xff.txt")).write_text("a caption")
    (folder / "b\nc.png").write_bytes(b"broken")
    (folder / "b\nc.txt").write_text("another")
    dataset = open_named(folder)
    assert [row.image is not None for row in dataset.examples()] == [False, True]
    f"{dataset.name} {dataset.identity}".encode()


def test_rows_to_train_on_must_all_be_usable(named: Path) -> None:
    write_table(named, {"file_name": 7, "text": "bad"}, {"file_name": "good.png", "text": "good"})
    files = image_files(named)
    with pytest.raises(ValueError, match=r"1 of 2 rows .* cannot be used: .*row 1: no text in column 'file_name'"):
        check_captions(named, files)
    write_table(named, {"file_name": "../secret.png", "text": "bad"}, {"file_name": "good.png", "text": "good"})
    outside, good = image_files(named)
    assert good.read() == (named / "good.png").read_bytes()
    with pytest.raises(ValueError, match=OUTSIDE):
        outside.read()
    assert (OUTSIDE in outside.fault(), good.fault()) == (True, "")
    with pytest.raises(ValueError, match=r"1 of 2 rows .* cannot be used: .* leads outside of"):
        check_captions(named, [outside, good])


def test_a_machine_without_descriptors_ends_the_run_and_costs_no_row(
    named: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = open_named(write_table(named, {"file_name": "good.png", "text": "good"}))

    def refuse(path: Path) -> bytes:
        raise OSError(24, "Too many open files", str(path))

    monkeypatch.setattr("benchmark.data.decoding.read_regular", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        list(dataset.examples())
