"""A PixArt of 32 px with random weights in one folder, a few captioned images, and settings for both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from finetuning.record import Record
from finetuning.settings import TrainingSettings
from finetuning.trainer import train_lora

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))  # where other tests' small pipelines are written
from diffusers_folders import build_pixart

CAPTIONS = ("a pink robot", "a blue cat", "a tree", "a forest painting", "a round head", "a pink cat")


def write_base(folder: Path) -> Path:
    """Write the whole pipeline and return its folder."""
    build_pixart().save_pretrained(folder)
    return folder


def write_images(folder: Path, count: int = 6) -> Path:
    """Write `count` images of 40 x 30 px, each another, with a caption beside each, into folder/input/train."""
    train = folder / "input" / "train"
    train.mkdir(parents=True)
    for number in range(count):
        image = Image.new("RGB", (40, 30), (40 * number, 200 - 30 * number, 90))
        ImageDraw.Draw(image).ellipse((5 + number, 5, 25, 25), fill=(255, 255, 20 * number))
        image.save(train / f"{number:05d}_input.png")
        (train / f"{number:05d}_caption.txt").write_text(CAPTIONS[number % len(CAPTIONS)] + "\n")
    return train


def train_until(step: int, settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and stop as Ctrl-C does once this step's line is written."""
    original = Record.add

    def stop(self: Record, done: int, *rest: Any) -> None:
        original(self, done, *rest)
        if done == step:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Record, "add", stop)
        with pytest.raises(KeyboardInterrupt):
            train_lora(settings)


def tiny_settings(folder: Path, **changes: Any) -> TrainingSettings:
    """Return settings of a short training on a CPU, its parts written under `folder` where they are not there."""
    base, train = folder / "base", folder / "Robots" / "input" / "train"
    if not base.is_dir():
        write_base(base)
    if not train.is_dir():
        write_images(folder / "Robots")
    values: dict[str, Any] = {
        "train_dir": train, "base": base, "output_dir": folder / "Robots" / "pixart_lora", "batch_size": 2, "steps": 6,
        "learning_rate": 1e-2, "rank": 4, "log_every": 1, "checkpoint_every": 2, "validate_every": 0, "device": "cpu",
        "caption_dropout": 0.2,
    }  # fmt: skip
    return TrainingSettings(**values | changes)
