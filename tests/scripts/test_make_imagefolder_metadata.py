"""metadata.jsonl of folders as the benchmark writes them: what datasets' imagefolder and our own reader make of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.sources import open_dataset
from scripts.pixart_scripts.common.make_imagefolder_metadata import write_metadata

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/pixart_scripts/common/make_imagefolder_metadata.py"
CAPTIONS = [
    "Artist: Vincent van Gogh, Style: Realism, Genre: portrait",
    "Artist: Élie, Style: Cubism, Genre: landscape",
]


def folder_of_two(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for index, caption in enumerate(CAPTIONS):
        Image.new("RGB", (8, 8), (100 * index, 0, 0)).save(folder / f"{index:05d}_input.png")
        (folder / f"{index:05d}_caption.txt").write_text(caption + "\n", encoding="utf-8")
    return folder


def run(*folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--input_dir", *map(str, folders)], cwd=ROOT, capture_output=True, text=True
    )


def test_it_is_what_imagefolder_and_our_own_reader_take(tmp_path: Path) -> None:
    from datasets import load_dataset

    train, test = folder_of_two(tmp_path / "train"), folder_of_two(tmp_path / "test")
    told = run(train, test)
    assert told.returncode == 0, told.stderr
    rows = [json.loads(line) for line in (train / "metadata.jsonl").read_text(encoding="utf-8").splitlines()]
    assert rows == [{"file_name": f"{i:05d}_input.png", "text": caption} for i, caption in enumerate(CAPTIONS)]
    loaded = load_dataset("imagefolder", data_dir=str(train), split="train", cache_dir=str(tmp_path / "cache"))
    assert [row["text"] for row in loaded] == CAPTIONS
    assert [row["image"].getpixel((0, 0))[0] for row in loaded] == [0, 100]
    ours = open_dataset(str(train), assets=ROOT / "assets", seed=0)
    assert [example.caption for example in ours.examples()] == CAPTIONS


def test_a_second_call_changes_nothing(tmp_path: Path) -> None:
    folder = folder_of_two(tmp_path / "train")
    run(folder)
    before = (folder / "metadata.jsonl").stat()
    told = run(folder)
    assert "2 images, unchanged" in told.stdout
    assert (folder / "metadata.jsonl").stat().st_mtime_ns == before.st_mtime_ns
    (folder / "00001_caption.txt").write_text("another")
    assert run(folder).stdout.endswith("2 images\n")
    assert "another" in (folder / "metadata.jsonl").read_text()


@pytest.mark.parametrize(
    "content", ['{"file_name": "00000_input.png", "text": "a", "rating": 5}\n', "my notes\n", "[1]\n"]
)
def test_a_table_that_says_more_is_not_replaced(tmp_path: Path, content: str) -> None:
    folder = folder_of_two(tmp_path / "train")
    (folder / "metadata.jsonl").write_text(content)
    with pytest.raises(ValueError, match="which would be lost: move it away") as caught:
        write_metadata(folder)
    assert "\n" not in str(caught.value)
    assert (folder / "metadata.jsonl").read_text() == content


def test_an_image_without_a_caption_is_named_and_the_other_folder_done(tmp_path: Path) -> None:
    whole, broken = folder_of_two(tmp_path / "whole"), folder_of_two(tmp_path / "broken")
    (broken / "00001_caption.txt").unlink()
    told = run(broken, whole)
    assert told.returncode == 2
    assert "00001_input.png" in told.stderr
    assert not (broken / "metadata.jsonl").exists()
    assert (whole / "metadata.jsonl").is_file()
    (broken / "00001_caption.txt").write_text(" \n")
    assert "captions in" in run(broken).stderr
    assert "no folder" in run(tmp_path / "nowhere").stderr
