"""A stratified sample: which rows, in which order, read how, and what becomes of their images."""

from __future__ import annotations

import json
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow.parquet
import pytest
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem
from PIL import Image, ImageDraw, ImageOps
from wikiart_shards import STYLES, picture, write_shards, write_unlabelled

from benchmark.data.arrangement import adopt_arrangement
from benchmark.data.decoding import content_digest, crop_square, decode_rgb
from benchmark.data.preparation import PreparedRows, prepare_rows, split_of
from benchmark.data.selection import Selection, choose_rows, equal_shares
from benchmark.data.sources import open_dataset
from benchmark.data.sources.hub import HubImages
from benchmark.data.sources.table import Table

# Rows of each style, -1 of none: uneven, and in no order.
UNEVEN = [(2, 0, 3, 3, -1, 2, 3)[row * row % 7] for row in range(40)]


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def open_table(folder: Path) -> Table:
    dataset = open_dataset(str(folder), assets=Path(), seed=0)
    assert isinstance(dataset, Table)
    return dataset


def select(folder: Path, count: int = 12, seed: int = 42, side: int = 4) -> Selection:
    return Selection(open_table(folder), count, seed, side)


def rows_of(selection: Selection, start: int = 0) -> list[int]:
    """Return which rows of the table come, known again by their images' digests."""
    table = {content_digest(decode_rgb(picture(row))): row for row in range(len(UNEVEN))}
    return [table[example.digest] for example in selection.examples(start)]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "wikiart", UNEVEN)


@pytest.mark.parametrize(
    ("sizes", "total", "shares"),
    [
        ({"a": 100, "b": 100}, 10, {"a": 5, "b": 5}),
        ({"a": 100, "b": 2, "c": 100}, 12, {"b": 2, "a": 5, "c": 5}),
        ({"a": 100, "b": 1, "c": 4, "d": 100}, 20, {"b": 1, "c": 4, "a": 7, "d": 8}),
        ({"a": 3, "b": 2}, 9, {"a": 3, "b": 2}),
        ({"a": 1, "b": 1, "c": 1}, 2, {"a": 0, "b": 1, "c": 1}),
    ],
)
def test_shares_are_equal_and_a_shortfall_is_spread(sizes: dict[str, int], total: int, shares: dict[str, int]) -> None:
    assert equal_shares(sizes, total) == shares


def test_shares_are_the_water_level_of_the_sizes() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        sizes = {key: int(size) for key, size in enumerate(generator.integers(1, 60, 9))}
        total = int(generator.integers(1, 300))
        shares = equal_shares(sizes, total)
        level = max(shares.values())
        assert sum(shares.values()) == min(total, sum(sizes.values()))
        assert all(shares[key] in {min(sizes[key], level), min(sizes[key], level - 1)} for key in sizes)


def test_a_seed_repeats_its_choice_and_another_makes_another() -> None:
    labels = [row % 3 for row in range(300)]
    chosen = choose_rows(labels, 30, 1)
    assert chosen == choose_rows(labels, 30, 1) == sorted(set(chosen))
    assert chosen != choose_rows(labels, 30, 2)
    assert Counter(labels[row] for row in chosen) == {0: 10, 1: 10, 2: 10}
    assert set(chosen) < set(choose_rows(labels, 60, 1))


def test_rows_without_a_label_are_a_stratum_of_their_own() -> None:
    labels = [None, 0, 0, 0, None, 1, 1, 1]
    assert Counter(labels[row] for row in choose_rows(labels, 6, 0)) == {None: 2, 0: 2, 1: 2}


def test_the_sample_comes_first_and_then_all_others_each_in_the_tables_order(shards: Path) -> None:
    rows = rows_of(select(shards))
    chosen = choose_rows([None if style < 0 else style for style in UNEVEN], 12, 42)
    assert rows[:12] == chosen
    assert rows[12:] == [row for row in range(40) if row not in chosen]


