"""Local parquet shards, with the columns and types of the hub's data sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Features, Image, Value
from table_files import GUNDAM, WIKIART, cell, path_cell, png, write_rows, write_shards

from benchmark.data.sources import open_dataset
from benchmark.data.sources.base import CaptionedImages, Undecoded
from benchmark.data.sources.columns import choose_columns, tidy_name
from benchmark.data.sources.table import Table


def open_table(folder: Path, **columns: str) -> CaptionedImages:
    return open_dataset(str(folder), assets=Path(), seed=0, **columns)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def wikiart(tmp_path: Path) -> Path:
    rows = [
        {"image": cell(png("red")), "artist": 2, "genre": 1, "style": 1},
        {"image": cell(png("red")), "artist": 0, "genre": 2, "style": 2},
        {"image": cell(png("red")), "artist": -1, "genre": 0, "style": -1},
    ]
    return write_shards(tmp_path / "wikiart", rows, WIKIART)


def test_rows_come_in_order_over_all_shards_and_a_broken_image_does_not_end_them(gundam: Path) -> None:
    examples = list(open_table(gundam).examples())
    captions = ["a red robot", "a broken robot", "a grey robot", "", "no robot"]
    assert [example.caption for example in examples] == captions
    assert [example.image is None for example in examples] == [False, True, False, False, True]
    assert [bool(example.error) for example in examples] == [False, True, False, False, True]
    assert [example.image.mode for example in examples if example.image] == ["RGB"] * 3
    assert examples[3].image is not None
    assert examples[3].image.size == (9, 2)


@pytest.mark.parametrize("start", range(7))
def test_a_start_skips_just_so_many_rows(gundam: Path, start: int) -> None:
    captions = ["a red robot", "a broken robot", "a grey robot", "", "no robot"]
    assert [example.caption for example in open_table(gundam).examples(start)] == captions[start:]


def test_wikiart_captions_are_composed_of_class_names_and_the_label_is_the_style(wikiart: Path) -> None:
    dataset = open_table(wikiart)
    examples = list(dataset.examples())
    assert [example.caption for example in examples] == [
        "Artist: Vincent Van Gogh, Style: Art Nouveau, Genre: Cityscape",
        "Artist: Unknown Artist, Style: Ukiyo E, Genre: Unknown Genre",
        "Artist: Unknown Artist, Style: Unknown Style, Genre: Abstract Painting",
    ]
    assert [example.label for example in examples] == [1, 2, None]
    assert dataset.label_names == ("Abstract_Expressionism", "Art_Nouveau", "Ukiyo_e")


def test_a_named_column_wins_over_the_guess(wikiart: Path) -> None:
    examples = open_table(wikiart, caption_column="genre").examples()
    assert [example.caption for example in examples] == ["cityscape", "Unknown Genre", "abstract_painting"]


def test_the_identity_of_a_parquet_folder_follows_its_content_and_not_its_place(gundam: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / gundam.name
    moved.parent.mkdir()
    before = open_table(gundam).identity
    gundam.rename(moved)
    assert open_table(moved).identity == before
    write_shards(moved, [{"image": cell(png("red")), "text": "another"}], GUNDAM, 1)
    assert open_table(moved).identity != before


def test_a_folder_may_have_the_characters_of_a_pattern_in_its_name(gundam: Path) -> None:
    assert len(list(open_table(gundam.rename(gundam.parent / "my [set] *é")).examples())) == 5


def test_a_damaged_shard_is_one_line_that_names_the_folder(gundam: Path) -> None:
    shard = sorted(gundam.iterdir())[1]
    shard.write_bytes(shard.read_bytes()[:100])
    with pytest.raises(OSError, match="gundam-captioned") as caught:
        list(open_table(gundam).examples())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("features", "named", "says"),
    [
        ({"a": Image(), "b": Image(), "text": Value("string")}, {}, "2 image columns.*IMAGE_COLUMN.*a, b, text"),
        ({"text": Value("string")}, {}, "0 image columns"),
        ({"image": Image(), "a": Value("string"), "b": Value("string")}, {}, "CAPTION_COLUMN"),
        ({"image": Image(), "text": Value("string")}, {"caption_column": "txet"}, "CAPTION_COLUMN=txet is no column"),
        ({"image": Image(), "size": Value("int64")}, {"caption_column": "size"}, "neither text nor class names"),
    ],
)
def test_columns_that_are_not_obvious_are_asked_for(features: Any, named: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        choose_columns(features, named.get("image_column", ""), named.get("caption_column", ""))


@pytest.mark.parametrize("name", ["text", "caption", "prompt", "description"])
def test_an_obvious_caption_column_is_guessed(name: str) -> None:
    columns = choose_columns({"picture": Image(), name: Value("string"), "size": Value("int64")}, "", "")
    assert (columns.image, columns.captions, columns.label) == ("picture", (name,), None)


def test_an_image_column_that_is_plain_binary_can_be_named(tmp_path: Path) -> None:
    features = Features({"jpg": Value("binary"), "caption": Value("string")})
    folder = write_shards(tmp_path / "plain", [{"jpg": png("red"), "caption": "red"}], features, 1)
    [example] = open_table(folder, image_column="jpg").examples()
    assert example.image is not None
    assert example.image.getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize(
    ("features", "image", "caption"),
    [
        ({"image": Image(), "mask": Image(), "text": Value("string")}, "image", "text"),
        ({"Image": Value("binary"), "Caption": Value("string"), "id": Value("int64")}, "Image", "Caption"),
        ({"jpg": Value("large_binary"), "key": Value("string"), "prompt": Value("string")}, "jpg", "prompt"),
        ({"image": {"bytes": Value("binary"), "path": Value("string")}, "text": Value("string")}, "image", "text"),
        ({"file_name": Value("string"), "blurb": Value("string")}, "file_name", "blurb"),
    ],
)
def test_common_names_of_columns_are_known_in_any_kind_of_table(features: Any, image: str, caption: str) -> None:
    columns = choose_columns(features, "", "")
    assert (columns.image, columns.captions) == (image, (caption,))


def test_a_parquet_file_that_names_images_beside_it_needs_no_column_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png("red"))
    table = pyarrow.table({"file_name": ["a.png", "b.png"], "text": ["one", "two"]})
    pyarrow.parquet.write_table(table, tmp_path / "SET.PARQUET")
    one, two = open_table(tmp_path).examples()
    assert (one.caption, one.image is not None) == ("one", True)
    assert (two.caption, two.image) == ("two", None)
    assert "there is no file" in two.error


def test_the_columns_that_there_are_take_one_line_however_many_they_are() -> None:
    features = {"a\nb": Value("string"), "c" * 5000: Value("string")} | {f"n{i}": Value("string") for i in range(99)}
    with pytest.raises(ValueError, match=r"the columns are a b, ccc.*ccc, n0, .*n17 and 81 more$") as caught:
        choose_columns(features, "", "")
    assert len(str(caught.value)) < 600


def test_names_are_tidied_to_words() -> None:
    assert tidy_name("vincent-van-gogh") == "Vincent Van Gogh"
    assert tidy_name("Art_Nouveau_Modern") == "Art Nouveau Modern"
    assert tidy_name("Unknown Artist") == "Unknown Artist"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects what would be fetched, and refuses it."""
    asked: list[str] = []

    def refuse(place: Any, *_: Any, **__: Any) -> None:
        asked.append(str(place))
        raise AssertionError(f"{place} was asked for")

    for name in ("fsspec.open", "fsspec.core.url_to_fs", "socket.create_connection", "socket.getaddrinfo"):
        monkeypatch.setattr(name, refuse)
    return asked


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("../secret.png", "leads outside of"),
        ("{outside}", "leads outside of"),
        ("out.png", "leads outside of"),
        ("/dev/zero", "leads outside of"),
        ("file://{outside}", "there is no file"),
        ("local://{outside}", "there is no file"),
        ("https://example.org/a.png", "nothing is fetched from a URL"),
        ("hf://datasets/org/set@main/a.png", "nothing is fetched from a URL"),
        ("zip://a.png::{outside}", "there is no file"),
        ("simplecache::https://example.org/a.png", "there is no file"),
        ("pipe", "no regular file"),
        ("", "name is empty"),
        ("a\0.png", "cannot be a path"),
        ("a" * 5000, "cannot be a path"),
        ("lost.png", "there is no file"),
    ],
)
def test_a_cell_without_a_file_costs_its_row_and_nothing_is_fetched(
    tmp_path: Path, offline: list[str], path: str, says: str
) -> None:
    (tmp_path / "secret.png").write_bytes(png("lime"))
    path = path.format(outside=tmp_path / "secret.png")
    rows = [{"image": path_cell(path), "text": "bad"}, {"image": cell(png("red")), "text": "good"}]
    folder = write_rows(tmp_path / "mine", rows)
    (folder / "out.png").symlink_to("../secret.png")
    os.mkfifo(folder / "pipe")
    bad, good = open_table(folder).examples()
    assert (bad.caption, bad.image, good.error) == ("bad", None, "")
    assert says in bad.error
    assert "\n" not in bad.error
    assert good.image is not None
    assert offline == []


