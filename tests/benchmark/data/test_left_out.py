"""What is no row is counted on stderr and in the note for the footer, and named in the manifest and by --check."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import Features, Image, Value
from PIL import Image as Pillow
from table_files import cell, png, write_shards

from benchmark.data.left_out import MOST_LISTED, describe_left_out
from benchmark.data.run_data import Data, Sources, open_sources, prepare_data
from benchmark.settings.preconditions import refuse_bare

ASSETS = Path(__file__).parents[3] / "assets"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Five images, of which the table names four, one of them without a caption; one of its rows has no image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(5):
        Pillow.new("RGB", (4, 4), (40 * number, 0, 0)).save(folder / f"{number}.jpg")
    rows: list[dict[str, Any]] = [{"file": f"{name}.jpg", "caption": f"image {name}"} for name in (0, "lost", 2, 3)]
    rows.insert(1, {"file": "1.jpg", "caption": None})
    (folder / "captions.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    (folder / "notes.doc").write_text("words")
    return folder


def open_one(dataset: Path, reference: str = "") -> Sources:
    return open_sources(str(dataset), reference, assets=ASSETS, seed=0)


def prepare(dataset: Path, output: Path, rows: int = 10) -> tuple[Data, list[str]]:
    told: list[str] = []
    return prepare_data(open_one(dataset), output, rows, rows, announce=told.append), told


def manifest(output: Path) -> list[dict[str, Any]]:
    lines = (output / "photos" / "input" / "manifest.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_no_row_is_announced_noted_and_named_in_the_manifest(photos: Path, tmp_path: Path) -> None:
    data, told = prepare(photos, tmp_path / "out")
    found = (
        "photos: 7 files, 5 used, 2 files or rows of tables left out: 1 (4.jpg): captions.jsonl does not name it; "
        "1 (notes.doc): no image that can be opened"
    )
    assert told == [found]
    assert data.note == (
        f"{found} (input/manifest.jsonl names all); 1 row of photos without a caption left out "
        "(see input/manifest.jsonl)"
    )
    lines = manifest(tmp_path / "out")
    assert [(line["left_out"], line["reason"]) for line in lines if "left_out" in line] == [
        ("4.jpg", "captions.jsonl does not name it"),
        ("notes.doc", "no image that can be opened"),
    ]
    errors = {line["index"]: line["error"] for line in lines if line.get("error")}
    assert sorted(errors) == [1, 2]
    assert "no text in column 'caption'" in errors[1]
    assert "there is no file" in errors[2]


def test_a_row_without_a_caption_is_no_prompt_and_the_others_keep_their_images(photos: Path, tmp_path: Path) -> None:
    data, _ = prepare(photos, tmp_path / "out")
    assert [(prompt.row, prompt.text) for prompt in data.prompts.prompts] == [
        (0, "image 0"), (2, "image lost"), (3, "image 2"), (4, "image 3"),
    ]  # fmt: skip
    assert data.reference is not None
    targets = data.reference.targets(range(4))
    assert targets is not None
    assert [path and path.name for path in targets] == ["00000_input.png", None, "00003_input.png", "00004_input.png"]
    assert data.prompts.exhausted


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_as_many_rows_come_as_are_asked_for_and_a_longer_run_begins_alike(
    photos: Path, tmp_path: Path, count: int
) -> None:
    data, _ = prepare(photos, tmp_path / "out", count)
    whole, _ = prepare(photos, tmp_path / "whole")
    assert data.prompts.prompts == whole.prompts.prompts[:count]
    assert ("without a caption" in data.note) == (count > 1)
    assert whole.prompts.exhausted
    assert count == 4 or not data.prompts.exhausted


def test_a_set_without_any_caption_is_one_line(tmp_path: Path) -> None:
    features = Features({"image": Image(), "text": Value("string")})
    folder = write_shards(tmp_path / "bare", [{"image": cell(png("red")), "text": None}] * 3, features, 1)
    with pytest.raises(ValueError, match=r"no row of bare has a caption \(3 were read; .*CAPTION_COLUMN"):
        prepare(folder, tmp_path / "out")


def test_a_table_of_the_hubs_kind_loses_only_the_row_without_a_caption(tmp_path: Path) -> None:
    features = Features({"image": Image(), "text": Value("string")})
    rows = [{"image": cell(png("red")), "text": text} for text in ("one", None, "caf\ufffd", "four")]
    data, told = prepare(write_shards(tmp_path / "some", rows, features, 1), tmp_path / "out")
    assert told == ["some: 1 file, all used"]
    assert [prompt.text for prompt in data.prompts.prompts] == ["one", "caf\ufffd", "four"]
    assert data.note == (
        "1 row of some without a caption left out (see input/manifest.jsonl); "
        "1 caption of some with U+FFFD in the place of what is no text"
    )


def test_the_manifest_follows_what_lies_in_the_folder_and_makes_no_row_again(photos: Path, tmp_path: Path) -> None:
    prepare(photos, tmp_path / "out")
    path = tmp_path / "out" / "photos" / "input" / "manifest.jsonl"
    before, inode = path.read_bytes(), path.stat().st_ino
    prepare(photos, tmp_path / "out")
    assert (path.read_bytes(), path.stat().st_ino) == (before, inode)
    (photos / "notes.doc").unlink()
    (photos / "more.doc").write_text("words")
    _, told = prepare(photos, tmp_path / "out")
    assert len(told) == 1, "nothing is said of damage"
    assert [line["left_out"] for line in manifest(tmp_path / "out") if "left_out" in line] == ["4.jpg", "more.doc"]
    rows = [line for line in manifest(tmp_path / "out") if "index" in line]
    assert rows == [line for line in map(json.loads, before.splitlines()) if "index" in line]


def test_a_folder_that_is_used_whole_leaves_no_note(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Pillow.new("RGB", (4, 4)).save(folder / "a.jpg")
    (folder / "a.txt").write_text("a")
    data, told = prepare(folder, tmp_path / "out")
    assert (data.note, told) == ("", ["photos: 2 files, all used"])
    assert describe_left_out(open_one(folder)) == ["files of photos: 2 files, all used"]


def test_check_names_what_is_left_out_and_the_rows_without_an_image(photos: Path) -> None:
    first, *others = describe_left_out(open_one(photos, "robots"))
    assert first.startswith("files of photos: 7 files, 5 used, 2 files or rows of tables left out: ")
    assert others[:2] == [
        "  left out: 4.jpg: captions.jsonl does not name it",
        "  left out: notes.doc: no image that can be opened",
    ]
    assert [line.partition(": ")[2].partition(": ")[0] for line in others[2:]] == ["row 1", "row 2"]
    for number in range(MOST_LISTED):
        (photos / f"{number}.bin").write_text("words")
    *_, last = describe_left_out(open_one(photos))
    assert last == "  and 4 more, which input/manifest.jsonl will name"


def test_a_folder_whose_images_have_no_suffix_is_not_taken_for_a_bare_one(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "words").write_text("words")
    with pytest.raises(ValueError, match=r"^DATASET=.* neither images nor .* \(left out: 1 \(sub/words\): no image"):
        refuse_bare(tmp_path)
    Pillow.new("RGB", (4, 4)).save(tmp_path / "sub" / "image", format="PNG")
    refuse_bare(tmp_path)


def test_what_a_reference_of_its_own_leaves_out_is_announced_and_noted(photos: Path, tmp_path: Path) -> None:
    told: list[str] = []
    sources = open_one(Path("robots"), str(photos))
    data = prepare_data(sources, tmp_path / "out", 2, 5, announce=told.append)
    assert len(told) == 1
    assert told[0].startswith("photos: 7 files, ")
    assert "1 (notes.doc): " in told[0]
    assert data.note == f"{told[0]} (input/manifest.jsonl names all)"
    unread = prepare_data(sources, tmp_path / "other", 2, 0, announce=told.append)
    assert (unread.note, len(told)) == ("", 1), "without scores the reference is not read"
