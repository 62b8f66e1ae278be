"""What a LoRA was trained on is in no prompt and no reference, or its column says that it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.decoding import content_digest
from benchmark.data.preparation import prepare_rows
from benchmark.data.prompts import Prompt, PromptSet
from benchmark.data.run_data import Data, Sources, prepare_data
from benchmark.data.sources.base import Example
from models.loras.files import TrainingData, describe_training_data


class Colours:
    """Rows of one colour each; rows i and i + 1000 share a caption. Row `torn` has no image that decodes."""

    label_names: tuple[str, ...] = ()

    def __init__(self, count: int, torn: int = -1, name: str = "Colours") -> None:
        self.count, self.torn, self.name, self.identity = count, torn, name, name.lower()

    def image(self, row: int) -> Image.Image:
        return Image.new("RGB", (2, 2), (row % 256, row // 256, 0))

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, self.count):
            yield Example(f"colour {row % 1000}", None if row == self.torn else self.image(row))


def trained_on(dataset: Colours, rows: range) -> TrainingData:
    digests = [content_digest(dataset.image(row)) for row in rows]
    return describe_training_data("Colours", digests, [f"colour {row}" for row in rows])


def prepare(dataset: Colours, output: Path, rows: int, training: Mapping[str, TrainingData]) -> Data:
    return prepare_data(Sources(dataset), output, min(rows, 10), rows, training)


def indices(data: Data) -> list[int]:
    """Return the rows of prompts and references, which are the same."""
    assert data.reference is not None
    rows = [row.index for row in data.reference.rows]
    assert [prompt.row for prompt in data.prompts.prompts] == rows
    return rows


def test_trained_rows_are_left_out_and_others_take_their_place(tmp_path: Path) -> None:
    dataset = Colours(400)
    data = prepare(dataset, tmp_path, 150, {"M+LoRA": trained_on(dataset, range(0, 100))})
    assert indices(data) == list(range(100, 250))
    assert [request.prompt for request in data.prompts.requests(150, 7)][:2] == ["colour 100", "colour 101"]
    assert data.prompts.requests(2, 7)[1].seed == 8
    assert data.reference is not None
    assert len(data.reference.images(1000)) == 150
    assert data.reference.targets([1]) == (data.reference.rows[1].path,)
    assert len(data.left_out["M+LoRA"]) == 100
    assert data.leaks == {}
    assert len(data.digest) == 16
    assert "100 of 250 rows" in data.note
    assert "M+LoRA" in data.note


def test_another_image_of_a_trained_caption_is_left_out_too(tmp_path: Path) -> None:
    dataset = Colours(1200)
    data = prepare(dataset, tmp_path, 1100, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert not {f"colour {i}" for i in range(10)} & {prompt.text for prompt in data.prompts.prompts}
    assert len(indices(data)) == 1100
    longer = prepare(dataset, tmp_path, 1180, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert indices(longer)[:1100] == indices(data)
    assert len(longer.left_out["M+LoRA"]) == 10, "images that only share a caption were not trained on"


def test_nothing_changes_where_nothing_was_trained_on(tmp_path: Path) -> None:
    dataset = Colours(300)
    foreign = describe_training_data("Else", [content_digest(Image.new("RGB", (9, 9)))], ["something else"])
    data = prepare(dataset, tmp_path, 120, {"M+LoRA": foreign})
    prepared = prepare_rows(dataset, tmp_path / "Colours", 120)
    assert (data.prompts, data.reference) == (prepared.prompts, prepared.reference)
    assert (data.digest, data.note, data.left_out) == ("", "", {})
    assert prepare(dataset, tmp_path, 120, {}).reference == data.reference


def test_too_few_left_marks_the_column_and_leaves_nothing_out(tmp_path: Path) -> None:
    dataset = Colours(200)
    data = prepare(dataset, tmp_path, 150, {"M+LoRA": trained_on(dataset, range(0, 150))})
    assert len(indices(data)) == 150
    assert data.digest == ""
    assert data.leaks["M+LoRA"].startswith("trained on 150 of the 150 reference rows, and only 50 others are left")
    few = prepare(dataset, tmp_path, 40, {"M+LoRA": trained_on(dataset, range(0, 150))})
    assert indices(few) == list(range(150, 190)), "a run of 40 needs no hundred"


def test_a_row_without_an_image_is_no_reason_to_leave_nothing_out(tmp_path: Path) -> None:
    dataset = Colours(400, torn=30)
    data = prepare(dataset, tmp_path, 50, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert data.leaks == {}
    assert indices(data) == list(range(10, 60))


def test_each_lora_has_its_own_training_images_and_no_column_is_scored_on_either(tmp_path: Path) -> None:
    dataset = Colours(400)
    training = {"A": trained_on(dataset, range(0, 10)), "B": trained_on(dataset, range(5, 30))}
    data = prepare(dataset, tmp_path, 120, training)
    assert indices(data) == list(range(30, 150))
    assert {title: len(images) for title, images in data.left_out.items()} == {"A": 10, "B": 25}
    assert data.digest != prepare(dataset, tmp_path, 120, {"B": training["B"]}).digest


def texts(count: int) -> PromptSet:
    made = tuple(Prompt(2 * row, f"colour {row}") for row in range(count))
    return PromptSet("texts", "texts", (), made, exhausted=True, note="1 blank line of texts.txt skipped")


def test_prompts_and_references_apart_are_each_left_out_by_caption_or_image(tmp_path: Path) -> None:
    dataset = Colours(400)
    sources = Sources(texts(300), dataset)
    data = prepare_data(sources, tmp_path, 120, 150, {"M+LoRA": trained_on(dataset, range(0, 20))})
    assert [prompt.text for prompt in data.prompts.prompts] == [f"colour {row}" for row in range(20, 140)]
    assert data.reference is not None
    assert [row.index for row in data.reference.rows] == list(range(20, 170))
    assert data.reference.targets([0]) is None
    assert len(data.left_out["M+LoRA"]) == 20
    assert data.note.startswith("1 blank line of texts.txt skipped; 20 of 140 prompts and 20 of 170 reference rows")
    assert len(data.digest) == 16


def test_references_alone_that_were_trained_on_leave_the_prompts_and_their_images_as_they_are(tmp_path: Path) -> None:
    dataset = Colours(400)
    training = describe_training_data("Colours", [content_digest(dataset.image(row)) for row in range(20)], ["x"])
    data = prepare_data(Sources(texts(120), dataset), tmp_path, 120, 150, {"M+LoRA": training})
    assert data.digest == "", "the prompts are those of a run without a LoRA, and so are their images"
    assert len(data.prompts.prompts) == 120
    assert data.reference is not None
    assert data.reference.rows[0].index == 20


@pytest.mark.parametrize("is_text", [True, False])
def test_references_that_were_all_trained_on_mark_the_column_and_leave_nothing_out(
    tmp_path: Path, is_text: bool
) -> None:
    dataset = Colours(150)
    prompts = texts(300) if is_text else Colours(300, name="Others")
    data = prepare_data(Sources(prompts, dataset), tmp_path, 120, 150, {"M": trained_on(dataset, range(0, 140))})
    assert (data.digest, data.left_out) == ("", {})
    assert data.prompts.prompts[0].text == "colour 0"
    assert data.reference is not None
    assert len(data.reference.rows) == 150
    assert "140 of the 150 reference rows, and only 10 others are left" in data.leaks["M"]
    assert data.leaks["M"].endswith("its scores say nothing about new images")
