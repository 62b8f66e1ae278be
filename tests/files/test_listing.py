"""What a folder holds: each entry is an image, a text, a table, or left out with its reason."""

from __future__ import annotations

import os
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from files.listing import LeftOut, count_reasons, list_folder


def jpeg() -> bytes:
    file = BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, format="JPEG")
    return file.getvalue()


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    folder = tmp_path / "mine"
    (folder / "sub").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    (tmp_path / "outside").mkdir()
    for name in ("a.jfif", "b.JPG", "c", "sub/d.png", ".hidden/e.jpg", ".f.jpg", "../outside/g.jpg", "../outside/h"):
        (folder / name).write_bytes(jpeg())
    for name in ("a.txt", "metadata.csv", "b.CAPTION", "README.md", "Thumbs.db", "desktop.ini", ".DS_Store"):
        (folder / name).write_text("words")
    links = {"out": "../outside", "here": "sub", "h": "../outside/h", "g.jpg": "../outside/g.jpg", "lost": "nowhere"}
    for name, target in links.items():
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.jpg")
    return folder


def test_each_entry_is_an_image_a_text_or_left_out_with_its_reason(mixed: Path) -> None:
    found = list_folder(mixed)
    # A link to an image outside is a row that says so, as a table's row is.
    assert [found.name(path) for path in found.images] == ["a.jfif", "b.JPG", "c", "g.jpg", "sub/d.png"]
    assert [found.name(path) for path in found.others] == ["a.txt", "b.CAPTION", "metadata.csv"]
    assert {file.name: file.reason for file in found.left_out} == {
        "README.md": "no image that can be opened",
        "h": "a link that leads outside of the folder",
        "here": "a link to a folder of the same data set, whose files count once",
        "lost": "a link that leads nowhere",
        "out": "a link to a folder elsewhere: put the files themselves here",
        "pipe.jpg": "no regular file",
    }


def test_a_flat_listing_names_the_folders_that_it_does_not_enter(mixed: Path) -> None:
    found = list_folder(mixed, nested=False)
    assert mixed / "sub" / "d.png" not in found.images
    assert LeftOut("sub", "a subfolder, which is not entered") in found.left_out


def test_a_folder_that_cannot_be_listed_is_left_out_and_the_top_one_is_an_error(
    mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(path: Path) -> object:
        if path.name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr("files.listing.os.scandir", refuse)
    assert LeftOut("sub", "the folder cannot be listed (Permission denied)") in list_folder(mixed).left_out
    with pytest.raises(PermissionError):
        list_folder(mixed / "sub")


def test_reasons_are_counted_the_most_frequent_first_and_name_three_files() -> None:
    files = [LeftOut("z", "an empty file"), *(LeftOut(f"{number}.heic", "HEIC") for number in range(5))]
    assert count_reasons(files) == ["5 (0.heic, 1.heic, 2.heic, ...): HEIC", "1 (z): an empty file"]
