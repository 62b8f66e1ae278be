"""Held-out rows of a fine-tuning as the prompts of a run: read in place, told apart, none of them trained on."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.decoding import content_digest
from benchmark.data.preparation import prepare_rows
from benchmark.data.run_data import Data, Sources, prepare_data
from benchmark.data.sources import open_dataset
from finetuning.held_out import read_held_out, read_training, spread
from metrics.base import ImageSet
from models.loras.files import describe_training_data

ASSETS = Path(__file__).parents[2] / "assets"


def write_own(base_dir: Path, *captions: str) -> Path:
    """Write captioned images of a user's own into base_dir/input/test and return base_dir."""
    folder = base_dir / "input" / "test"
    folder.mkdir(parents=True, exist_ok=True)
    for number, caption in enumerate(captions):
        Image.new("RGB", (4, 4), (50 * number, 0, 0)).save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption)
    return base_dir


def prepared_emoji(folder: Path, rows: int) -> Path:
    prepare_rows(open_dataset("emoji", assets=ASSETS, seed=0), folder / "Emoji", rows)
    return folder / "Emoji"


def prepare(base_dir: Path, output: Path, count: int, trained: tuple[list[str], list[str]] = ([], [])) -> Data:
    """Return the data of a run over held-out rows; trained: digests of images and captions of a LoRA."""
    seen = {"PixArt+LoRA": describe_training_data("mine", *trained)}
    return prepare_data(Sources(read_held_out(base_dir)), output, count, count, seen)


def test_rows_are_read_where_they_lie(tmp_path: Path) -> None:
    base_dir = write_own(tmp_path / "mine", "a cat", "a dog", "a tree")
    data = prepare(base_dir, tmp_path / "out", 2)
    assert [prompt.text for prompt in data.prompts.prompts] == ["a cat", "a dog"]
    assert data.reference is not None
    assert data.reference.targets([0, 1]) == tuple(base_dir / "input" / "test" / f"{n}.png" for n in range(2))
    assert data.prompts.name == "mine"
    assert not (tmp_path / "out").exists(), "nothing is copied"


@pytest.mark.parametrize("what", ["image", "caption"])
def test_a_row_that_was_trained_on_is_left_out_of_prompts_and_references(tmp_path: Path, what: str) -> None:
    base_dir = write_own(tmp_path / "mine", "a cat", "a dog", "a tree")
    digest = content_digest(Image.new("RGB", (4, 4), (50, 0, 0)))
    trained = ([digest], []) if what == "image" else ([], ["a dog"])
    data = prepare(base_dir, tmp_path / "out", 2, trained)
    assert [prompt.text for prompt in data.prompts.prompts] == ["a cat", "a tree"]
    assert data.reference is not None
    assert [path.name for path in data.reference.images(9).paths] == ["0.png", "2.png"]
    assert "1 of 3 rows" in data.note
    assert data.digest, "the columns have folders of their own"


def test_rows_that_were_nearly_all_trained_on_leave_their_mark_on_the_scores(tmp_path: Path) -> None:
    base_dir = write_own(tmp_path / "mine", "a cat", "a dog", "a tree")
    data = prepare(base_dir, tmp_path / "out", 3, ([], ["a cat", "a dog"]))
    assert len(data.prompts.prompts) == 3
    assert "its scores say nothing about new images" in data.leaks["PixArt+LoRA"]


def test_an_image_is_known_by_the_source_that_the_manifest_tells(tmp_path: Path) -> None:
    base_dir = prepared_emoji(tmp_path, 60)
    whole = read_held_out(base_dir)
    assert len(whole.rows) > 2
    path = whole.rows[0].path
    assert path is not None
    assert whole.rows[0].digest == content_digest(Image.open(path).convert("RGB"))
    Image.new("RGB", (4, 4)).save(path)  # as a crop would be: its own content is another
    assert read_held_out(base_dir).rows[0].digest == whole.rows[0].digest
    data = prepare(base_dir, tmp_path / "out", 2, ([whole.rows[0].digest], []))
    assert [prompt.row for prompt in data.prompts.prompts] == [1, 2]


def test_rows_that_are_added_to_a_data_set_follow_the_others(tmp_path: Path) -> None:
    few = read_held_out(prepared_emoji(tmp_path, 60))
    more = read_held_out(prepared_emoji(tmp_path, 120))
    assert more.rows[: len(few.rows)] == few.rows
    assert len(more.rows) > len(few.rows)
    assert more.identity == few.identity, "a report goes on with more captions"


def test_a_folder_of_ones_own_is_another_once_a_caption_is(tmp_path: Path) -> None:
    before = read_held_out(write_own(tmp_path / "mine", "a cat", "a dog")).identity
    assert read_held_out(write_own(tmp_path / "mine", "a cat", "a dog")).identity == before
    assert read_held_out(write_own(tmp_path / "mine", "a cat", "a dogfish")).identity != before


def test_rows_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    folder = write_own(tmp_path / "mine", "a cat") / "input" / "test"
    (folder / "metadata.csv").write_text("file_name,text\n0.png,a cat\n../../../elsewhere.png,a dog\n")
    with pytest.raises(ValueError, match=r"1 of 2 rows of .* cannot be used: ") as caught:
        read_held_out(tmp_path / "mine")
    assert "\n" not in str(caught.value)
    (folder / "metadata.csv").unlink()
    (folder / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png does not decode .*: replace or remove it with its caption"):
        read_held_out(tmp_path / "mine")


def test_a_share_of_the_training_images_is_spread_evenly(tmp_path: Path) -> None:
    images = ImageSet("all", tuple(Path(f"{number}.png") for number in range(10)), tuple("abcdefghij"))
    assert spread(images, 4) == ImageSet(
        "all", (Path("0.png"), Path("2.png"), Path("5.png"), Path("7.png")), ("a", "c", "f", "h")
    )
    assert spread(images, 99) == images
    base_dir = prepared_emoji(tmp_path, 60)
    assert len(read_training(base_dir, 5)) == 5
    held_out = {row.path for row in read_held_out(base_dir).rows}
    assert held_out.isdisjoint(read_training(base_dir).paths)
