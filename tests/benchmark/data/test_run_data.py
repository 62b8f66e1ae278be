"""A run's prompts and references: of one data set, or each of its own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.run_data import Data, Sources, open_sources, prepare_data
from benchmark.data.sources import DATASETS

ASSETS = Path(__file__).parents[3] / "assets"


def open_both(dataset: Path | str, reference: Path | str = "", **columns: str) -> Sources:
    return open_sources(str(dataset), str(reference), assets=ASSETS, seed=0, **columns)


def folder_of(path: Path, *captions: str | None) -> Path:
    """Write a folder with an image for each caption, each of another colour; None: without one."""
    path.mkdir(parents=True)
    for number, caption in enumerate(captions):
        Image.new("RGB", (4, 4), (number, len(captions), 0)).save(path / f"{number}.png")
        if caption is not None:
            (path / f"{number}.txt").write_text(caption)
    return path


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.txt"
    path.write_text("a cat\na dog\n\na cat\n")
    return path


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    np.savez(tmp_path / "stats.npz", mu=np.zeros(3), sigma=np.eye(3))
    return tmp_path / "stats.npz"


def prepare(sources: Sources, output: Path, rows: int = 3, references: int = 5) -> Data:
    return prepare_data(sources, output, rows, references)


def test_a_captioned_data_set_gives_prompts_and_their_own_references(tmp_path: Path) -> None:
    sources = open_both("robots")
    data = prepare(sources, tmp_path)
    assert data.reference is not None
    assert (len(data.prompts.prompts), len(data.reference.rows)) == (5, 5)
    assert data.reference.targets([0, 4]) == (data.reference.rows[0].path, data.reference.rows[4].path)
    assert sources.inputs(tmp_path, 3, 5) == ((tmp_path / "Robots" / "input", 5),)
    assert set(data.prompts.prompts[0].metadata) > {"colour", "head"}


def test_two_images_of_one_caption_are_each_the_target_of_their_own_row(tmp_path: Path) -> None:
    data = prepare(open_both(folder_of(tmp_path / "mine", "a cat", "a cat")), tmp_path / "out", 2, 2)
    assert data.reference is not None
    targets = data.reference.targets([0, 1])
    assert targets is not None
    assert [path.name for path in targets if path] == ["00000_input.png", "00001_input.png"]


def test_a_file_of_prompts_has_no_reference_and_writes_nothing(texts: Path, tmp_path: Path) -> None:
    sources = open_both(texts)
    data = prepare(sources, tmp_path / "out")
    assert [prompt.text for prompt in data.prompts.prompts] == ["a cat", "a dog", "a cat"]
    assert data.prompts.requests(5, 0)[4].prompt == "a dog"
    assert (data.reference, data.note) == (None, "1 blank line of prompts.txt skipped")
    assert sources.inputs(tmp_path / "out", 3, 5) == ()
    assert sources.adopted(tmp_path / "out") == sources
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dataset", ["prompts.txt", "robots"])
def test_a_reference_of_its_own_does_not_belong_to_the_prompts(texts: Path, tmp_path: Path, dataset: str) -> None:
    name = str(texts) if dataset == "prompts.txt" else dataset
    sources = open_both(name, folder_of(tmp_path / "mine", "a cat", "a dog", "a cat"))
    data = prepare(sources, tmp_path / "out")
    assert data.reference is not None
    assert (data.reference.name, len(data.reference.images(10))) == ("mine", 3)
    assert data.reference.targets([0, 1]) is None
    assert len(data.prompts.prompts) == 3
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"mine"} | (
        set() if texts == Path(name) else {"Robots"}
    )
    assert sources.inputs(tmp_path / "out", 3, 5)[-1] == (tmp_path / "out" / "mine" / "input", 5)


def test_a_run_without_scores_needs_no_reference_of_its_own(texts: Path, tmp_path: Path) -> None:
    sources = open_both(texts, "robots")
    assert prepare(sources, tmp_path / "out", references=0).reference is None
    assert sources.inputs(tmp_path / "out", 3, 0) == ()
    assert not (tmp_path / "out").exists()
    own = prepare(open_both("robots"), tmp_path / "out", references=0)
    assert own.reference is not None
    assert len(own.reference.rows) == 3


def test_the_data_set_itself_as_reference_is_as_without_one(tmp_path: Path) -> None:
    mine = folder_of(tmp_path / "mine", "a cat")
    (tmp_path / "link").symlink_to("mine")
    assert open_both("robots", "robots").reference is None
    assert open_both(mine, f"{mine}/.").reference is None
    assert open_both(mine, tmp_path / "link").reference is None
    assert open_both("org/set", "org/set", caption_column="blurb").reference is None


def test_images_without_captions_are_a_reference_and_no_data_set(texts: Path, tmp_path: Path) -> None:
    bare = folder_of(tmp_path / "bare", "a cat", None)
    data = prepare(open_both(texts, bare), tmp_path / "out")
    assert data.reference is not None
    assert data.reference.images(5).captions == ("a cat", "")
    with pytest.raises(ValueError, match=r"1 of 2 images .* have no caption"):
        open_both(bare)


def test_a_table_may_name_images_without_captions_for_a_reference(texts: Path, tmp_path: Path) -> None:
    bare = folder_of(tmp_path / "bare", None, None)
    (bare / "metadata.csv").write_text("file_name\n1.png\n0.png\n")
    data = prepare(open_both(texts, bare), tmp_path / "out")
    assert data.reference is not None
    assert [row.path is not None for row in data.reference.rows] == [True, True]


def test_statistics_are_a_reference_without_images(texts: Path, statistics: Path, tmp_path: Path) -> None:
    data = prepare(open_both(texts, statistics), tmp_path / "out")
    assert data.reference is not None
    assert (data.reference.name, data.reference.statistics) == ("stats", statistics)
    assert (len(data.reference.images(5)), data.reference.targets([0])) == (0, None)
    paired = prepare(open_both("robots", statistics), tmp_path / "out")
    assert paired.reference == data.reference
    assert len(paired.prompts.prompts) == 3


@pytest.mark.parametrize("arrays", [{"mu": np.zeros(3)}, {"mu": np.zeros(3), "sigma": np.eye(2)}, {"a\nb": np.eye(2)}])
def test_statistics_that_are_none_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(tmp_path / "stats.npz", **arrays)
    with pytest.raises(ValueError, match=r"stats\.npz holds .*expected mu of \(D,\) and sigma of \(D, D\)") as caught:
        open_both("robots", tmp_path / "stats.npz")
    assert "\n" not in str(caught.value)


def test_an_archive_of_images_is_no_statistics_and_the_line_says_what_reads_it(tmp_path: Path) -> None:
    np.savez(tmp_path / "samples.npz", np.zeros((4, 8, 8, 3), np.uint8), np.arange(4))
    with pytest.raises(ValueError, match=r"samples\.npz holds images \(arr_0 of \(4, 8, 8, 3\)\).*score_folder\.py$"):
        open_both("robots", tmp_path / "samples.npz")


def test_two_data_sets_of_one_name_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    one, two = folder_of(tmp_path / "a" / "x", "a cat"), folder_of(tmp_path / "b" / "x", "a dog")
    with pytest.raises(ValueError, match=r"two data sets called x.*rename one of them"):
        open_both(one, two)


def test_a_reference_that_another_run_left_under_this_name_is_refused(texts: Path, tmp_path: Path) -> None:
    prepare(open_both(texts, folder_of(tmp_path / "a" / "x", "a cat")), tmp_path / "out")
    with pytest.raises(ValueError, match=r"holds the data set .*now asked is"):
        prepare(open_both(texts, folder_of(tmp_path / "b" / "x", "a dog")), tmp_path / "out")


def test_columns_go_to_where_the_images_and_the_prompts_are(texts: Path, tmp_path: Path) -> None:
    bare = folder_of(tmp_path / "bare", None)
    (bare / "metadata.csv").write_text("picture\n0.png\n")
    assert prepare(open_both(texts, bare, image_column="picture"), tmp_path / "out").reference is not None
    with pytest.raises(ValueError, match=r"IMAGE_COLUMN=picture: DATASET=.* holds no images"):
        open_both(texts, image_column="picture")


def test_a_prompt_set_can_be_one_line_of_the_registry(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mine = PromptSet("Mine", "mine 1", (), (Prompt(0, "a cat"),), exhausted=True)
    monkeypatch.setitem(DATASETS, "mine", lambda _: mine)
    data = prepare(open_both("mine"), tmp_path)
    assert data.prompts.requests(2, 0)[1].prompt == "a cat"
    for dataset in ("robots", "mine"):
        with pytest.raises(ValueError, match="mine is prompts without images"):
            open_both(dataset, "mine")
