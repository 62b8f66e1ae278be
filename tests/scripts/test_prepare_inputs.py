"""Preparing and back-filling inputs by the scripts, as they are called."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from local_wikiart import write_wikiart
from PIL import Image

from scripts.pixart_scripts.common import back_fill_inputs, prepare_inputs
from scripts.pixart_scripts.common.make_imagefolder_metadata import write_metadata

ROOT = Path(__file__).parents[2]
WIKIART = "scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py"


@pytest.fixture(scope="module")
def wikiart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of two shards in the hub's layout, of JPEGs that take a while to convert."""
    return write_wikiart(tmp_path_factory.mktemp("data") / "some paintings")


def state(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Return each file's content and time of its last change."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (content, _) in state(folder).items()}


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"} | more


def wikiart_command(output_dir: Path, count: int = 20) -> list[str]:
    return [sys.executable, WIKIART, "--num_samples", str(count), "--seed", "42", "--output_dir", str(output_dir)]


@pytest.fixture(scope="module")
def undisturbed(wikiart: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output folder of one whole run of the wikiart script, and what it printed."""
    output_dir = tmp_path_factory.mktemp("undisturbed")
    told = subprocess.run(
        wikiart_command(output_dir), cwd=ROOT, env=environment(WIKIART_DATASET=str(wikiart)),
        capture_output=True, text=True,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
    return output_dir, told.stdout


def test_wikiart_is_stratified_cropped_captioned_and_split(undisturbed: tuple[Path, str]) -> None:
    output_dir, printed = undisturbed
    folder = output_dir / "WikiArt" / "input"
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()][1:]
    assert Counter(line["label"] for line in lines) == {0: 6, 1: 6, 2: 6, 3: 2}
    images = sorted(path for split in ("train", "test") for path in (folder / split).glob("*_input.png"))
    assert len(images) == 19  # and a broken one
    for path in images:
        with Image.open(path) as image:
            assert image.size == (512, 512)
        caption = path.with_name(path.name.replace("_input.png", "_caption.txt")).read_text()
        assert caption.startswith("Artist: Unknown Artist, Style: ")
    assert printed.count("\n") == 1
    assert "2 to 6 of each of 4 labels, 1 of 20 rows without an image that decodes" in printed
    trained = {line["sha256"] for line in lines if line["split"] == "train"}
    assert trained.isdisjoint(line["sha256"] for line in lines if line["split"] == "test")


def test_a_second_call_changes_nothing_and_needs_no_data(
    undisturbed: tuple[Path, str], wikiart: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    output_dir, printed = undisturbed
    before = state(output_dir)
    monkeypatch.setattr("datasets.load_dataset", None)
    flags = ["--dataset", str(wikiart), "--num_samples", "20", "--output_dir", str(output_dir)]
    assert prepare_inputs.main(flags, name="WikiArt", stratify=True) == 0
    assert capsys.readouterr().out == printed
    assert state(output_dir) == before


def test_a_killed_run_goes_on_and_ends_with_the_same_files(
    undisturbed: tuple[Path, str], wikiart: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "WikiArt" / "input" / "manifest.jsonl"
    command = wikiart_command(tmp_path)
    process = subprocess.Popen(  # at a low priority: on a busy machine it is not done before this process sees a row
        ["nice", *command], cwd=ROOT, env=environment(WIKIART_DATASET=str(wikiart)), stderr=subprocess.DEVNULL
    )
    while not (manifest.is_file() and manifest.read_bytes().count(b"\n") > 4):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    kept = manifest.read_bytes().count(b"\n")
    assert kept < 21
    before = state(tmp_path)
    flags = ["--dataset", str(wikiart), *command[2:]]
    assert prepare_inputs.main(flags, name="WikiArt", stratify=True) == 0
    assert contents(tmp_path) == contents(undisturbed[0])
    first = json.loads(manifest.read_text().splitlines()[1])["file"]
    name = f"WikiArt/input/{first}"
    assert state(tmp_path)[name] == before[name]  # not made again


def test_the_result_is_what_the_metadata_script_takes(wikiart: Path, tmp_path: Path) -> None:
    flags = ["--dataset", str(wikiart), "--num_samples", "12", "--image_size", "16", "--output_dir", str(tmp_path)]
    assert prepare_inputs.main([*flags, "--stratify"]) == 0
    count, written = write_metadata(tmp_path / wikiart.name / "input" / "train")
    assert written
    assert count > 6
    before = state(tmp_path)
    assert prepare_inputs.main([*flags, "--stratify"]) == 0  # metadata.jsonl is no reason to begin again
    assert state(tmp_path) == before


def test_a_folder_of_plain_rows_is_not_made_into_a_sample(
    wikiart: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--dataset", str(wikiart), "--num_samples", "3", "--output_dir", str(tmp_path)]
    assert prepare_inputs.main(flags) == 0
    sizes = {Image.open(path).size[1] for path in tmp_path.rglob("*.png")}
    assert sizes == {600}  # plain rows are as they are
    before = state(tmp_path)
    assert prepare_inputs.main([*flags, "--stratify"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("prepare_inputs: ")
    assert "--output_dir" in told
    assert state(tmp_path) == before


def test_what_has_no_labels_is_not_stratified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare_inputs.main(["--dataset", "emoji", "--stratify", "--output_dir", str(tmp_path)]) == 2
    assert "--no-stratify" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def small_set(folder: Path, count: int) -> Path:
    folder.mkdir()
    for row in range(count):
        Image.new("RGB", (4, 4), (row, 0, 0)).save(folder / f"{row:02d}.png")
        (folder / f"{row:02d}.txt").write_text(f"colour {row}")
    return folder


def generated(output_dir: Path, model: str, *indices: int) -> None:
    (output_dir / model / "output").mkdir(parents=True)
    for index in indices:
        (output_dir / model / "output" / f"{index:05d}.png").write_bytes(b"")


def input_indices(folder: Path) -> list[int]:
    return sorted(int(path.name[:5]) for path in folder.rglob("*_input.png"))


@pytest.mark.parametrize(("highest", "rows"), [(5, 6), (8, 9), (30, 9)])
def test_back_fill_writes_each_row_once_also_where_indices_go_beyond_the_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], highest: int, rows: int
) -> None:
    source = small_set(tmp_path / "Colours", 9)
    output_dir = tmp_path / "out"
    generated(output_dir, "SDXL", 0, 2)
    generated(output_dir, "PixArt", 1, highest)
    flags = ["--dataset", str(source), "--output_dir", str(output_dir)]
    assert back_fill_inputs.main(flags) == 0
    assert f"only {highest + 1} rows, since the images under" in capsys.readouterr().err
    folder = output_dir / "Colours" / "input"
    assert input_indices(folder) == list(range(rows))
    for caption in folder.rglob("*_caption.txt"):
        assert caption.read_text().strip() == f"colour {int(caption.name[:5])}"
    before = state(output_dir)
    assert back_fill_inputs.main(flags) == 0
    assert state(output_dir) == before


def test_back_fill_without_any_output_prepares_so_many_rows(tmp_path: Path) -> None:
    source = small_set(tmp_path / "Colours", 9)
    flags = ["--dataset", str(source), "--output_dir", str(tmp_path / "out"), "--name", "Mine", "--num_rows", "4"]
    assert back_fill_inputs.main(flags) == 0
    assert input_indices(tmp_path / "out" / "Mine" / "input") == [0, 1, 2, 3]


def test_back_fill_leaves_captioned_images_of_another_origin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = small_set(tmp_path / "Colours", 9)
    train = tmp_path / "out" / "Colours" / "input" / "train"
    train.mkdir(parents=True)
    (train.parent / "test").mkdir()
    for index in range(2):
        Image.new("RGB", (4, 4)).save(train / f"{index:05d}_input.png")
        (train / f"{index:05d}_caption.txt").write_text("theirs")
    flags = ["--dataset", str(source), "--output_dir", str(tmp_path / "out")]
    before = state(tmp_path)
    assert back_fill_inputs.main(flags) == 0
    assert "2 in train, all captioned" in capsys.readouterr().out
    assert state(tmp_path) == before
    (train / "00001_caption.txt").unlink()
    assert back_fill_inputs.main(flags) == 2
    assert "00001_input.png" in capsys.readouterr().err


def test_back_fill_goes_on_with_a_selection_that_lies_there(wikiart: Path, tmp_path: Path) -> None:
    flags = ["--dataset", str(wikiart), "--output_dir", str(tmp_path)]
    assert prepare_inputs.main([*flags, "--num_samples", "8", "--image_size", "16", "--stratify"]) == 0
    generated(tmp_path, "PixArt", 11)
    assert back_fill_inputs.main(flags) == 0
    manifest = tmp_path / wikiart.name / "input" / "manifest.jsonl"
    assert manifest.read_bytes().count(b"\n") == 13
    assert {Image.open(path).size for path in manifest.parent.rglob("*_input.png")} == {(16, 16)}
