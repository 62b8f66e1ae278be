"""Says what the metrics see: real robots, and the same spoiled in seven ways, against other real robots.

    python -m scripts.measuring.measure_sensitivity --output runs/sensitivity.json

Every set has as many images. Captions are not looked at: this is about distributions.
"""

from __future__ import annotations

import argparse
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from benchmark.console.progress import Progress
from benchmark.data.manifest_lines import Row
from benchmark.data.preparation import prepare_reference
from benchmark.data.sources import open_dataset
from benchmark.measure.machine import installed_versions
from files.images import decode_rgb, read_rgb
from metrics import METRICS
from metrics.base import Comparison, ImageSet, Scoring
from metrics.degenerate import find_degenerate

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("fid", "kid", "prdc", "fd-effnet")
COPIES_OF_EACH = 8
HEADS = 10  # class = 10 colour + head


def blurred(picture: Image.Image, _: int) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(1.0))


def jpeg_20(picture: Image.Image, _: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=20)
    file.seek(0)
    return decode_rgb(file.getvalue())


def noisy(picture: Image.Image, index: int) -> Image.Image:
    noise = np.random.default_rng(index).normal(0, 25.5, (*picture.size[::-1], 3))  # 10 % of 255
    return Image.fromarray((np.asarray(picture) + noise).round().clip(0, 255).astype(np.uint8))


def wrong_colours(picture: Image.Image, _: int) -> Image.Image:
    red, green, blue = picture.split()
    return Image.merge("RGB", (blue, red, green))


SPOILED: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "blur, 1 px": blurred,
    "JPEG, quality 20": jpeg_20,
    "noise, 10 %": noisy,
    "wrong colours": wrong_colours,
}


def make_sets(rows: Sequence[Row], count: int, folder: Path) -> dict[str, ImageSet]:
    """Return `count` real images, and as many spoiled in each way; rows have images."""
    paths = [row.path for row in rows if row.path is not None]
    sets = {"real": tuple(paths[:count])}
    for name, spoil in SPOILED.items():
        made = folder / name
        made.mkdir()
        for index, path in enumerate(paths[:count]):
            spoil(read_rgb(path), index).save(made / f"{index:05d}.png")
        sets[name] = tuple(sorted(made.iterdir()))
    half = [row.path for row in rows if row.path is not None and row.label is not None and row.label // HEADS < 5]
    assert len(half) >= count, f"{len(half)} images of half of the classes, {count} are needed"
    sets["half of the classes missing"] = tuple(half[:count])
    sets[f"each of {count // COPIES_OF_EACH} images {COPIES_OF_EACH} times"] = tuple(
        paths[: count // COPIES_OF_EACH] * COPIES_OF_EACH
    )
    return {name: ImageSet(name, paths) for name, paths in sets.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=512)
    parser.add_argument("--references", type=int, default=2000)
    parser.add_argument("--metrics", default=",".join(NAMES))
    parser.add_argument("--cache", type=Path, default=Path("local_repo/cache"))
    parser.add_argument("--output", type=Path, default=Path("runs/sensitivity.json"))
    arguments = parser.parse_args()
    wanted = arguments.references + 3 * arguments.count
    dataset = open_dataset("robots", assets=ROOT / "assets", seed=42)
    prepared = prepare_reference(dataset, arguments.cache / "Sensitivity", wanted)
    reference = prepared.images(arguments.references)
    # The reference's captions say which features there are to be, so that they stay with it.
    scoring = Scoring("cpu", ROOT / "assets", arguments.cache, progress=Progress().counted)
    report: dict[str, Any] = {"count": arguments.count, "versions": installed_versions(), "sets": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, images in make_sets(prepared.rows[arguments.references :], arguments.count, Path(folder)).items():
            scores = [
                score
                for metric in arguments.metrics.split(",")
                for score in METRICS[metric](scoring).score(Comparison(images, reference))
            ]
            rows = [{key: value for key, value in asdict(score).items() if key != "replicates"} for score in scores]
            report["sets"][name] = {"scores": rows, "warnings": find_degenerate(images.paths)}
            shown = "; ".join(f"{score.short} {score.value:.{score.decimals}f}" for score in scores)
            print(f"{name}: {shown} {report['sets'][name]['warnings']}", flush=True)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
