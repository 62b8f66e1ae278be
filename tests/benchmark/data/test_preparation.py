"""A data set's rows are written once, split by content; a second call goes on from what is there."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.decoding import content_digest
from benchmark.data.preparation import THREADS, PreparedRows, prepare_rows, split_of
from benchmark.data.prompts import Prompt
from benchmark.data.sources.base import Example
from files.locks import LOCK_NAME


class Colours:
    """Images of `count` colours; those of `broken` do not decode, and reading row `fails_at` raises once."""

    name = "Colours"
    label_names: tuple[str, ...] = ("even", "odd")

    def __init__(self, count: int, broken: tuple[int, ...] = (), fails_at: int | None = None) -> None:
        self.identity = f"colours of {count}"
        self._count, self._broken, self._fails_at = count, broken, fails_at
        self.read: list[int] = []

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, self._count):
            if row == self._fails_at:
                raise OSError("the connection broke")
            self.read.append(row)
            image = Image.new("RGB", (3 + row % 2, 2), (row, 0, 0))
            broken = row in self._broken
            yield Example(f"colour {row}", None if broken else image, row % 2, "damaged" if broken else "")


class Undecoded(Colours):
    """The same rows, made when they are called; row `damaged` fails only then."""

    def __init__(self, count: int, damaged: int | None = None, **more: int) -> None:
        super().__init__(count, **more)
        self._damaged = damaged
        self.waiting = self.most_waiting = 0
        self._lock = threading.Lock()

    def undecoded(self, start: int = 0) -> Iterator[Callable[[], Example]]:
        for row, example in enumerate(self.examples(start), start=start):
            with self._lock:
                self.waiting += 1
                self.most_waiting = max(self.most_waiting, self.waiting)

            def make(row: int = row, example: Example = example) -> Example:
                with self._lock:
                    self.waiting -= 1
                if row == self._damaged:
                    raise OSError("the connection broke")
                return example

            yield make


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


def manifest(folder: Path) -> Path:
    return folder / "input" / "manifest.jsonl"


def test_each_row_is_a_png_in_its_own_size_with_its_caption_beside_it(tmp_path: Path) -> None:
    prepared = prepare_rows(Colours(40), tmp_path, 30)
    assert [row.index for row in prepared.rows] == list(range(30))
    for row in prepared.rows:
        assert row.path == tmp_path / "input" / row.split / f"{row.index:05d}_input.png"
        assert row.path.with_name(f"{row.index:05d}_caption.txt").read_text().strip() == row.caption
        with Image.open(row.path) as image:
            assert (image.mode, image.size) == ("RGB", (3 + row.index % 2, 2))
            assert split_of(content_digest(image)) == row.split
    assert {row.split for row in prepared.rows} == {"train", "test"}
    assert not prepared.exhausted
    assert (prepared.label_names, prepared.identity) == (("even", "odd"), "colours of 40")
    assert len(files(tmp_path)) == 61


def test_the_manifest_says_everything_of_a_row(tmp_path: Path) -> None:
    prepare_rows(Colours(2, broken=(1,)), tmp_path, 2)
    header, first, second = [json.loads(line) for line in manifest(tmp_path).read_text().splitlines()]
    assert header["identity"] == "colours of 2"
    digest = content_digest(Image.new("RGB", (3, 2)))
    assert (first["sha256"], first["file"]) == (digest, f"{split_of(digest)}/00000_input.png")
    assert (second["index"], second["caption"], second["file"], second["error"]) == (1, "colour 1", "", "damaged")


def test_the_split_is_of_the_content_alone() -> None:
    image = Image.new("RGB", (2, 3), "red")
    assert content_digest(image) == content_digest(image.copy())
    assert content_digest(image) != content_digest(Image.new("RGB", (3, 2), "red"))
    assert split_of("0a") == "test"
    assert split_of("0b") == "train"


def test_a_second_call_reads_nothing_and_a_longer_one_only_what_is_new(tmp_path: Path) -> None:
    prepare_rows(Colours(40), tmp_path, 10)
    again = Colours(40, fails_at=10)
    assert len(prepare_rows(again, tmp_path, 10).rows) == 10
    assert len(prepare_rows(again, tmp_path, 4).rows) == 4
    assert again.read == []
    longer = Colours(40)
    assert len(prepare_rows(longer, tmp_path, 15).rows) == 15
    assert longer.read == list(range(10, 15))


@pytest.mark.parametrize("fails_at", [0, 1, 7])
def test_a_broken_off_run_goes_on_and_ends_with_the_same_files(tmp_path: Path, fails_at: int) -> None:
    prepare_rows(Colours(12), tmp_path / "whole", 12)
    with pytest.raises(OSError, match="broke"):
        prepare_rows(Colours(12, fails_at=fails_at), tmp_path / "broken", 12)
    rest = Colours(12)
    prepare_rows(rest, tmp_path / "broken", 12)
    assert rest.read == list(range(fails_at, 12))
    assert files(tmp_path / "broken") == files(tmp_path / "whole")


@pytest.mark.parametrize("cut", [1, 30, 150, 400])
def test_a_manifest_torn_anywhere_is_made_whole_again(tmp_path: Path, cut: int) -> None:
    prepare_rows(Colours(12), tmp_path, 12)
    before = files(tmp_path)
    content = manifest(tmp_path).read_bytes()
    manifest(tmp_path).write_bytes(content[:-cut])
    assert len(prepare_rows(Colours(12), tmp_path, 12).rows) == 12
    assert files(tmp_path) == before


@pytest.mark.parametrize("damage", ["gone", "short", "caption"])
def test_a_lost_or_shortened_file_is_made_again(tmp_path: Path, damage: str) -> None:
    path = prepare_rows(Colours(5), tmp_path, 5).rows[3].path
    assert path is not None
    before = files(tmp_path)
    if damage == "gone":
        path.unlink()
    elif damage == "short":
        path.write_bytes(b"")
    else:
        path.with_name("00003_caption.txt").unlink()
    prepare_rows(Colours(5), tmp_path, 5)
    assert files(tmp_path) == before


def test_another_data_set_is_refused_and_both_are_named(tmp_path: Path) -> None:
    prepare_rows(Colours(5), tmp_path, 5)
    before = files(tmp_path)
    with pytest.raises(ValueError, match=r"colours of 5.*colours of 6.*OUTPUT_DIR.*FRESH=1") as caught:
        prepare_rows(Colours(6), tmp_path, 5)
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == before


def test_files_of_somebody_else_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "input" / "train").mkdir(parents=True)
    (tmp_path / "input" / "train" / "00000_input.png").write_bytes(b"theirs")
    with pytest.raises(ValueError, match=r"no manifest\.jsonl"):
        prepare_rows(Colours(5), tmp_path, 5)


def test_a_manifest_without_its_first_line_is_refused(tmp_path: Path) -> None:
    prepare_rows(Colours(5), tmp_path, 5)
    manifest(tmp_path).write_text("{\n")
    with pytest.raises(ValueError, match="damaged"):
        prepare_rows(Colours(5), tmp_path, 5)


def test_the_end_of_a_finite_set_is_recorded(tmp_path: Path) -> None:
    prepared = prepare_rows(Colours(5), tmp_path, 20)
    assert (len(prepared.rows), prepared.exhausted) == (5, True)
    again = Colours(5, fails_at=5)
    assert prepare_rows(again, tmp_path, 20) == prepared
    assert not prepare_rows(again, tmp_path, 4).exhausted
    with pytest.raises(ValueError, match="no rows"):
        prepare_rows(Colours(0), tmp_path / "empty", 20)


def test_progress_counts_what_was_there_and_what_is_made(tmp_path: Path) -> None:
    prepare_rows(Colours(9), tmp_path, 2)
    told: list[tuple[int, int]] = []
    prepare_rows(Colours(9), tmp_path, 4, lambda done, total: told.append((done, total)))
    assert told == [(2, 4), (3, 4), (4, 4)]


@pytest.fixture
def small(tmp_path: Path) -> PreparedRows:
    return prepare_rows(Colours(3, broken=(1,)), tmp_path, 10)


def test_rows_give_prompts_and_a_reference_that_belongs_to_them(small: PreparedRows) -> None:
    assert small.prompts.prompts == tuple(Prompt(row, f"colour {row}", row % 2) for row in range(3))
    assert (small.prompts.name, small.prompts.identity) == ("Colours", "colours of 3")
    assert (small.prompts.label_names, small.prompts.exhausted) == (("even", "odd"), True)
    assert small.reference.belongs_to == small.prompts.identity
    assert small.reference.rows == small.rows


def test_a_request_does_not_depend_on_how_many_rows_were_prepared(tmp_path: Path) -> None:
    for count in (5, 100):
        short = prepare_rows(Colours(count), tmp_path / str(count), 4).prompts
        long = prepare_rows(Colours(count), tmp_path / str(count), 9).prompts
        assert short.requests(4, 7) == long.requests(9, 7)[:4]


def test_what_a_data_set_says_of_a_row_is_its_prompts_metadata_and_not_in_the_manifest(tmp_path: Path) -> None:
    class Described(Colours):
        def metadata(self, row: int) -> dict[str, str]:
            return {"red": str(row)}

    prepare_rows(Colours(4), tmp_path / "plain", 4)
    prompts = prepare_rows(Described(4), tmp_path / "described", 4).prompts
    assert [prompt.metadata for prompt in prompts.prompts] == [{"red": str(row)} for row in range(4)]
    assert files(tmp_path / "plain") == files(tmp_path / "described")


@pytest.mark.parametrize("where", ["fails_at", "damaged"])
def test_rows_made_in_threads_are_the_same_and_lose_nothing_before_a_failure(tmp_path: Path, where: str) -> None:
    prepare_rows(Colours(60), tmp_path / "plain", 60)
    prepare_rows(Undecoded(60), tmp_path / "threads", 60)
    assert files(tmp_path / "plain") == files(tmp_path / "threads")
    with pytest.raises(OSError, match="broke"):
        prepare_rows(Undecoded(60, **{where: 33}), tmp_path / "broken", 60)
    assert len(manifest(tmp_path / "broken").read_text().splitlines()) == 1 + 33
    prepare_rows(Undecoded(60), tmp_path / "broken", 60)
    assert files(tmp_path / "broken") == files(tmp_path / "plain")


def test_few_rows_wait_for_the_threads(tmp_path: Path) -> None:
    dataset = Undecoded(255)
    prepare_rows(dataset, tmp_path, 255)
    assert dataset.most_waiting <= 2 * THREADS + 2


class Grouped(Colours):
    """Images cut from larger ones, or kept together by their names."""

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, self._count):
            image = Image.new("RGB", (2, 2), (row, 0, 0))
            yield Example(f"row {row}", image, group=f"group {row // 5}" if row < 30 else "", digest=f"{row:x}")


def test_a_group_stays_in_one_split_and_a_part_goes_by_its_whole(tmp_path: Path) -> None:
    rows = prepare_rows(Grouped(60), tmp_path, 60).rows
    for row in rows[:30]:
        assert row.split == split_of(hashlib.sha256(f"group {row.index // 5}".encode()).hexdigest())
    for row in rows[30:]:
        assert row.split == ("test" if row.index % 10 == 0 else "train")
    assert [row.digest for row in rows] == [f"{index:x}" for index in range(60)]


def test_a_row_tells_the_digest_of_its_image_and_none_without(small: PreparedRows) -> None:
    assert small.rows[0].digest == content_digest(Image.new("RGB", (3, 2)))
    assert small.rows[1].digest == ""


def test_what_another_process_has_prepared_is_taken_from_its_lines_alone(tmp_path: Path) -> None:
    written = prepare_rows(Colours(5, broken=(2,)), tmp_path / "Colours", 4)
    names = sorted(path.name for path in tmp_path.rglob("*"))
    for image in tmp_path.rglob("*_input.png"):
        image.write_bytes(b"not looked at")
    dataset = Colours(5, broken=(2,))
    again = prepare_rows(dataset, tmp_path / "Colours", 4, is_prepared=True)
    assert again == written
    assert dataset.read == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == names
    with pytest.raises(ValueError, match="colours of 5"):
        prepare_rows(Colours(6), tmp_path / "Colours", 4, is_prepared=True)
