"""The embedded models and what they are asked, for the tests on a GPU."""

from __future__ import annotations

from pathlib import Path

from benchmark.data.sources.robots import Robots
from benchmark.settings.fields import ASSETS, settings_class
from models.base import DType, ImageGenerator, Mode, Request, Runtime


def load(name: str, device: str, tmp_path: Path, mode: Mode = "eager", dtype: DType = "float32") -> ImageGenerator:
    settings = settings_class()(WEIGHTS="tiny", MODELS=name)  # type: ignore[call-arg]  # named by alias
    (model,) = settings.selected_models()
    labels = Robots(ASSETS, 0).label_names
    runtime = Runtime("tiny", device, dtype, 64, ASSETS, tmp_path, mode=mode, label_names=labels)
    return model.family.load(model.options, runtime)


def make_requests(count: int) -> list[Request]:
    return [
        Request(index, example.caption, 100 + index, example.label)
        for index, example in zip(range(count), Robots(ASSETS, 0).examples(), strict=False)
    ]
