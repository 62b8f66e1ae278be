"""What an image is: the first bytes say it where the suffix does not, and what is no image is called by its kind."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, features

from files.image_kinds import HEAD_BYTES, SUFFIXES, classify, image_format, other_kind
from files.images import FORMATS, decode_rgb

DRAWN = Image.new("RGB", (8, 6), "red")
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30)


def encode(format: str, image: Image.Image = DRAWN) -> bytes:
    file = BytesIO()
    image.save(file, format=format)
    return file.getvalue()


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "AVIF" or features.check("avif")])
def test_every_format_that_may_be_opened_is_known_by_its_first_bytes(format: str) -> None:
    content = encode(format)
    assert image_format(content[:HEAD_BYTES]) == {"MPO": "JPEG"}.get(format, format)
    assert decode_rgb(content).size == DRAWN.size


def test_a_big_endian_and_a_large_tiff_are_images() -> None:
    for start in (b"MM\0*", b"II*\0", b"MM\0+", b"II+\0"):
        assert image_format(start + bytes(20)) == "TIFF"


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a", "a.dat", "a.heic", "a.JPEG", "photo.2019", "a.png"])
def test_a_jpeg_is_an_image_whatever_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(encode("JPEG"))
    assert classify(tmp_path / name) == ""


def test_a_file_whose_suffix_says_image_is_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, most_bytes: int) -> bytes:
        raise AssertionError(f"{path} was opened for {most_bytes} bytes")

    monkeypatch.setattr("files.image_kinds.read_head", refuse)
    assert [classify(tmp_path / f"a{suffix.upper()}") for suffix in sorted(SUFFIXES)] == [""] * len(SUFFIXES)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.HEIC", HEIC, "HEIC, which is not opened: convert it to JPEG or PNG"),
        ("a.heif", HEIC.replace(b"ftypheic", b"ftypmif1"), "HEIC"),
        ("a.mov", b"\0\0\0\x14ftypqt  \0\0\0\0qt  ", "a video"),
        ("a.dng", encode("TIFF"), "a camera's raw file"),
        ("a.jxl", b"\xff\x0a" + bytes(20), "JPEG XL"),
        ("a.psd", b"8BPS\0\1" + bytes(20), "a Photoshop file"),
        ("a.pdf", b"%PDF-1.7\n", "a PDF"),
        ("a.zip", b"PK\x03\x04" + bytes(20), "an archive: unpack it"),
        ("a.ico", b"\0\0\1\0\1\0", "an icon"),
        ("a", b"some words", "no image that can be opened"),
        ("P6 is no start", b"P6 is how a note may begin"[1:], "no image"),
        ("a.bin", b"", "an empty file"),
    ],
)
def test_what_is_no_image_is_called_by_its_kind(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert classify(tmp_path / name).startswith(says)


@pytest.mark.parametrize(("content", "kind"), [(HEIC, "HEIC"), (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(20), "JPEG XL")])
def test_a_phones_format_under_another_name_is_told_as_what_it_is(content: bytes, kind: str) -> None:
    with pytest.raises(ValueError, match=rf"^{kind}, which is not opened: convert it") as caught:
        decode_rgb(content)
    assert other_kind(content) == str(caught.value)


@pytest.mark.parametrize("text", [b"BMW and other cars\nare here", b"BM", b"P5 is how a note begins", b"P1 4 x"])
def test_a_text_that_begins_as_an_image_does_is_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "NOTES").write_bytes(text)
    assert image_format(text) == ""
    assert classify(tmp_path / "NOTES") == "no image that can be opened"


@pytest.mark.parametrize("start", [b"P6 8 6 255\n", b"P5\n# made here\n8 6\n255\n", b"P4\t8\n6\n"])
def test_a_ppm_may_have_any_space_and_comments(start: bytes) -> None:
    assert image_format(start) == "PPM"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("captions.xlsx", "a spreadsheet: save it as CSV"),
        ("captions.ODS", "a spreadsheet: save it as CSV"),
        ("read me.docx", "a document, which is not read"),
        ("00000.tar", "a tar archive, as WebDataset has its shards, which is not read: unpack it"),
        (
            "data-00000-of-00001.arrow",
            "an Arrow file, as save_to_disk of `datasets` writes it, which is not read: save",
        ),
    ],
)
def test_a_data_set_or_a_document_is_called_by_its_suffix(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + bytes(20))
    assert classify(tmp_path / name).startswith(says)
