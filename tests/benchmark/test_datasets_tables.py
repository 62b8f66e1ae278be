"""The hub's data sets, as local parquet shards with the same columns and types."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as Pillow

from benchmark.datasets import open_dataset
from benchmark.datasets.base import CaptionedImages, Undecoded
from benchmark.datasets.hub import HubImages, Table, choose_columns, tidy_name

GUNDAM = Features({"image": Image(), "text": Value("string")})
WIKIART = Features(
    {
        "image": Image(),
        "artist": ClassLabel(names=["Unknown Artist", "boris-kustodiev", "vincent-van-gogh"]),
        "genre": ClassLabel(names=["abstract_painting", "cityscape", "Unknown Genre"]),
        "style": ClassLabel(names=["Abstract_Expressionism", "Art_Nouveau", "Ukiyo_e"]),
    }
)


def png(colour: str, mode: str = "RGB", size: tuple[int, int] = (5, 4)) -> bytes:
    file = BytesIO()
    Pillow.new("RGB", size, colour).convert(mode).save(file, format="PNG")
    return file.getvalue()


def cell(content: bytes | None) -> dict[str, Any]:
    return {"bytes": content, "path": None}


def write_shards(folder: Path, rows: list[dict[str, Any]], features: Features, shards: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    for number in range(shards):
        part = Dataset.from_list(rows[number * size : (number + 1) * size], features=features)
        part.to_parquet(folder / f"train-{number:05d}-of-{shards:05d}.parquet")
    return folder


def open_table(folder: Path, **columns: str) -> CaptionedImages:
    return open_dataset(str(folder), assets=Path(), seed=0, **columns)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture
def gundam(tmp_path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"image": cell(png("red")), "text": "a red robot "},
        {"image": cell(b"not a picture"), "text": "a broken robot"},
        {"image": cell(png("blue", "L")), "text": "a grey robot"},
        {"image": cell(png("lime", "P", (9, 2))), "text": None},
        {"image": None, "text": "no robot"},
    ]
    return write_shards(tmp_path / "gundam-captioned", rows, GUNDAM)


@pytest.fixture
def wikiart(tmp_path: Path) -> Path:
    rows = [
        {"image": cell(png("red")), "artist": 2, "genre": 1, "style": 1},
        {"image": cell(png("red")), "artist": 0, "genre": 2, "style": 2},
        {"image": cell(png("red")), "artist": -1, "genre": 0, "style": -1},
    ]
    return write_shards(tmp_path / "wikiart", rows, WIKIART)


def test_rows_come_in_order_over_all_shards_and_a_broken_picture_does_not_end_them(gundam: Path) -> None:
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
        ({"a": Image(), "b": Image(), "text": Value("string")}, {}, "2 picture columns.*IMAGE_COLUMN.*a, b, text"),
        ({"text": Value("string")}, {}, "0 picture columns"),
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


def test_a_picture_column_that_is_plain_binary_can_be_named(tmp_path: Path) -> None:
    features = Features({"jpg": Value("binary"), "caption": Value("string")})
    folder = write_shards(tmp_path / "plain", [{"jpg": png("red"), "caption": "red"}], features, 1)
    [example] = open_table(folder, image_column="jpg").examples()
    assert example.image is not None
    assert example.image.getpixel((0, 0)) == (255, 0, 0)


def test_names_are_tidied_to_words() -> None:
    assert tidy_name("vincent-van-gogh") == "Vincent Van Gogh"
    assert tidy_name("Art_Nouveau_Modern") == "Art Nouveau Modern"
    assert tidy_name("Unknown Artist") == "Unknown Artist"


def test_a_hub_that_cannot_be_reached_is_one_line_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    dataset = open_dataset("gundam", assets=Path(), seed=0)
    assert (dataset.name, dataset.identity) == ("Gundam", "hub Gazoche/gundam-captioned train")
    with pytest.raises(OSError, match=r"Gazoche/gundam-captioned.*DATASET=/path/to/folder.*DATASET=robots") as caught:
        next(dataset.examples())
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError, match="cannot be read"):
        _ = dataset.label_names


def test_a_connection_that_breaks_is_an_error_and_not_a_broken_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, _: str) -> None:
        raise ConnectionError(f"the line to {path} went dead")

    monkeypatch.setattr("fsspec.open", refuse)
    with pytest.raises(OSError, match=r"org/set.*cannot be read .*ConnectionError"):
        HubImages("org/set", "set")._content({"bytes": None, "path": "hf://datasets/org/set@main/a.png"})


def test_a_hub_id_is_known_without_the_network() -> None:
    dataset = open_dataset("org/some-pictures", assets=Path(), seed=0, caption_column="blurb")
    assert isinstance(dataset, HubImages)
    assert (dataset.name, dataset.identity) == ("some-pictures", "hub org/some-pictures train caption=blurb")


def test_rows_may_be_decoded_later_and_elsewhere(gundam: Path) -> None:
    table = open_table(gundam)
    assert isinstance(table, Undecoded)
    assert [row() for row in table.undecoded(1)] == list(table.examples(1))


def test_labels_come_without_pictures_and_rows_at_their_places(wikiart: Path) -> None:
    table = open_table(wikiart)
    assert isinstance(table, Table)
    assert table.labels() == [1, 2, None]
    assert [row() for row in table.rows_at([0, 2])] == [list(table.examples())[row] for row in (0, 2)]


def test_a_plain_binary_picture_is_also_read_at_its_place(tmp_path: Path) -> None:
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
