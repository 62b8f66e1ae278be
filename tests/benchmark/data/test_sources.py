"""The names that DATASET and REFERENCE take, and what they stand for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.prompts import PromptSet
from benchmark.data.sources import DATASETS, find_dataset, find_folder, find_reference, open_dataset, open_prompts
from benchmark.data.sources.base import CaptionedImages

ASSETS = Path(__file__).parents[3] / "assets"


def draw(path: Path) -> Path:
    Image.new("RGB", (6, 4), "red").save(path)
    return path


def find_both(name: Path | str) -> tuple[Path | None, Path | None]:
    return find_dataset(str(name)), find_folder(str(name))


def open_named(name: Path | str, **columns: str) -> CaptionedImages:
    return open_dataset(str(name), assets=ASSETS, seed=0, **columns)


def test_a_name_that_stands_for_nothing_is_refused_with_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="gundam, wikiart, robots, emoji"):
        open_named("gundma")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        open_named(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="is a file"):
        open_named(draw(tmp_path / "a.png"))
    with pytest.raises(ValueError, match="IMAGE_COLUMN=x"):
        open_named("robots", image_column="x")


def test_the_data_sets_that_ship_open_offline() -> None:
    assert set(DATASETS) == {"gundam", "wikiart", "robots", "emoji"}
    for name in ("robots", "emoji"):
        example = next(open_named(name).examples())
        assert example.image is not None
        assert example.caption


def test_the_registry_imports_nothing_heavy() -> None:
    code = (
        "import sys, benchmark.data.sources\n"
        "print([m for m in ('torch', 'datasets', 'PIL', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_a_file_of_prompts_is_found_and_is_no_folder(tmp_path: Path) -> None:
    for name in ("a.txt", "b.JSONL", "c.tsv", "d.csv"):
        (tmp_path / name).write_text("")
        assert find_both(tmp_path / name) == (tmp_path / name, None)
    (tmp_path / "folder.txt").mkdir()
    assert find_both(tmp_path / "folder.txt") == (tmp_path / "folder.txt", tmp_path / "folder.txt")
    assert find_both("robots") == find_both("org/name") == (None, None)


@pytest.mark.parametrize("name", ["lost.txt", "sub/lost.csv", "dangling.txt", "pipe.txt"])
def test_a_file_of_prompts_that_is_not_there_is_no_hub_id_but_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dangling.txt").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(FileNotFoundError, match=rf"DATASET={name}: (there is no such|that is no regular) file$"):
        find_dataset(name)


def test_what_a_file_must_be_for_each_of_the_two_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"DATASET=.*a\.png is a file, .*prompts as \.txt, \.jsonl, \.tsv or \.csv$"):
        find_dataset(str(draw(tmp_path / "a.png")))
    (tmp_path / "a.txt").write_text("a cat\n")
    with pytest.raises(
        ValueError, match=r"REFERENCE=.*a\.txt is a file of prompts, .*no images.* statistics as \.npz$"
    ):
        find_reference(str(tmp_path / "a.txt"))
    with pytest.raises(ValueError, match=r"a\.txt is prompts without images"):
        open_dataset(str(tmp_path / "a.txt"), assets=ASSETS, seed=0)
    assert isinstance(open_prompts(str(tmp_path / "a.txt"), assets=ASSETS, seed=0), PromptSet)
    with pytest.raises(FileNotFoundError, match=r"REFERENCE=lost\.npz"):
        find_reference("lost.npz")
    with pytest.raises(ValueError, match=r"REFERENCE=gundma is no data set; there are gundam"):
        find_reference("gundma")


def test_an_array_as_reference_is_sent_to_the_script_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"^REFERENCE=.*x\.npy is an array; .*scripts/score_folder\.py$"):
        find_reference(str(tmp_path / "x.npy"))
