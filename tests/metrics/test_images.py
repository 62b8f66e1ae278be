"""Decoding by one rule, in order, in bounded memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from metrics import images
from metrics.images import as_tensor, read_rgb, resize_antialiased, stack_by_size, stream_batches, stream_images


def _save(folder: Path, count: int, sides: tuple[int, ...] = (8,)) -> list[Path]:
    generator = np.random.default_rng(0)
    paths = []
    for index in range(count):
        side = sides[index % len(sides)]
        pixels = generator.integers(0, 256, (side, side + 1, 3), dtype=np.uint8)
        paths.append(folder / f"{index:05d}.png")
        Image.fromarray(pixels).save(paths[-1])
    return paths


def test_images_come_in_the_order_of_their_paths_with_their_exact_pixels(tmp_path: Path) -> None:
    paths = _save(tmp_path, 23, (8, 5, 12))
    streamed = list(stream_images(paths, ahead=4))
    assert len(streamed) == 23
    for path, image_CHW in zip(paths, streamed, strict=True):
        assert image_CHW.dtype == torch.uint8
        assert np.array_equal(image_CHW.permute(1, 2, 0).numpy(), np.asarray(Image.open(path)))


def test_no_more_images_are_decoded_than_asked_for_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = _save(tmp_path, 30)
    decoded = []
    monkeypatch.setattr(images, "read_rgb", lambda path: decoded.append(path) or read_rgb(path))
    stream = stream_images(paths, ahead=4)
    for taken in range(1, 6):
        next(stream)
        assert len(decoded) <= taken + 4
    stream.close()
    assert len(decoded) < 30


def test_batches_are_full_but_the_last(tmp_path: Path) -> None:
    assert [len(batch) for batch in stream_batches(_save(tmp_path, 10), 4)] == [4, 4, 2]


def test_images_of_mixed_sizes_are_stacked_by_size_with_their_places(tmp_path: Path) -> None:
    mixed = list(stream_images(_save(tmp_path, 7, (8, 5))))
    seen = {}
    for places, images_BCHW in stack_by_size(mixed):
        seen.update(dict(zip(places, images_BCHW, strict=True)))
    assert sorted(seen) == list(range(7))
    assert all(torch.equal(seen[place], image) for place, image in enumerate(mixed))


def test_transparency_lies_over_white(tmp_path: Path) -> None:
    rgba = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    rgba.putpixel((1, 0), (255, 0, 0, 255))
    rgba.save(tmp_path / "a.png")
    read = read_rgb(tmp_path / "a.png")
    assert [read.getpixel((0, 0)), read.getpixel((1, 0))] == [(255, 255, 255), (255, 0, 0)]


def test_palette_with_a_transparent_entry_lies_over_white(tmp_path: Path) -> None:
    palette = Image.new("P", (1, 1), 0)
    palette.putpalette([10, 20, 30])
    palette.save(tmp_path / "p.png", transparency=0)
    assert read_rgb(tmp_path / "p.png").getpixel((0, 0)) == (255, 255, 255)


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 256, 65535]], dtype=np.uint16)).save(tmp_path / "g.png")
    assert np.asarray(read_rgb(tmp_path / "g.png"))[0, :, 1].tolist() == [0, 1, 255]


def test_an_animated_image_gives_its_first_frame(tmp_path: Path) -> None:
    red, blue = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    red.save(tmp_path / "a.webp", save_all=True, append_images=[blue], lossless=True)
    assert read_rgb(tmp_path / "a.webp").getpixel((0, 0)) == (255, 0, 0)


def test_an_image_is_turned_upright_as_its_exif_tag_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (4, 2)).save(tmp_path / "r.jpg", exif=exif)
    assert read_rgb(tmp_path / "r.jpg").size == (2, 4)


@pytest.mark.parametrize("damage", ["truncated", "text", "missing", "float"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path: Path, damage: str) -> None:
    bad = tmp_path / "bad.png"
    if damage == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(bad)
        bad.write_bytes(bad.read_bytes()[:3000])
    elif damage == "text":
        bad.write_text("not an image")
    elif damage == "float":
        Image.fromarray(np.zeros((4, 4), dtype=np.float32)).save(tmp_path / "bad.tiff")
        bad = tmp_path / "bad.tiff"
    with pytest.raises(OSError, match="bad") as caught:
        list(stream_images([*_save(tmp_path, 2), bad]))
    assert "\n" not in str(caught.value)
    assert str(bad) in str(caught.value)


def test_resizing_keeps_a_flat_image_flat_and_the_range() -> None:
    assert torch.allclose(resize_antialiased(torch.full((1, 3, 50, 30), 77, dtype=torch.uint8), 64), torch.tensor(77.0))
    noise = torch.randint(0, 2, (1, 3, 100, 100)).to(torch.uint8) * 255
    resized = resize_antialiased(noise, 64)
    assert resized.min() >= 0
    assert resized.max() <= 255


def test_a_tensor_owns_its_pixels() -> None:
    image = Image.new("RGB", (2, 2), "black")
    tensor = as_tensor(image)
    image.paste((255, 255, 255), (0, 0, 2, 2))
    assert int(tensor.max()) == 0
