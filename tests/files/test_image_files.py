"""Images of strangers: an explicit list of formats, text that is skipped, and files that cost minutes refused."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zlib
from io import BytesIO
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps, features

from files.images import FORMATS, decode_rgb, is_our_png, open_image, read_rgb, save_png, without_text

# pytest takes back what files.images says of warnings; the test of stderr has a process of its own.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
ROOT = Path(__file__).parents[2]
DRAWN = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8))


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


def chunk(kind: bytes, content: bytes) -> bytes:
    return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))


def png(width: int, height: int, *extra: bytes, pixels: bytes | None = None) -> bytes:
    """Return a PNG of one bit per pixel, black, with chunks before its pixels."""
    content = bytes((width + 7) // 8 + 1) * height if pixels is None else pixels
    header = chunk(b"IHDR", pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"".join(
        (b"\x89PNG\r\n\x1a\n", header, *extra, chunk(b"IDAT", zlib.compress(content, 1)), chunk(b"IEND", b""))
    )


def bmp_of_runs(width: int, runs: bytes) -> bytes:
    start = 14 + 40 + 1024
    return (
        b"BM" + pack("<IHHI", start + len(runs), 0, 0, start)
        + pack("<IiiHHIIiiII", 40, width, 1, 1, 8, 1, len(runs), 0, 0, 256, 0) + bytes(1024) + runs
    )  # fmt: skip


JPEG = encode(DRAWN, "JPEG")
GREYS = encode(Image.new("L", (4000, 4000)), "JPEG", progressive=True)
LAST_SCAN = GREYS[GREYS.rfind(b"\xff\xda") : -2]
EPS = encode(DRAWN, "EPS")


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "AVIF" or features.check("avif")])
def test_a_format_of_the_list_is_read_whatever_the_files_name(format: str, tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    options = {"save_all": True, "append_images": [DRAWN]} if format == "MPO" else {}
    path.write_bytes(encode(DRAWN, format, **options))
    image = read_rgb(path)
    assert (image.mode, image.size) == ("RGB", DRAWN.size)


@pytest.mark.parametrize("format", ["EPS", "ICO", "TGA", "PCX", "SGI", "PDF", "JPEG2000", "DDS", "SPIDER", "XBM"])
def test_any_other_format_is_refused_though_pillow_knows_it(format: str) -> None:
    image = DRAWN.convert({"SPIDER": "F", "XBM": "1"}.get(format, "RGB"))
    with pytest.raises(ValueError, match="cannot identify image file"):
        decode_rgb(encode(image, format))


@pytest.mark.parametrize(
    "content", [b"8BPS\0\1" + bytes(60), b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"PK\3\4", b""]
)
def test_what_is_no_image_of_the_list_is_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"cannot identify image file$") as caught:
        decode_rgb(content)
    assert "0x" not in str(caught.value)  # the same every time


def test_postscript_never_reaches_ghostscript(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def ghostscript(*_: Any, **__: Any) -> Any:
        called.append("gs")
        return DRAWN.copy().im

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    with Image.open(BytesIO(EPS)) as as_pillow_does:
        as_pillow_does.load()
    assert called == ["gs"]
    path = tmp_path / "a.png"
    path.write_bytes(EPS)
    with pytest.raises(OSError, match=r"a\.png cannot be read as an image"):
        read_rgb(path)
    assert called == ["gs"]


LONG_TEXT = {
    "a zTXt of 100 MB": [chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100_000_000), 1))],
    "20,000 iTXt": [chunk(b"iTXt", b"k\0\0\0\0\0" + b"text" * 1000)] * 20_000,
    "a profile of 8 MB": [chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(8_000_000), 1))],
}


@pytest.mark.parametrize("kind", LONG_TEXT)
def test_long_text_and_profiles_in_a_png_cost_nothing(kind: str) -> None:
    content = png(16, 9, *LONG_TEXT[kind])
    with pytest.raises(ValueError, match=r"too large|MAX_TEXT"):
        Image.open(BytesIO(content)).load()  # Pillow alone refuses it
    image = decode_rgb(content)
    assert image.size == (16, 9)
    assert image.info == {}


def test_without_text_changes_no_other_chunk_and_no_other_file() -> None:
    plain = png(16, 9, chunk(b"gAMA", pack(">I", 45455)))
    text = chunk(b"tEXt", b"Software\0x")
    assert without_text(png(16, 9, text, chunk(b"gAMA", pack(">I", 45455)), text)) == plain
    for content in (plain, JPEG, b"", plain[:30], plain[:-20]):
        assert without_text(content) == content


def test_more_pixels_than_pillows_limit_are_refused_before_they_are_decoded() -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match="DecompressionBombError"):
        decode_rgb(png(20_000, 9_000, pixels=b""))
    assert time.monotonic() - begun < 10


def test_a_hundred_megapixels_are_read_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(png(10_000, 10_000))
    code = "import sys, pathlib, files.images as images; print(images.read_rgb(pathlib.Path(sys.argv[1])).size)"
    command = [sys.executable, "-c", code, str(tmp_path / "large.png")]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (told.stdout, told.stderr) == ("(10000, 10000)\n", "")


SICK = {
    "a JPEG of fill bytes": JPEG[:2] + b"\xff" * 20_000_000 + JPEG[2:],
    "a JPEG of stray bytes": JPEG[:2] + b"\xff\xd0" + bytes(20_000_000) + JPEG[2:],
    "a JPEG of 600 Exif segments": JPEG[:2] + (b"\xff\xe1\xff\xffExif\0\0" + bytes(65_527)) * 600 + JPEG[2:],
    "a JPEG of bare markers": JPEG[:2] + b"\xff\xd0" * 5_000_000 + JPEG[2:],
    "a JPEG of 5,000 scans": GREYS[:-2] + LAST_SCAN * 5_000 + GREYS[-2:],
    "a PNG of 900,000 chunks": png(2, 2, chunk(b"abCd", b"") * 900_000),
    "a BMP of one line with two runs": bmp_of_runs(170_000_000, b"\1\1\0\0\0\1"),
    "a PPM in words": b"P3 6000 6000 255 " + b"1 " * 16_000_000,
}


@pytest.mark.parametrize("kind", SICK)
def test_a_file_that_would_take_minutes_is_refused_at_once(kind: str) -> None:
    begun = time.monotonic()
    with pytest.raises(ValueError, match=r"sane file|chunks|megapixels only"):
        decode_rgb(SICK[kind])
    assert time.monotonic() - begun < 10, "a fifth of a second on an idle machine"


def test_large_but_honest_headers_are_read_as_pillow_reads_them() -> None:
    exif = Image.Exif()
    exif[0x010E] = "a" * 40_000
    for options in (
        {"progressive": True, "icc_profile": bytes(2_000_000), "comment": b"c" * 60_000, "exif": exif},
        {"quality": 95, "subsampling": 0, "dpi": (300, 300)},
    ):
        content = encode(DRAWN, "JPEG", **options)
        with Image.open(BytesIO(content)) as opened:
            assert np.array_equal(np.asarray(decode_rgb(content)), np.asarray(opened))
    # Some cameras write fill bytes between segments.
    assert decode_rgb(JPEG[:2] + b"\xff" * 500 + JPEG[2:]) == decode_rgb(JPEG)


def outcome(content: bytes) -> str:
    try:
        return decode_rgb(content).mode
    except ValueError as error:
        return str(error)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_file_cut_anywhere_is_an_image_or_one_line(format: str) -> None:
    content = encode(DRAWN, format)
    outcomes = [outcome(content[:length]) for length in range(0, len(content), 1 + len(content) // 40)]
    assert all(text and "\n" not in text for text in outcomes)
    assert any("Error" in text for text in outcomes)


def test_an_error_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for path in (tmp_path / "none.png", pipe, tmp_path, tmp_path / "a\0b.png"):
        with pytest.raises(OSError, match=r"cannot be read as an image: .*; replace or remove it$"):
            read_rgb(path)


def test_our_pngs_are_known_by_their_maker_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    save_png(DRAWN, tmp_path / "ours.png")
    DRAWN.save(tmp_path / "theirs.png")
    os.mkfifo(tmp_path / "pipe.png")
    found = {name: is_our_png(tmp_path / f"{name}.png") for name in ("ours", "theirs", "pipe", "none")}
    assert found == {"ours": True, "theirs": False, "pipe": False, "none": False}
    assert read_rgb(tmp_path / "ours.png") == DRAWN


def test_an_opened_image_is_not_decoded_yet() -> None:
    with open_image(png(16, 9, pixels=b"")) as opened:
        assert opened.size == (16, 9)
        with pytest.raises((OSError, ValueError)):
            opened.load()


def test_text_before_and_behind_the_pixels_of_a_png_costs_nothing() -> None:
    text = chunk(b"zTXt", b"parameters\0\0" + zlib.compress(b"x" * 3_000_000))
    plain = png(16, 9)
    end = plain.rindex(b"IEND") - 4
    for content in (png(16, 9, text, text), plain[:end] + text + plain[end:]):
        assert decode_rgb(content) == decode_rgb(plain)


def exif_with_rational(numerator: int, denominator: int) -> bytes:
    """Return EXIF data of a turned image with a signed rational, the exposure bias."""
    start = 8 + 2 + 2 * 12 + 4
    entries = pack("<HHIHH", 0x0112, 3, 1, 6, 0) + pack("<HHII", 0x8769, 4, 1, start)
    bias = pack("<HHHIII", 1, 0x9204, 10, 1, start + 18, 0) + pack("<ii", numerator, denominator)
    return b"Exif\0\0II*\0" + pack("<IH", 8, 2) + entries + pack("<I", 0) + bias


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("numerator", [1, 0, -5])
def test_an_image_is_turned_though_its_exif_holds_a_rational_without_a_denominator(format: str, numerator: int) -> None:
    content = encode(DRAWN, format, exif=exif_with_rational(numerator, 0))
    upright = decode_rgb(encode(DRAWN, format))
    assert decode_rgb(content) == upright.transpose(Image.Transpose.ROTATE_270)


@pytest.mark.parametrize("turn", range(10))
def test_every_orientation_is_as_pillow_has_it(turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    with Image.open(BytesIO(encode(DRAWN, "PNG", exif=exif))) as opened:
        as_pillow_does = np.asarray(ImageOps.exif_transpose(opened))
    assert np.array_equal(np.asarray(decode_rgb(encode(DRAWN, "PNG", exif=exif))), as_pillow_does)
