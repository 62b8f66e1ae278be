"""Scores of pairs of runs that are known to be equal, or of which one has spoiled images."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.console.progress import Progress
from benchmark.data.preparation import prepare_reference
from benchmark.data.reference import Reference
from benchmark.data.sources import open_dataset
from benchmark.data.sources.robots import Robots
from benchmark.measure.machine import choose_machine
from benchmark.run.columns import choose_models, plan_columns
from benchmark.settings.fields import ASSETS, settings_class
from benchmark.settings.runtime import runtime_of
from files.images import read_rgb
from metrics import METRICS
from metrics.base import Comparison, ImageSet, Score, Scoring
from models.base import Request
from scripts.measuring.measure_sensitivity import SPOILED
from scripts.measuring.measure_stages import robot_requests

SPOILED_BY = ("blur, 1 px", "JPEG, quality 20")
SEED = 42
AT_ONCE = 32


def score_equal_runs(runs: int, images: int, references: int, cache: Path) -> Iterator[list[Score]]:
    """Yield the KD-robots of each run: the same prompts, other seeds, VAR's embedded model."""
    given: dict[str, Any] = {"MODELS": "var-d16", "WEIGHTS": "tiny", "DEVICE": "cpu"}
    settings = settings_class()(**given)
    machine = choose_machine("cpu", "auto")
    (column,) = plan_columns(settings, choose_models(settings, "Robots", print), machine)
    runtime = runtime_of(settings, column.mode, machine, Robots(ASSETS, SEED).label_names)
    generator = column.model.family.load(column.model.options, runtime)
    reference = _rows(references, cache).images(references)
    asked = robot_requests(images, SEED)
    for run in range(runs):
        seeds = 1_000_000 * (run + 1)
        requests = [Request(each.index, each.prompt, seeds + each.index, each.class_label) for each in asked]
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for start in range(0, images, AT_ONCE):
                images_BCHW = generator.generate(generator.prepare(requests[start : start + AT_ONCE]))
                for offset, image_CHW in enumerate(images_BCHW.cpu()):
                    paths.append(Path(folder) / f"{start + offset:05d}.png")
                    Image.fromarray(image_CHW.permute(1, 2, 0).numpy()).save(paths[-1])
            yield list(_scores(ImageSet("images", tuple(paths)), reference, cache, ("kid",)).values())


def score_spoiled_runs(
    runs: int, images: int, references: int, cache: Path, metrics: Sequence[str]
) -> Iterator[dict[str, dict[str, Score]]]:
    """Yield for each run the scores of real robots and of the same ones spoiled, by metric; other robots each time."""
    rows = _rows(references + runs * images, cache)
    reference = rows.images(references)
    for run in range(runs):
        first = references + run * images
        real = tuple(row.path for row in rows.rows[first : first + images] if row.path is not None)
        found = {"real": _scores(ImageSet("real", real), reference, cache, metrics)}
        for name in SPOILED_BY:
            with tempfile.TemporaryDirectory() as folder:
                paths = []
                for index, path in enumerate(real):
                    paths.append(Path(folder) / f"{index:05d}.png")
                    SPOILED[name](read_rgb(path), index).save(paths[-1])
                found[name] = _scores(ImageSet(name, tuple(paths)), reference, cache, metrics)
        yield found


def _rows(count: int, cache: Path) -> Reference:
    return prepare_reference(open_dataset("robots", assets=ASSETS, seed=SEED), cache / "Sensitivity", count)


def _scores(images: ImageSet, reference: ImageSet, cache: Path, metrics: Sequence[str]) -> dict[str, Score]:
    scoring = Scoring("cpu", ASSETS, cache, progress=Progress().counted)
    return {
        metric: score
        for metric in metrics
        for score in METRICS[metric](scoring).score(Comparison(images, reference))
        if score.key == metric
    }
