"""Records with checksums: what was written comes back, and nothing else does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from files.deletion import delete_named, listed
from files.records import Damaged, read_record, seal, unseal, write_record
from scripts.measuring.damaging import damage

RECORD = {"start": 3, "seconds": 0.1 + 0.2, "prompts": ["a \ud800 ünï\n", ""], "cold": False, "label": None}


def test_a_record_comes_back_as_it_was_and_only_in_its_context() -> None:
    line = seal(RECORD, "one folder")
    assert line.isascii()
    assert "\n" not in line
    assert unseal(line, "one folder") == RECORD
    with pytest.raises(Damaged, match="does not fit"):
        unseal(line, "another")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "not JSON"),
        ("[1]", "a list"),
        ("{}", "missing"),
        ('{"checksum": "0"}', "does not fit"),
        ("[" * 99999, "not JSON"),
    ],
)
def test_what_is_no_record_is_told(line: str, reason: str) -> None:
    with pytest.raises(Damaged, match=reason):
        unseal(line)


def test_no_changed_byte_passes(tmp_path: Path) -> None:
    moments = random.Random(1)
    path = tmp_path / "record.json"
    seen = 0
    for _ in range(300):
        write_record(path, RECORD, sync=False)
        damage(path, moments)
        try:
            assert read_record(path) == RECORD, "the change was in white space, or none"
        except Damaged:
            seen += 1
    assert seen > 250


def test_numbers_that_json_has_not_are_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="JSON"):
        seal({"seconds": float("nan")})


def test_deleting_stays_inside_the_folder_and_with_the_names(tmp_path: Path) -> None:
    folder = tmp_path / "ours"
    (folder / "images").mkdir(parents=True)
    for name in ("ours/a.png", "ours/images/b.png", "ours/images/keep.png", "outside.png"):
        (tmp_path / name).write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    names = ["a.png", "images/b.png", "images", "../outside.png", str(tmp_path / "outside.png"), "link.png", "", "gone"]
    assert delete_named(folder, names) == 2
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if not path.is_dir()}
    assert left == {"ours/images/keep.png", "ours/link.png", "outside.png"}
    assert delete_named(folder, ["images/keep.png"]) == 1
    assert not (folder / "images").exists(), "an empty folder goes with its last file"


def test_a_message_lists_the_first_few_names() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(map(str, range(8))) == "0, 1, 2, 3, 4 and 3 more"
