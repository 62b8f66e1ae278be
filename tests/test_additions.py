"""What is added in one file or one line, without touching any other room: axis, prompts, model, metric, data source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from PIL import Image

import metrics
import models
import run_inference
from benchmark.data import sources
from benchmark.data.sources.base import Example
from benchmark.report.results import read_results
from benchmark.settings import axes
from metrics.base import Comparison, Score
from models.base import ImageGenerator, ModelFamily, Request, Runtime, option


# A model: options, a generator, a family.
@dataclass(frozen=True)
class ShadeOptions:
    level: int = option(100, "brightness of every pixel")


class Shade(ImageGenerator):
    def __init__(self, options: ShadeOptions, runtime: Runtime) -> None:
        self.name, self.image_size, self.parameters = "Shade", runtime.image_size, 1_000_000
        self._level = options.level

    def generate(self, requests: Sequence[Request]) -> torch.Tensor:
        levels = torch.tensor([self._level + request.index for request in requests], dtype=torch.uint8)
        return levels[:, None, None, None].expand(-1, 3, self.image_size, self.image_size)


SHADE = ModelFamily("shade", ShadeOptions, lambda _: "Shade", lambda *_: "made up", Shade)


# A metric.
class Brightness:
    key, label = "brightness", "Brightness (higher = better)"
    row = ""

    def __init__(self, scoring: object) -> None:
        pass

    def score(self, comparison: Comparison) -> list[Score]:
        levels = [Image.open(path).getpixel((0, 0))[0] for path in comparison.generated.paths]  # type: ignore[index]
        mean = sum(levels) / len(levels)
        return [Score(self.key, self.label, "Brightness", mean, "higher", len(levels), 0, "first pixel")]


# A data source.
class Stripes:
    name, identity, label_names = "Stripes", "stripes 1", ()

    def examples(self, start: int = 0) -> Iterator[Example]:
        for row in range(start, 8):
            yield Example(f"stripe {row}", Image.new("RGB", (64, 64), (20 * row, 0, 0)))


@pytest.fixture(autouse=True)
def output(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(models, "FAMILIES", (*models.FAMILIES, SHADE))
    for name, value in {
        "WEIGHTS": "tiny", "MODELS": "shade", "NUM_SAMPLES": "3", "NUM_REFERENCES": "4", "METRICS": "psnr",
        "OUTPUT_DIR": str(tmp_path / "out"), "WARMUP": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    return tmp_path / "out"


def header(capsys: pytest.CaptureFixture[str]) -> str:
    return next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Metric"))


def test_a_model_family_is_one_line_of_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_inference.main([]) == 0
    assert header(capsys).split() == ["Metric", "Shade"]


def test_an_axis_is_one_entry_of_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    monkeypatch.setattr(axes, "AXES", [*axes.AXES, lambda _: axes.Axis("shade_level", (50, 200))])
    assert run_inference.main([]) == 0
    assert "Shade (level 50)     Shade (level 200)" in header(capsys)
    found = read_results(output / "results.json").models
    assert [model.options["SHADE_LEVEL"] for model in found] == ["50", "200"]
    levels = [Image.open(Path(model.folder) / "output" / "00000.png").getpixel((0, 0)) for model in found]
    assert levels == [(50, 50, 50), (200, 200, 200)]
    # Both are found again, and a plain run finds its own.
    assert run_inference.main([]) == 0
    monkeypatch.setattr(axes, "AXES", axes.AXES[:-1])
    assert run_inference.main(["--shade-level", "200"]) == 0
    (alone,) = read_results(output / "results.json").models
    assert (alone.name, alone.folder) == ("Shade", found[1].folder)


def test_a_prompt_set_without_images_is_one_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "wishes.txt").write_text("a red robot\n\na blue cat\n")
    monkeypatch.setenv("METRICS", "fid,kid,psnr")
    assert run_inference.main(["--dataset", str(tmp_path / "wishes.txt")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("n/a (no reference images)") >= 3
    assert "Data: wishes, 3 requests per model" in printed
    assert "each prompt was used up to 2 times" in printed


def test_a_prompt_set_has_distances_to_references_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, output: Path
) -> None:
    (tmp_path / "wishes.txt").write_text("a red robot\na blue cat\n")
    monkeypatch.setenv("METRICS", "kid,psnr")
    monkeypatch.setenv("NUM_REFERENCES", "60")
    given = ["--dataset", str(tmp_path / "wishes.txt"), "--reference", "robots", "--num-samples", "12"]
    assert run_inference.main(given) == 0
    (model,) = read_results(output / "results.json").models
    assert [score.key for score in model.scores] == ["kid"], capsys.readouterr().out
    assert model.unscored is not None
    assert set(model.unscored) == {"psnr"}


def test_a_metric_is_one_entry_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(metrics, "METRICS", {**metrics.METRICS, "brightness": Brightness})
    monkeypatch.setenv("METRICS", "brightness")
    assert run_inference.main([]) == 0
    assert "Brightness (higher = better)        101.0" in capsys.readouterr().out


def test_a_data_source_is_one_entry_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], output: Path
) -> None:
    monkeypatch.setattr(sources, "DATASETS", {**sources.DATASETS, "stripes": lambda _: Stripes()})
    assert run_inference.main(["--dataset", "stripes"]) == 0
    assert "Data: Stripes, 3 requests per model" in capsys.readouterr().out
    assert (output / "Stripes" / "input" / "manifest.jsonl").is_file()