def test_a_cell_may_name_a_file_of_the_folder(tmp_path: Path, offline: list[str]) -> None:
    rows = [{"image": path_cell(path), "text": ""} for path in ("a.png", "sub/../a.png", str(tmp_path / "mine/a.png"))]
    folder = write_rows(tmp_path / "mine", rows)
    (folder / "sub").mkdir()
    (folder / "a.png").write_bytes(png("red"))
    assert [row.image is not None for row in open_table(folder).examples()] == [True] * 3
    assert offline == []


def test_a_cells_own_bytes_win_over_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: list[str]
) -> None:
    (tmp_path / "a.png").write_bytes(png("lime"))
    monkeypatch.chdir(tmp_path)
    rows = [{"image": {"bytes": png("red"), "path": path}, "text": ""} for path in ("a.png", str(tmp_path / "a.png"))]
    for row in open_table(write_rows(tmp_path / "mine", rows)).examples():
        assert row.image is not None
        assert row.image.getpixel((0, 0)) == (255, 0, 0)
    assert offline == []


def test_a_column_of_paths_or_of_something_else_is_read_or_said(tmp_path: Path, offline: list[str]) -> None:
    folder = write_rows(tmp_path / "mine", [])
    (folder / "a.png").write_bytes(png("red"))
    for values, says in (
        (["a.png", "../secret.png"], "leads outside of"),
        ([[1, 2], [3]], "the cell holds no image file but a list"),
        ([1, 2], "the cell holds no image file but a int"),
        ([None, None], "the row holds no image"),
    ):
        table = pyarrow.table({"image": values, "text": ["one", "two"]})
        pyarrow.parquet.write_table(table, folder / "a.parquet")
        one, two = open_table(folder, image_column="image").examples()
        assert (one.image is not None) == (values[0] == "a.png")
        assert (two.image, says in two.error) == (None, True)
    assert offline == []


