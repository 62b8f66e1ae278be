"""A table that was meant to give the captions and does not is named with its columns and the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmark.data.sources.folder import image_files, open_folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (4, 4)).save(tmp_path / name)
    return tmp_path


@pytest.mark.parametrize(
    ("content", "says", "trained"),
    [
        (
            "Bild;Beschreibung\na.jpg;a\nb.jpg;b\n",
            "(Bild, Beschreibung): name them as IMAGE_COLUMN=Bild CAPTION_COLUMN=Beschreibung",
            "rename Bild to file_name and Beschreibung to text",
        ),
        ("Filename,Remarks\na.jpg,a\nb.jpg,b\n", "CAPTION_COLUMN=Remarks", "rename Remarks to text"),
        ("file;captoin\na.jpg;a\nb.jpg;b\n", "name them as CAPTION_COLUMN=captoin", "rename captoin to text"),
        ("Bild,no,Wort\na.jpg,1,a\nb.jpg,2,b\n", "IMAGE_COLUMN=Bild CAPTION_COLUMN=...", "and a column to text"),
        ("a.jpg,a dog\nb.jpg,b\n", "captions.csv has no header: put file_name,text above", "has no header"),
    ],
)
def test_unknown_columns_are_named_with_the_remedy(photos: Path, content: str, says: str, trained: str) -> None:
    (photos / "captions.csv").write_text(content)
    (photos / "another.csv").write_text("item,price\nfilm,7\n")
    with pytest.raises(ValueError, match=r"2 of 2 images .* have no caption") as caught:
        open_folder(photos)
    assert says in str(caught.value)
    assert "captions.csv" in str(caught.value)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"2 of 2 images .* have no caption") as caught:
        image_files(photos)
    assert trained in str(caught.value)


def test_the_columns_that_are_advised_are_read(photos: Path) -> None:
    (photos / "captions.csv").write_text("Bild;Beschreibung\na.jpg;a\nb.jpg;b\n")
    rows = open_folder(photos, "Bild", "Beschreibung").examples()
    assert [row.caption for row in rows] == ["a", "b"]
    with pytest.raises(ValueError, match=r"^IMAGE_COLUMN=Bild alone .*name them as IMAGE_COLUMN=Bild CAPTION_COLUMN="):
        open_folder(photos, "Bild")


@pytest.mark.parametrize("column", ["Notes", "Comment", "Title", "Alt Text"])
def test_common_names_of_captions_are_known(photos: Path, column: str) -> None:
    (photos / "captions.csv").write_text(f"Filename,{column}\na.jpg,a\nb.jpg,b\n")
    assert [row.caption for row in open_folder(photos).examples()] == ["a", "b"]


@pytest.mark.parametrize("name", ["captions.xlsx", "captions.ods"])
def test_a_spreadsheet_beside_bare_images_is_told(photos: Path, name: str) -> None:
    (photos / name).write_bytes(b"PK\x03\x04" + bytes(20))
    with pytest.raises(ValueError, match=rf"2 of 2 images .* no caption.*; {name} is a spreadsheet: save it as CSV$"):
        open_folder(photos)
