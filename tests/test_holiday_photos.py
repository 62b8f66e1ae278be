"""A folder of photos, their captions in a spreadsheet saved as CSV, and a table of figures comes out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

import models
import run_inference
from models.base import ImageGenerator, ModelFamily, Request, Runtime

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(30)


@dataclass(frozen=True)
class Options:
    pass


class Flat(ImageGenerator):
    def __init__(self, options: Options, runtime: Runtime) -> None:  # noqa: ARG002 (as the registry calls it)
        self.name, self.image_size, self.parameters = "Flat", runtime.image_size, 1

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        return torch.full((len(requests), 3, self.image_size, self.image_size), 90, dtype=torch.uint8)


FLAT = ModelFamily("flat", Options, lambda _: "Flat", lambda *_: "made up", Flat)


@pytest.fixture
def photos(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (80, 64), (60 * number, 0, 0)).save(folder / f"IMG_{number}.JPG", format="JPEG", exif=exif)
    (folder / "IMG_9.HEIC").write_bytes(HEIC)
    table = "file;caption\r\n" + "".join(f'IMG_{number}.JPG;"a dog; {number} €"\r\n' for number in range(3))
    (folder / "captions.csv").write_bytes(table.encode("utf-8-sig"))
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, FLAT))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "flat", "NUM_SAMPLES": "4", "NUM_REFERENCES": "4", "METRICS": "psnr",
        "WARMUP": "0", "OUTPUT_DIR": str(tmp_path / "out"), "DATASET": str(folder),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return folder


TOLD = (
    "photos: 6 files, 4 used, 2 files or rows of tables left out: 1 (IMG_3.JPG): captions.csv does not name it; "
    "1 (IMG_9.HEIC): HEIC, which is not opened: convert it to JPEG or PNG"
)


@pytest.mark.usefixtures("photos")
def test_photos_with_a_spreadsheet_are_benchmarked_and_the_footer_counts_what_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_inference.main([]) == 0
    printed = capsys.readouterr()
    assert printed.err.splitlines().count(TOLD) == 1
    footer = " ".join(printed.out.split())
    assert f"{TOLD} (input/manifest.jsonl names all)" in footer
    captions = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "out").glob("photos/input/*/*.txt"))]
    assert sorted(captions) == [f"a dog; {number} €\n" for number in range(3)]
    [size] = {Image.open(path).size for path in (tmp_path / "out").glob("photos/input/*/*.png")}
    assert size == (64, 80), "turned upright"


def test_check_lists_what_is_left_out(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main(["--check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    place = lines.index(f"files of {TOLD}")
    assert lines[place + 1 : place + 3] == [
        "  left out: IMG_3.JPG: captions.csv does not name it",
        "  left out: IMG_9.HEIC: HEIC, which is not opened: convert it to JPEG or PNG",
    ]
    assert not (photos.parent / "out").exists()