def test_captions_and_labels_that_are_not_what_they_should_be_cost_themselves(tmp_path: Path) -> None:
    folder = write_rows(tmp_path / "mine", [])
    features = Features({"image": Image(), "text": Value("string"), "style": ClassLabel(names=["a", "b\ud800"])})
    text = pyarrow.array([b"caf\xe9", b"good", None, b"\0\x1b"], pyarrow.binary()).view(pyarrow.string())
    table = pyarrow.Table.from_arrays(
        [pyarrow.array([{"bytes": png("red"), "path": None}] * 4), text, pyarrow.array([99, 1, -7, None])],
        schema=features.arrow_schema,
    )
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    dataset = open_table(folder)
    rows = list(dataset.examples())
    assert [row.caption for row in rows] == ["caf\ufffd", "good", "", "\0\x1b"]
    assert [row.label for row in rows] == [None, 1, None, None]
    assert all(row.image for row in rows)
    assert dataset.label_names == ("a", "b\ufffd")
    assert isinstance(dataset, Table)
    assert dataset.labels() == [None, 1, None, None]
    assert [row() for row in dataset.rows_at([0, 1, 2, 3])] == rows


def test_a_shard_that_links_to_the_outside_or_lacks_a_column_is_one_line(gundam: Path) -> None:
    last = sorted(gundam.iterdir())[-1]
    outside = last.rename(gundam.parent / "outside.parquet")
    last.symlink_to(outside)
    with pytest.raises(ValueError, match=r"the shard .* is a symlink that leads outside of the data set"):
        open_table(gundam)
    last.unlink()
    pyarrow.parquet.write_table(pyarrow.table({"text": ["no image"]}), last)
    with pytest.raises(OSError, match=r"00001-of-00002\.parquet has no column image") as caught:
        list(open_table(gundam).examples())
    assert "\n" not in str(caught.value)


def test_a_shard_in_a_snapshot_of_the_hub_cache_is_read_through_its_link(gundam: Path, tmp_path: Path) -> None:
    repository = tmp_path / "datasets--org--set"
    (repository / "snapshots" / "0123abc").mkdir(parents=True)
    (repository / "blobs").mkdir()
    for number, shard in enumerate(sorted(gundam.iterdir())):
        shard.rename(repository / "blobs" / str(number))
        (repository / "snapshots" / "0123abc" / shard.name).symlink_to(f"../../blobs/{number}")
    assert len(list(open_table(repository / "snapshots" / "0123abc").examples())) == 5


def test_rows_may_be_decoded_later_and_elsewhere(gundam: Path) -> None:
    table = open_table(gundam)
    assert isinstance(table, Undecoded)
    assert [row() for row in table.undecoded(1)] == list(table.examples(1))


def test_labels_come_without_images_and_rows_at_their_places(wikiart: Path) -> None:
    table = open_table(wikiart)
    assert isinstance(table, Table)
    assert table.labels() == [1, 2, None]
    assert [row() for row in table.rows_at([0, 2])] == [list(table.examples())[row] for row in (0, 2)]


def test_a_plain_binary_image_is_also_read_at_its_place(tmp_path: Path) -> None:
    features = Features({"jpg": Value("binary"), "caption": Value("string"), "kind": ClassLabel(names=["a"])})
    rows = [{"jpg": png(colour), "caption": colour, "kind": 0} for colour in ("red", "blue")]
    table = open_table(write_shards(tmp_path / "plain", rows, features), image_column="jpg")
    assert isinstance(table, Table)
    assert table.labels() == [0, 0]
    [blue] = [row() for row in table.rows_at([1])]
    assert blue == list(table.examples())[1]
    assert blue.image is not None


def test_a_shard_damaged_after_opening_is_one_line(wikiart: Path) -> None:
    table = open_table(wikiart)
    assert isinstance(table, Table)
    table.labels()
    shard = sorted(wikiart.iterdir())[0]
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(OSError, match=r"the parquet folder .* cannot be read") as caught:
        table.labels()
    with pytest.raises(OSError, match=r"the parquet folder .* cannot be read"):
        list(table.rows_at([0]))
    assert "\n" not in str(caught.value)
