"""The folder of references: what is ours, what is damaged and made again, and what FRESH=1 may delete."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data import manifest as manifests
from benchmark.data.preparation import PreparedRows, prepare_rows
from benchmark.data.sources.base import Example
from files.locks import LOCK_NAME, locked
from scripts.measuring.damaging import copy_tree, damage


class Colours:
    """Captioned images of `count` colours; two of them do not decode."""

    name = "Colours"
    label_names: tuple[str, ...] = ("even", "odd")

    def __init__(self, count: int = 12, identity: str = "colours") -> None:
        self.identity, self._count = identity, count

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, self._count):
            broken = row in (3, 7)
            image = None if broken else Image.new("RGB", (4, 3), (row, 0, 0))
            yield Example(f"colour {row} ünï", image, row % 2, "damaged" if broken else "")


def prepare(folder: Path, rows: int = 10, dataset: Colours | None = None) -> tuple[PreparedRows, list[str]]:
    notes: list[str] = []
    return prepare_rows(dataset or Colours(), folder, rows, announce=notes.append), notes


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("Colours")
    prepare(folder, 20)
    return folder


def test_damage_at_random_places_is_seen_and_made_again(made: Path, tmp_path: Path) -> None:
    moments = random.Random(5)
    whole = contents(made)
    names = sorted(name for name in whole if name.endswith((".png", ".txt")))
    refused = 0
    for _ in range(250):
        folder = copy_tree(made, tmp_path / "damaged")
        name = moments.choice(("input/manifest.jsonl", "input/manifest.jsonl", *moments.sample(names, 1)))
        done = damage(folder / name, moments)
        before = contents(folder)
        refusal = ""
        try:
            reference, notes = prepare(folder, 20)
        except ValueError as error:
            refusal = str(error)
        if refusal:
            refused += 1
            assert "OUTPUT_DIR" in refusal, done
            assert "\n" not in refusal
            assert contents(folder) == before, f"{done}: a refusal changed a file"
            continue
        # A caption is the user's to edit: it is kept as it is, and told.
        expected = {**whole, name: before[name]} if name.endswith(".txt") else whole
        assert contents(folder) == expected, done
        assert [row.index for row in reference.rows] == list(range(12)), done
        assert notes or before == whole or done.startswith("truncate"), f"{done}: made again without a word"
    assert refused <= 25, "only where the first line and others are gone together"


def test_a_damaged_first_line_is_written_again_where_the_rows_tell_what_it_said(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "copy")
    path = folder / "input" / "manifest.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0].replace("Colours", "colours"), *lines[1:]]) + "\n")
    _, notes = prepare(folder, 20)
    assert notes == [f"{path} is damaged in line 1, which is written again"]
    assert contents(folder) == contents(made)


def test_rows_of_another_data_set_never_pass_for_this_ones(made: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    prepare(other, 20, Colours(identity="other colours"))
    folder = copy_tree(made, tmp_path / "copy")
    header = (other / "input" / "manifest.jsonl").read_text().splitlines()[0]
    rows = (folder / "input" / "manifest.jsonl").read_text().splitlines()[1:]
    (folder / "input" / "manifest.jsonl").write_text("\n".join([header, *rows]) + "\n")
    _, notes = prepare(folder, 20, Colours(identity="other colours"))
    assert "the rows are made again" in notes[0]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]\n", b"null\nnull\n", b"\xff\xfe\n"])
def test_a_manifest_that_says_nothing_is_refused_and_the_files_stay(made: Path, tmp_path: Path, content: bytes) -> None:
    folder = copy_tree(made, tmp_path / "copy")
    (folder / "input" / "manifest.jsonl").write_bytes(content)
    before = contents(folder)
    with pytest.raises(ValueError, match="OUTPUT_DIR"):
        prepare(folder, 20)
    assert contents(folder) == before


def test_a_users_image_at_the_name_of_a_row_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "Colours"
    prepare(folder, 4)
    Image.new("RGB", (2, 2)).save(folder / "input" / "train" / "00008_input.png")
    before = contents(folder)
    with pytest.raises(ValueError, match=r"00008_input\.png"):
        prepare(folder, 20)
    assert contents(folder) == before
    assert prepare(folder, 6)[0].rows, "a run that does not write it does not mind it"


def test_fresh_deletes_what_the_manifest_names_and_nothing_else(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "copy") / "input"
    for name in ("data.csv", "train/00099_input.png", "train/mine.png"):
        (folder / name).write_bytes(b"theirs")
    manifests.clear(folder, 20)
    assert sorted(contents(folder)) == ["data.csv", "train/00099_input.png", "train/mine.png"]
    with pytest.raises(ValueError, match=r"FRESH=1 deletes nothing.*no manifest\.jsonl.*00099_input\.png"):
        manifests.clear(folder)


def test_fresh_deletes_nothing_where_the_first_line_is_damaged(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "copy") / "input"
    path = folder / "manifest.jsonl"
    path.write_bytes(b"x" + path.read_bytes())
    before = contents(folder)
    with pytest.raises(ValueError, match=r"FRESH=1 deletes nothing.*damaged"):
        manifests.clear(folder)
    assert contents(folder) == before


def test_a_symlinked_folder_of_references_is_cleared_through_the_link(made: Path, tmp_path: Path) -> None:
    copy_tree(made, tmp_path / "disk")
    (tmp_path / "out" / "Colours").mkdir(parents=True)
    (tmp_path / "out" / "Colours" / "input").symlink_to(tmp_path / "disk" / "input")
    manifests.clear(tmp_path / "out" / "Colours" / "input")
    assert contents(tmp_path / "disk") == {}


def _prepare_in(folder: str, ready: object, count: int) -> None:
    ready.wait()  # type: ignore[attr-defined]
    prepare(Path(folder), count, Colours(60))


def test_processes_that_prepare_at_once_write_each_row_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Barrier(3)
    processes = [context.Process(target=_prepare_in, args=(str(tmp_path), ready, 60)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    lines = (tmp_path / "input" / "manifest.jsonl").read_text().splitlines()
    assert [json.loads(line).get("index") for line in lines[1:]] == list(range(60))


def test_who_waits_for_another_process_says_which(tmp_path: Path) -> None:
    import threading

    prepare(tmp_path, 2)
    notes: list[str] = []
    told = threading.Event()

    def announce(message: str) -> None:
        notes.append(message)
        told.set()

    with locked(tmp_path / "input", "prepares reference images"):
        waiting = threading.Thread(target=prepare_rows, args=(Colours(), tmp_path, 4), kwargs={"announce": announce})
        waiting.start()
        assert told.wait(20)
        assert len((tmp_path / "input" / "manifest.jsonl").read_text().splitlines()) == 3
    waiting.join(20)
    assert f"process {os.getpid()} on" in notes[0]
    assert "prepares reference images" in notes[0]
    assert len((tmp_path / "input" / "manifest.jsonl").read_text().splitlines()) == 5


def test_references_of_an_earlier_version_are_refused_as_such(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "copy")
    path = folder / "input" / "manifest.jsonl"
    rows = path.read_text().splitlines()[1:]
    path.write_text("\n".join(['{"schema_version": 1, "identity": "colours", "label_names": []}', *rows]) + "\n")
    with pytest.raises(ValueError, match=r"another version of this program \(manifest version \[1\], now \[2\]\)"):
        prepare(folder, 20)


def test_a_caption_that_was_edited_is_kept_and_told_and_spared_by_fresh(made: Path, tmp_path: Path) -> None:
    folder = copy_tree(made, tmp_path / "copy")
    caption = next((folder / "input" / "train").glob("*_caption.txt"))
    caption.write_text("a better caption\n")
    _, notes = prepare(folder, 20)
    assert f"{caption.parent.name}/{caption.name} differ from the data set's captions; they are kept" in notes[0]
    assert caption.read_text() == "a better caption\n"
    before = contents(folder)
    with pytest.raises(ValueError, match=rf"FRESH=1 deletes nothing.*{caption.name} would be left.*edited"):
        manifests.clear(folder / "input", 20)
    assert contents(folder) == before


@pytest.mark.parametrize("fault", ["damaged line", "linked split"])
def test_fresh_deletes_nothing_where_the_next_run_would_be_refused(made: Path, tmp_path: Path, fault: str) -> None:
    folder = copy_tree(made, tmp_path / "copy") / "input"
    if fault == "damaged line":
        lines = (folder / "manifest.jsonl").read_text().splitlines()
        lines[5] = lines[5].replace('"index": ', '"index": 1')
        (folder / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    else:
        (folder / "train").rename(tmp_path / "elsewhere")
        (folder / "train").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=r"FRESH=1 deletes nothing.*would be left"):
        manifests.clear(folder, 20)
    assert contents(tmp_path) == before