@pytest.mark.parametrize("start", [0, 1, 11, 12, 13, 39, 40])
def test_reading_may_begin_at_any_row(shards: Path, start: int) -> None:
    assert rows_of(select(shards), start) == rows_of(select(shards))[start:]


def test_what_lies_before_the_start_is_not_decoded(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr(
        "benchmark.data.decoding.decode_rgb", lambda content: decoded.append(content) or decode_rgb(content)
    )
    assert len(list(select(shards).examples(35))) == len(decoded) == 5


def test_no_image_is_read_before_all_labels_are_known(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[str, ...]] = []

    class Watched(pyarrow.parquet.ParquetFile):  # type: ignore[misc]
        def read(self, columns: list[str], **more: Any) -> Any:
            steps.append(tuple(columns))
            return super().read(columns=columns, **more)

        def iter_batches(self, *args: Any, columns: list[str], **more: Any) -> Any:
            steps.append(tuple(columns))
            return super().iter_batches(*args, columns=columns, **more)

    monkeypatch.setattr("pyarrow.parquet.ParquetFile", Watched)
    list(select(shards).examples())
    assert steps[:3] == [("style",)] * 3
    assert len(steps) > 3
    assert all("image" in columns for columns in steps[3:])


class Remote(AbstractFileSystem):  # type: ignore[misc]
    """Local files as a hub serves them: by ranges of bytes, which are counted."""

    fetched: ClassVar[list[int]] = []

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return {"name": path, "size": Path(path).stat().st_size, "type": "file"}

    def _open(self, path: str, mode: str = "rb", block_size: int | None = None, **more: Any) -> Any:
        return RemoteFile(self, path, mode, block_size or "default", **more)


class RemoteFile(AbstractBufferedFile):  # type: ignore[misc]
    def _fetch_range(self, start: int, end: int) -> bytes:
        content = Path(self.path).read_bytes()[start:end]
        Remote.fetched.append(len(content))
        return content


def test_of_a_hub_the_labels_bytes_are_fetched_before_any_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = [picture(row, (200, 150)) for row in range(20)]  # 90 kB each
    folder = write_shards(tmp_path / "large", [row % 4 for row in range(20)], contents)
    local = open_table(folder)
    fsspec.register_implementation("counted", Remote, clobber=True)
    urls = [f"counted://{path}" for path in sorted(folder.iterdir())]

    class Builder:
        class config:  # noqa: N801 (as `datasets` calls it)
            data_files: ClassVar = {"train": urls}

    monkeypatch.setattr("datasets.load_dataset_builder", lambda _: Builder)
    table = HubImages("org/large", "large")
    monkeypatch.setattr(table, "_features", local._features)
    Remote.fetched.clear()
    assert table.labels() == [row % 4 for row in range(20)]
    # Of each of the three shards the last 64 KiB, where pyarrow looks for the footer, and each row group's labels.
    assert sorted(Remote.fetched)[-3:] == [1 << 16] * 3
    assert sum(sorted(Remote.fetched)[:-3]) < 1000
    assert min(path.stat().st_size for path in folder.iterdir()) > 500_000
    assert [row().image for row in table.rows_at([3, 4, 19])] == [decode_rgb(contents[row]) for row in (3, 4, 19)]
    assert sum(Remote.fetched) > 3 * 80_000


def test_row_groups_without_a_chosen_row_are_not_read(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = open_table(shards)
    table.labels()
    groups: list[int] = []
    read = pyarrow.parquet.ParquetFile.iter_batches

    def watched(self: Any, size: int, row_groups: list[int], columns: list[str]) -> Any:
        groups.extend(row_groups)
        return read(self, size, row_groups=row_groups, columns=columns)

    monkeypatch.setattr("pyarrow.parquet.ParquetFile.iter_batches", watched)
    images = [row().image for row in table.rows_at([1, 2, 6, 39])]
    assert groups == [0, 1, 2]  # rows 0-4 and 5-9 of the first shard, 38-39 of the last
    assert images == [decode_rgb(picture(row)) for row in (1, 2, 6, 39)]


def test_a_set_without_labels_or_without_parquet_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="no column of class names") as caught:
        next(select(write_unlabelled(tmp_path / "plain", 3)).examples())
    assert "\n" not in str(caught.value)

    class Builder:
        class config:  # noqa: N801 (as `datasets` calls it)
            data_files: ClassVar = {"train": ["hf://datasets/org/set/data.jsonl"]}

    monkeypatch.setattr("datasets.load_dataset_builder", lambda _: Builder)
    with pytest.raises(ValueError, match=r"org/set.*no set of parquet files.*data\.jsonl"):
        HubImages("org/set", "set")._shards()


def test_the_crop_is_central_and_reduced_and_never_enlarged() -> None:
    drawn = Image.new("RGB", (600, 400), "white")
    ImageDraw.Draw(drawn).ellipse((200, 100, 400, 300), fill="black")
    for image in (drawn, drawn.transpose(Image.Transpose.ROTATE_90)):
        square = crop_square(image, 100)
        assert square.size == (100, 100)
        dark = np.asarray(square.convert("L")) < 128
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        assert abs(len(rows) - 50) <= 1  # 200 of 400 px: a circle stays round
        assert abs(len(columns) - 50) <= 1
        assert abs(rows.mean() - 49.5) <= 1
        assert abs(columns.mean() - 49.5) <= 1
        fitted = ImageOps.fit(image, (100, 100), method=Image.Resampling.LANCZOS)
        assert np.abs(np.asarray(square).astype(int) - np.asarray(fitted)).max() <= 1
    assert crop_square(Image.new("RGB", (7, 5)), 5).size == crop_square(Image.new("RGB", (7, 5)), 512).size == (5, 5)


def test_an_example_has_the_crop_and_the_digest_of_the_whole_image(shards: Path) -> None:
    selection = select(shards)
    [row] = rows_of(selection)[:1]
    example = next(selection.examples())
    whole = decode_rgb(picture(row))
    assert example.image is not None
    assert example.image.size == (4, 4)
    assert example.digest == content_digest(whole)
    assert example.label == (UNEVEN[row] if UNEVEN[row] >= 0 else None)
    assert example.caption.startswith(f"Artist: {'Claude Monet' if row % 2 else 'Unknown Artist'}, Style: ")


def test_the_identity_names_the_base_and_how_it_was_chosen(shards: Path) -> None:
    selection = select(shards, 2000, 7, 512)
    base = open_table(shards)
    assert selection.identity == f"{base.identity}; first 2000 stratified by label, seed 7; centre crop 512 px"
    assert (selection.name, selection.label_names) == (base.name, STYLES)


def test_train_and_test_share_no_image_even_where_the_set_does(tmp_path: Path) -> None:
    contents = [picture(row % 12, (9, 6)) for row in range(48)]
    reopened = []
    for content in contents[24:]:  # the same image in another file
        file = BytesIO()
        Image.open(BytesIO(content)).save(file, format="PNG", compress_level=0)
        reopened.append(file.getvalue())
    folder = write_shards(tmp_path / "double", [row % 4 for row in range(48)], contents[:24] + reopened)
    reference = prepare_rows(select(folder, 48), tmp_path / "out", 48)
    splits: dict[str, set[str]] = {}
    for row in reference.rows:
        assert row.split == split_of(row.digest)
        splits.setdefault(row.digest, set()).add(row.split)
    assert len(splits) == 12
    assert all(len(found) == 1 for found in splits.values())


def test_a_broken_image_is_a_row_without_one(tmp_path: Path) -> None:
    contents = [b"broken", None, *[picture(row) for row in range(2, 8)]]
    folder = write_shards(tmp_path / "broken", [row % 4 for row in range(8)], contents)
    reference = prepare_rows(select(folder, 8), tmp_path / "out", 8)
    assert [row.path is None for row in reference.rows] == [True, True] + [False] * 6
    assert [row.digest == "" for row in reference.rows] == [True, True] + [False] * 6
    assert reference.reference.without_image() == 2


@pytest.fixture
def prepared(shards: Path, tmp_path: Path) -> PreparedRows:
    return prepare_rows(select(shards), tmp_path / "out", 12)


def test_the_manifest_says_how_the_rows_were_chosen(prepared: PreparedRows, tmp_path: Path) -> None:
    header, *lines = [json.loads(line) for line in (tmp_path / "out/input/manifest.jsonl").read_text().splitlines()]
    assert header["arrangement"] == {"stratified": 12, "seed": 42, "side": 4}
    assert header["schema_version"] == 2
    assert [line["sha256"] for line in lines] == [row.digest for row in prepared.rows]
    sizes = {Image.open(row.path).size for row in prepared.rows if row.path}
    assert sizes == {(4, 4)}


@pytest.mark.usefixtures("prepared")
def test_the_benchmark_adopts_a_selection_and_goes_on_past_it(shards: Path, tmp_path: Path) -> None:
    adopted = adopt_arrangement(open_table(shards), tmp_path / "out")
    assert isinstance(adopted, Selection)
    reference = prepare_rows(adopted, tmp_path / "out", 30)
    assert reference.identity == select(shards).identity
    whole = prepare_rows(select(shards), tmp_path / "at once", 30)
    assert [row.digest for row in reference.rows] == [row.digest for row in whole.rows]


@pytest.mark.usefixtures("prepared")
def test_other_data_and_plain_rows_are_not_taken_for_the_selection(shards: Path, tmp_path: Path) -> None:
    other = open_table(write_shards(tmp_path / "other", UNEVEN[:20]))
    assert adopt_arrangement(other, tmp_path / "out") is other
    with pytest.raises(ValueError, match="stratified by label"):
        prepare_rows(other, tmp_path / "out", 5)
    with pytest.raises(ValueError, match=r"seed 42.*seed 43.*--output_dir"):
        prepare_rows(select(shards, seed=43), tmp_path / "out", 12)
    plain = open_table(shards)
    prepare_rows(plain, tmp_path / "plain", 5)
    assert adopt_arrangement(plain, tmp_path / "plain") is plain
    assert adopt_arrangement(plain, tmp_path / "nothing") is plain
    with pytest.raises(ValueError, match=r"now asked is \[.*stratified.*--output_dir") as caught:
        prepare_rows(select(shards), tmp_path / "plain", 5)
    assert "\n" not in str(caught.value)


def test_without_its_first_line_a_manifest_is_not_adopted(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "manifest.jsonl").write_text("[]\n")
    plain = open_table(shards)
    assert adopt_arrangement(plain, tmp_path) is plain


@pytest.mark.usefixtures("prepared")
def test_fresh_makes_the_selection_anew_that_was_prepared(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark.console.progress import Progress
    from benchmark.run.phases import prepare
    from benchmark.run.plan import plan_run
    from benchmark.settings.fields import settings_class

    output = tmp_path / "run"
    output.mkdir()
    (tmp_path / "out").rename(output / shards.name)
    for name, value in {
        "DATASET": str(shards), "OUTPUT_DIR": str(output), "MODELS": "var-d16", "WEIGHTS": "tiny", "NUM_SAMPLES": "4",
        "NUM_REFERENCES": "12", "FRESH": "1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    before = (output / shards.name / "input" / "manifest.jsonl").read_text()
    data = prepare(plan_run(settings_class()(), None, lambda _: None), Progress())
    assert "stratified by label" in data.prompts.identity
    assert (output / shards.name / "input" / "manifest.jsonl").read_text() == before
