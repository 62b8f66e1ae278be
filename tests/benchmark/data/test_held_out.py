"""What a LoRA was trained on is in no prompt and no reference, or its column says that it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from benchmark.data.held_out import prepare_held_out
from benchmark.data.reference import content_digest, prepare_reference
from benchmark.data.sources.base import Example
from models.lora_files import TrainingData, describe_training_data


class Colours:
    """Rows of one colour each; rows i and i + 1000 share a caption. Row `torn` has no image that decodes."""

    name, identity = "Colours", "colours"
    label_names: tuple[str, ...] = ()

    def __init__(self, count: int, torn: int = -1) -> None:
        self.count, self.torn = count, torn

    def image(self, row: int) -> Image.Image:
        return Image.new("RGB", (2, 2), (row % 256, row // 256, 0))

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, self.count):
            yield Example(f"colour {row % 1000}", None if row == self.torn else self.image(row))


def trained_on(dataset: Colours, rows: range) -> TrainingData:
    digests = [content_digest(dataset.image(row)) for row in rows]
    return describe_training_data("Colours", digests, [f"colour {row}" for row in rows])


def test_trained_rows_are_left_out_and_others_take_their_place(tmp_path: Path) -> None:
    dataset = Colours(400)
    held_out = prepare_held_out(dataset, tmp_path, 150, {"M+LoRA": trained_on(dataset, range(0, 100))})
    rows = held_out.reference.rows
    assert [row.index for row in rows] == list(range(100, 250))
    assert [request.prompt for request in held_out.reference.requests(150, 7)][:2] == ["colour 100", "colour 101"]
    assert held_out.reference.requests(2, 7)[1].seed == 8
    assert len(held_out.reference.pictures(1000)) == 150
    assert len(held_out.left_out["M+LoRA"]) == 100
    assert held_out.leaks == {}
    assert len(held_out.digest) == 16
    assert "100 of 250 rows" in held_out.note
    assert "M+LoRA" in held_out.note


def test_another_image_of_a_trained_caption_is_left_out_too(tmp_path: Path) -> None:
    dataset = Colours(1200)
    held_out = prepare_held_out(dataset, tmp_path, 1100, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert not {f"colour {i}" for i in range(10)} & {row.caption for row in held_out.reference.rows}
    assert len(held_out.reference.rows) == 1100
    longer = prepare_held_out(dataset, tmp_path, 1180, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert longer.reference.rows[:1100] == held_out.reference.rows
    assert len(longer.left_out["M+LoRA"]) == 10, "images that only share a caption were not trained on"


def test_nothing_changes_where_nothing_was_trained_on(tmp_path: Path) -> None:
    dataset = Colours(300)
    foreign = describe_training_data("Else", [content_digest(Image.new("RGB", (9, 9)))], ["something else"])
    held_out = prepare_held_out(dataset, tmp_path, 120, {"M+LoRA": foreign})
    assert held_out.reference == prepare_reference(dataset, tmp_path, 120)
    assert (held_out.digest, held_out.note, held_out.left_out) == ("", "", {})
    assert prepare_held_out(dataset, tmp_path, 120, {}).reference == held_out.reference


def test_too_few_left_marks_the_column_and_leaves_nothing_out(tmp_path: Path) -> None:
    dataset = Colours(200)
    held_out = prepare_held_out(dataset, tmp_path, 150, {"M+LoRA": trained_on(dataset, range(0, 150))})
    assert len(held_out.reference.rows) == 150
    assert held_out.digest == ""
    assert held_out.leaks["M+LoRA"].startswith("trained on 150 of the 150 reference rows, and only 50 others are left")
    few = prepare_held_out(dataset, tmp_path, 40, {"M+LoRA": trained_on(dataset, range(0, 150))})
    assert [row.index for row in few.reference.rows] == list(range(150, 190)), "a run of 40 needs no hundred"


def test_a_row_without_an_image_is_no_reason_to_leave_nothing_out(tmp_path: Path) -> None:
    dataset = Colours(400, torn=30)
    held_out = prepare_held_out(dataset, tmp_path, 50, {"M+LoRA": trained_on(dataset, range(0, 10))})
    assert held_out.leaks == {}
    assert [row.index for row in held_out.reference.rows] == list(range(10, 60))


def test_each_lora_has_its_own_training_images_and_nobody_sees_either(tmp_path: Path) -> None:
    dataset = Colours(400)
    training = {"A": trained_on(dataset, range(0, 10)), "B": trained_on(dataset, range(5, 30))}
    held_out = prepare_held_out(dataset, tmp_path, 120, training)
    assert [row.index for row in held_out.reference.rows] == list(range(30, 150))
    assert {title: len(images) for title, images in held_out.left_out.items()} == {"A": 10, "B": 25}
    assert held_out.digest != prepare_held_out(dataset, tmp_path, 120, {"B": training["B"]}).digest
