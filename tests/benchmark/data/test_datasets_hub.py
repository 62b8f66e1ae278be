"""Data sets of the hub: streamed rows, files of their own repository alone, and one line where it cannot be reached."""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest
from table_files import GUNDAM, cell, path_cell, png

from benchmark.data.sources import open_dataset
from benchmark.data.sources.columns import Columns
from benchmark.data.sources.hub import HubImages, is_file_of


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


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


def test_a_hubs_streamed_rows_are_those_of_its_shards(gundam: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [str(path) for path in sorted(gundam.iterdir())]
    load = datasets.load_dataset

    def load_local(hub_id: str, **options: Any) -> Any:
        assert (hub_id, options) == ("org/set", {"split": "train", "streaming": True})
        return load("parquet", data_files={"train": files}, **options)

    monkeypatch.setattr("datasets.load_dataset", load_local)
    table = HubImages("org/set", "set")
    rows = list(open_dataset(str(gundam), assets=Path(), seed=0).examples())
    for start in range(7):
        assert list(table.examples(start)) == rows[start:]


def test_a_caption_that_is_not_utf_8_costs_itself_and_does_not_end_the_stream(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = pyarrow.array([b"one", b"caf\xe9", None, b"four"], pyarrow.binary()).view(pyarrow.string())
    images = pyarrow.array([cell(png("red"))] * 4, GUNDAM.arrow_schema.field("image").type)
    table = pyarrow.Table.from_arrays([images, text], schema=GUNDAM.arrow_schema)
    folder = tmp_path / "set"
    folder.mkdir()
    pyarrow.parquet.write_table(table, folder / "a.parquet")
    load = datasets.load_dataset

    def load_local(hub_id: str, **options: Any) -> Any:
        assert hub_id == "org/set"
        return load("parquet", data_files={"train": [str(folder / "a.parquet")]}, **options)

    monkeypatch.setattr("datasets.load_dataset", load_local)
    streamed = HubImages("org/set", "set")
    local = list(open_dataset(str(folder), assets=Path(), seed=0).examples())
    assert [example.caption for example in local] == ["one", "caf\ufffd", "", "four"]
    assert all(example.image for example in local)
    for start in range(5):
        assert list(streamed.examples(start)) == local[start:]


def test_a_connection_that_breaks_is_an_error_and_not_a_broken_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, _: str) -> None:
        raise ConnectionError(f"the line to {path} went dead")

    monkeypatch.setattr("fsspec.open", refuse)
    with pytest.raises(OSError, match=r"org/set.*cannot be read .*ConnectionError"):
        HubImages("org/set", "set")._content({"bytes": None, "path": "hf://datasets/org/set@main/a.png"})


@pytest.mark.parametrize(
    ("path", "is_own"),
    [
        ("hf://datasets/org/set@0123/train/a b.png", True),
        ("hf://datasets/Org/Set@refs%2Fconvert%2Fparquet/a.png", True),
        ("zip://images/a.png::hf://datasets/org/set@0123/images.zip", True),
        ("tar://a.png::gzip://images.tar::hf://datasets/org/set@0123/images.tar.gz", True),
        ("hf://datasets/org/other@0123/a.png", False),
        ("hf://datasets/org/set/a.png", False),
        ("hf://datasets/org/set@0123/../../../other/a.png", False),
        ("hf://datasets/org/settings@0123/a.png", False),
        ("hf://org/set@0123/a.png", False),
        ("hf://buckets/org/set@0123/a.png", False),
        ("https://huggingface.co/datasets/org/set/resolve/main/a.png", False),
        ("http://169.254.169.254/latest/meta-data", False),
        ("file:///etc/passwd", False),
        ("/etc/passwd", False),
        ("a.png", False),
        ("", False),
        ("zip://a.png::https://example.org/a.zip", False),
        ("zip://a.png::/etc/a.zip", False),
        ("filecache://a::hf://datasets/org/set@0123/a.png", False),
        ("file:///etc/passwd::hf://datasets/org/set@0123/a.png", False),
        ("hf://datasets/org/set@0123/a.png::file:///etc/passwd", False),
    ],
)
def test_of_a_hub_only_files_of_that_very_repository_are_fetched(
    monkeypatch: pytest.MonkeyPatch, path: str, is_own: bool
) -> None:
    fetched: list[str] = []

    def fetch(path: str, _: str) -> BytesIO:
        fetched.append(path)
        return BytesIO(b"its content")

    monkeypatch.setattr("fsspec.open", fetch)
    table = HubImages("org/set", "set")
    assert is_file_of(path, "org/set") is is_own
    if is_own:
        assert table._content({"bytes": None, "path": path}) == b"its content"
        assert fetched == [path]
    else:
        with pytest.raises(ValueError, match="is no file of the data set org/set; nothing else is fetched"):
            table._content({"bytes": None, "path": path})
        assert fetched == []


def test_a_file_of_the_hub_that_is_missing_damaged_or_too_large_costs_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.data.sources.hub.MOST_BYTES", 10)
    table = HubImages("org/set", "set")
    answers: dict[str, BytesIO | Exception] = {
        "has more than 10 bytes": BytesIO(b"12345678901"),
        "there is no file": FileNotFoundError("404"),
        "cannot be unpacked": zipfile.BadZipFile("Bad CRC-32"),
    }

    def fetch(path: str, _: str) -> BytesIO:
        answer = answers[path.partition("@0/")[2]]
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr("fsspec.open", fetch)
    columns = Columns("image", ("text",), None, {})
    for says in answers:
        row = {"image": path_cell(f"hf://datasets/org/set@0/{says}"), "text": "a caption"}
        example = table._example(columns, row)
        assert (example.caption, example.image) == ("a caption", None)
        assert says in example.error


def test_a_hub_file_that_comes_too_slowly_ends_the_run_which_can_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 61))
    monkeypatch.setattr("benchmark.data.sources.hub.time.monotonic", lambda: next(clock))
    monkeypatch.setattr("fsspec.open", lambda *_: BytesIO(b"1"))
    with pytest.raises(OSError, match=r"org/set.* cannot be read .*within 60 s"):
        HubImages("org/set", "set")._read("hf://datasets/org/set@0/a.png")


def test_a_hub_id_is_known_without_the_network() -> None:
    dataset = open_dataset("org/some-pictures", assets=Path(), seed=0, caption_column="blurb")
    assert isinstance(dataset, HubImages)
    assert (dataset.name, dataset.identity) == ("some-pictures", "hub org/some-pictures train caption=blurb")
