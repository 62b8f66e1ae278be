"""Encodings are the pipeline's own, made once, and made again where anything that they follow from has changed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from tiny_training import CAPTIONS, tiny_settings, write_base, write_images

from benchmark.console.progress import Progress
from benchmark.data.manifest_lines import context_of
from files.records import seal
from finetuning import encodings
from finetuning.encodings import Captions, encode_all, encode_captions, encode_latents
from finetuning.images import read_images, read_pixels

PROGRESS = Progress()


def test_captions_are_what_the_pipeline_encodes(tmp_path: Path) -> None:
    from diffusers import PixArtSigmaPipeline

    base = write_base(tmp_path / "base")
    texts = ["", "A Pink Robot ", "a blue cat with a round head in a forest", "tree"]
    captions = encode_captions(texts, base, tmp_path / "cache", "cpu", torch.float32, PROGRESS)
    pipeline = PixArtSigmaPipeline.from_pretrained(base, dtype=torch.float32)
    wanted_BLC, wanted_mask_BL, _, _ = pipeline.encode_prompt(
        texts, False, max_sequence_length=40, clean_caption=False, device="cpu"
    )
    found_BLC, mask_BL = captions.padded(torch.arange(4), 40)
    assert torch.equal(mask_BL, wanted_mask_BL)
    torch.testing.assert_close(found_BLC, wanted_BLC * wanted_mask_BL[..., None], rtol=1e-4, atol=1e-5)
    assert captions.longest % 8 == 0


def test_padding_picks_the_asked_captions() -> None:
    captions = Captions(torch.arange(6.0)[:, None], torch.tensor([1, 3, 2]))
    encodings_BLC, mask_BL = captions.padded(torch.tensor([2, 0, 1]), 3)
    assert encodings_BLC[..., 0].tolist() == [[4, 5, 0], [0, 0, 0], [1, 2, 3]]
    assert mask_BL.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]


def test_latents_are_the_vaes_mode_of_the_central_square_and_its_mirror(tmp_path: Path) -> None:
    from diffusers import AutoencoderKL

    base, images = write_base(tmp_path / "base"), read_images(write_images(tmp_path / "Robots"))
    latents_VNCHW = encode_latents(images, base, tmp_path / "cache", 32, True, "cpu", PROGRESS)
    assert latents_VNCHW.shape == (2, 6, 4, 8, 8)
    vae = AutoencoderKL.from_pretrained(base / "vae", dtype=torch.float32)
    pixels = read_pixels(images, 32)
    with torch.inference_mode():
        wanted = vae.encode(pixels.flip(-1)).latent_dist.mode() * vae.config.scaling_factor
    torch.testing.assert_close(latents_VNCHW[1], wanted, rtol=1e-4, atol=1e-5)


def test_a_circle_stays_round(tmp_path: Path) -> None:
    train = tmp_path / "train"
    train.mkdir()
    image = Image.new("RGB", (200, 100))
    ImageDraw.Draw(image).ellipse((70, 20, 130, 80), fill="white")
    image.save(train / "a.png")
    (train / "a.txt").write_text("a circle")
    white_HW = read_pixels(read_images(train), 50)[0, 0].numpy() > 0
    rows, columns = (np.flatnonzero(white_HW.any(axis=axis)) for axis in (1, 0))
    assert len(rows) == pytest.approx(30, abs=2)
    assert len(columns) == pytest.approx(30, abs=2)
    assert rows.mean() == pytest.approx(24.5, abs=1)
    assert columns.mean() == pytest.approx(24.5, abs=1)


def test_they_are_made_once_and_again_for_another_image_or_caption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tiny_settings(tmp_path)
    made: list[str] = []
    original = encodings._cached

    def counted(folder: Path, name: str, compute: object) -> object:
        return original(folder, name, lambda: (made.append(name), compute())[1])  # type: ignore[operator]

    monkeypatch.setattr(encodings, "_cached", counted)

    def run() -> int:
        made.clear()
        images = read_images(settings.train_dir)
        common = {"side": 32, "flip": False, "device": "cpu", "dtype": torch.float32, "progress": PROGRESS}
        encode_all(images, settings.base, tmp_path / "cache", **common)
        return len(made)

    assert run() == 2
    assert run() == 0
    (settings.train_dir / "00000_caption.txt").write_text("a new caption")
    assert run() == 1
    Image.new("RGB", (40, 30), "red").save(settings.train_dir / "00000_input.png")
    assert run() == 1
    for path in (tmp_path / "cache").glob("*.safetensors"):
        path.write_bytes(b"torn")
    assert run() == 2


def test_an_image_that_does_not_decode_is_named(tmp_path: Path) -> None:
    train = write_images(tmp_path / "Robots")
    (train / "00003_input.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"00003_input.png does not decode") as caught:
        read_pixels(read_images(train), 32)
    assert "\n" not in str(caught.value)


def test_an_image_without_a_caption_is_named(tmp_path: Path) -> None:
    train = write_images(tmp_path / "Robots")
    (train / "00002_caption.txt").unlink()
    with pytest.raises(ValueError, match=r"00002_input.png"):
        read_images(train)
    (train / "00002_caption.txt").write_text("  \n")
    with pytest.raises(ValueError, match=r"1 of 6 captions in .* are empty, first that of 00002_input.png"):
        read_images(train)


def test_a_row_of_a_table_whose_caption_is_null_is_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = write_images(tmp_path / "Robots", count=3)
    rows = [{"file_name": f"{number:05d}_input.png", "text": None if number == 1 else "x"} for number in range(3)]
    (train / "metadata.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert [image.path.name for image in read_images(train)] == ["00000_input.png", "00002_input.png"]
    assert capsys.readouterr().err == f"{train}: 1 of 3 rows have no caption and are left out\n"


def test_the_sources_digests_come_from_the_manifest(tmp_path: Path) -> None:
    train = write_images(tmp_path / "Robots", count=2)
    lines = ['{"schema_version": 1}', '{"file": "train/00001_input.png", "sha256": "abc"}', '{"file": "train/000']
    manifest = train.parent / "manifest.jsonl"
    manifest.write_text("\n".join(lines))  # as the first version wrote them, the last one torn
    assert [image.source_digest for image in read_images(train)] == ["", "abc"]
    header = {"schema_version": 2}
    sealed = [seal(header), seal({"file": "train/00000_input.png", "sha256": "def"}, context_of(header)), lines[2]]
    manifest.write_text("\n".join(sealed))
    assert [image.source_digest for image in read_images(train)] == ["def", ""]
    for number, line in [(0, sealed[0][1:]), (0, sealed[0].replace("2", "3", 1)), (1, sealed[1].replace("def", "deg"))]:
        manifest.write_text("\n".join([*sealed[:number], line, *sealed[number + 1 :]]))
        with pytest.raises(ValueError, match=r"manifest\.jsonl is damaged"):
            read_images(train)
    manifest.write_text("a list of somebody's own\n")
    assert [image.source_digest for image in read_images(train)] == ["", ""]
    assert len({image.file_digest for image in read_images(train)}) == 2
    assert [image.caption for image in read_images(train)] == list(CAPTIONS[:2])
