"""Real images and the requests that they belong to: paired by index, and by nothing else."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.manifest_lines import Row
from benchmark.data.reference import Reference


def reference(*captions: str, without: tuple[int, ...] = (), belongs_to: str = "prompts") -> Reference:
    rows = (
        Row(index, caption, None, None if index in without else Path(f"{index}.png"), "train")
        for index, caption in enumerate(captions)
    )
    return Reference("Set", "set", tuple(rows), belongs_to)


def test_images_leave_out_rows_that_do_not_decode() -> None:
    real = reference("a", "b", "c", without=(1,))
    assert real.images(1).captions == ("a",)
    assert (real.images(10).paths, real.images(10).captions) == ((Path("0.png"), Path("2.png")), ("a", "c"))
    assert real.without_image() == 1


def test_a_target_is_the_image_of_its_requests_row_in_each_turn_or_none() -> None:
    real = reference("a", "b", "c", without=(1,))
    assert real.targets([2, 1, 3, 4]) == (Path("2.png"), None, Path("0.png"), None)


def test_two_rows_with_one_caption_have_each_their_own_target() -> None:
    assert reference("a robot", "a robot").targets([1, 0]) == (Path("1.png"), Path("0.png"))


def test_a_reference_that_does_not_belong_to_the_prompts_has_no_targets() -> None:
    assert reference("a", "b", belongs_to="").targets([0, 1]) is None
