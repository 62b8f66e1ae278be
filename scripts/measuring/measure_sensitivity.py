"""Says what the metrics see: real robots, and the same spoiled in seven ways, against other real robots.

    python -m scripts.measuring.measure_sensitivity --output runs/sensitivity.json

Every set has as many images. Captions are not looked at: this is about distributions.
"""

from __future__ import annotations

import io
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
from files.images import decode_rgb, read_rgb
from metrics import METRICS
from metrics.base import Comparison, ImageSet, Scoring
from metrics.degenerate import find_degenerate
from scripts.measuring.harness import ROOT, describe_run, end_script, open_parser, write_report

NAMES = ("fid", "kid", "prdc", "fd-effnet")
COPIES_OF_EACH = 8
HEADS = 10  # class = 10 colour + head


def blurred(image: Image.Image, _: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(1.0))


def jpeg_20(image: Image.Image, _: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, format="JPEG", quality=20)
    file.seek(0)
    return decode_rgb(file.getvalue())


def noisy(image: Image.Image, index: int) -> Image.Image:
    noise = np.random.default_rng(index).normal(0, 25.5, (*image.size[::-1], 3))  # 10 % of 255
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def wrong_colours(image: Image.Image, _: int) -> Image.Image:
    red, green, blue = image.split()
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


def main(given: Sequence[str] | None = None) -> int:
    """Score every set."""
    parser = open_parser(__file__, __doc__)
    parser.add_argument("--count", type=int, default=512, help="images of a set [%(default)s]")
    parser.add_argument("--references", type=int, default=2000, help="[%(default)s]")
    parser.add_argument("--metrics", default=",".join(NAMES), help="comma-separated [%(default)s]")
    parser.add_argument("--cache", type=Path, default=Path("local_repo/cache"), help="[%(default)s]")
    arguments = parser.parse_args(given)
    count, references = arguments.count, arguments.references
    if arguments.tiny:
        count, references = min(count, 16), min(references, 64)
    wanted = references + 3 * count
    dataset = open_dataset("robots", assets=ROOT / "assets", seed=42)
    prepared = prepare_reference(dataset, arguments.cache / "Sensitivity", wanted)
    reference = prepared.images(references)
    # The reference's captions say which features there are to be, so that they stay with it.
    scoring = Scoring("cpu", ROOT / "assets", arguments.cache, progress=Progress().counted)
    about = describe_run(__file__)
    sets: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, images in make_sets(prepared.rows[references:], count, Path(folder)).items():
            scores = [
                score
                for metric in arguments.metrics.split(",")
                for score in METRICS[metric](scoring).score(Comparison(images, reference))
            ]
            rows = [{key: value for key, value in asdict(score).items() if key != "replicates"} for score in scores]
            sets[name] = {"scores": rows, "warnings": find_degenerate(images, ImageSet("none", ()), scoring)}
            shown = "; ".join(f"{score.short} {score.value:.{score.decimals}f}" for score in scores)
            print(f"{name}: {shown} {sets[name]['warnings']}", flush=True)
            write_report(arguments.output, about, {"count": count, "sets": sets})
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
