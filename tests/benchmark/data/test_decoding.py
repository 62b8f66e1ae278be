"""Every kind of image file becomes upright 8-bit RGB, and a broken one says why."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.decoding import content_digest, decode_example, decode_rgb
from metrics.images import read_rgb


def encode(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format=format, **options)
    return file.getvalue()


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def with_clear_left(mode: str) -> Image.Image:
    """Red, with a fully transparent left column."""
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((0, 0), (255, 0, 0, 0))
    if mode == "P":
        palette = Image.new("P", (2, 1), 1)
        palette.putpalette([0, 255, 0, 255, 0, 0])
        palette.putpixel((0, 0), 0)
        return palette
    return image.convert(mode)


FILES = {
    "RGB": encode(Image.new("RGB", (3, 2), (10, 20, 30))),
    "grey": encode(Image.new("L", (3, 2), 77)),
    "one bit": encode(Image.new("1", (3, 2), 1)),
    "RGBA": encode(with_clear_left("RGBA")),
    "LA": encode(with_clear_left("LA")),
    "P": encode(with_clear_left("P"), transparency=0),
    "16 bit": encode(Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16))),
    "CMYK": encode(Image.new("CMYK", (16, 8), (0, 255, 255, 0)), "JPEG"),
    "turned": encode(Image.new("RGB", (16, 8), (9, 9, 9)), "JPEG", exif=orientation(6)),
    "animated": encode(
        Image.new("RGB", (4, 4), (255, 0, 0)), "GIF", save_all=True, append_images=[Image.new("RGB", (4, 4), "blue")]
    ),
    "animated WebP": encode(
        Image.new("RGB", (4, 4), (255, 0, 0)), "WEBP", lossless=True, save_all=True,
        append_images=[Image.new("RGB", (4, 4), "blue")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_an_image_reads_the_same_from_its_source_as_metrics_read_it(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(FILES[kind])
    image = decode_rgb(FILES[kind])
    assert image.mode == "RGB"
    assert image.info == {}
    np.testing.assert_array_equal(np.asarray(image), np.asarray(read_rgb(path)))


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_transparency_lies_over_white(kind: str) -> None:
    assert decode_rgb(FILES[kind]).getpixel((0, 0)) == (255, 255, 255)


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    assert np.asarray(decode_rgb(FILES["16 bit"]))[0, :, 0].tolist() == [0, 1, 255]


def test_an_image_is_turned_as_its_exif_says() -> None:
    assert decode_rgb(FILES["turned"]).size == (8, 16)


@pytest.mark.parametrize("kind", ["animated", "animated WebP"])
def test_an_animation_is_its_first_frame(kind: str) -> None:
    assert decode_rgb(FILES[kind]).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("content", [b"", b"no image", FILES["RGB"][:40], FILES["CMYK"][:300]])
def test_a_broken_image_is_a_row_without_image_that_says_why(content: bytes) -> None:
    example = decode_example("a caption", content, 3)
    assert example.image is None
    assert (example.caption, example.label) == ("a caption", 3)
    assert example.error
    assert "\n" not in example.error


@pytest.mark.parametrize("turn", [1, 3, 6, 8])
def test_a_jpeg_is_the_same_image_as_by_the_metrics_rule(tmp_path: Path, turn: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 70, 3), dtype=np.uint8)
    path = tmp_path / "turned.jpg"
    Image.fromarray(pixels).save(path, exif=orientation(turn))
    image = decode_rgb(path.read_bytes())
    assert image.size == ((70, 150) if turn < 5 else (150, 70))
    assert np.array_equal(np.asarray(image), np.asarray(read_rgb(path)))
    image.save(tmp_path / "copy.png")
    with Image.open(tmp_path / "copy.png") as copy:
        assert "exif" not in copy.info
        assert np.array_equal(np.asarray(copy), np.asarray(image))


@pytest.mark.parametrize("height", [1, 63, 64, 65, 150])
def test_the_content_digest_is_of_size_and_pixels_however_high(height: int) -> None:
    pixels = np.random.default_rng(height).integers(0, 256, (height, 5, 3), dtype=np.uint8)
    expected = hashlib.sha256(f"5x{height} ".encode() + pixels.tobytes()).hexdigest()
    assert content_digest(Image.fromarray(pixels)) == expected
