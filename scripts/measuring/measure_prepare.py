"""Times the preparation of a stratified sample against the bare work on its images: decode, crop and resize, encode.

    python scripts/measuring/measure_prepare.py --output docs/measurements/prepare-cpu.json

Makes parquet shards in the layout of huggan/wikiart: JPEGs of gradients, strokes and grain, 1,000 to 1,400 px a side,
styles from rare to frequent. Ours: labels, choice, parquet, crop, digest, PNG, caption, manifest. Bare: the same JPEGs
as files -> Pillow -> PNG of the same compression, in one thread and in as many as ours has. The whole command is ours
with Python's start and all imports. All take turns.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from benchmark.data.preparation import THREADS, prepare_reference
from benchmark.data.selection import Selection
from benchmark.data.sources import open_dataset
from benchmark.measure.clock import Clock
from benchmark.settings.fields import ASSETS
from files.images import open_image
from scripts.measuring.harness import ROOT, describe_run, end_script, open_parser, write_report
from scripts.pixart_scripts.common.prepare_inputs import select

SIDE = 512
SHARDS = 4
CLASSES = {"artist": 129, "genre": 11, "style": 27}
COMMAND = ROOT / "scripts/pixart_scripts/wikiart/prepare_inputs_from_dataset.py"


def paint(index: int) -> bytes:
    """Return a JPEG of about a painting's size in bytes: large gradients, strokes, grain."""
    generator = np.random.default_rng(index)
    width, height = (int(side) for side in generator.integers(1000, 1401, 2))
    pixels = generator.normal(0, 5, (height, width, 3)).astype(np.float32)
    for edge, weight in ((300, 0.6), (40, 0.25), (8, 0.15)):
        coarse = generator.integers(0, 256, (height // edge + 2, width // edge + 2, 3), dtype=np.uint8)
        pixels += weight * np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    file = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, format="JPEG", quality=90)
    return file.getvalue()


def write_file(folder: Path, index: int) -> Path:
    path = folder / f"{index:05d}.jpg"
    path.write_bytes(paint(index))
    return path


def write_shards(files: list[Path], folder: Path) -> None:
    """Write the files as shards; style s has a share of about 1 / (s + 1)."""
    from datasets import ClassLabel, Dataset, Features
    from datasets import Image as ImageFeature

    names = {column: [f"{column}-{number}" for number in range(count)] for column, count in CLASSES.items()}
    features = Features({"image": ImageFeature(), **{name: ClassLabel(names=values) for name, values in names.items()}})
    generator = np.random.default_rng(0)
    weights = 1 / np.arange(1, CLASSES["style"] + 1)
    styles = generator.choice(CLASSES["style"], len(files), p=weights / weights.sum())
    rows = [
        {
            "image": {"bytes": path.read_bytes(), "path": None}, "style": int(style),
            "artist": int(generator.integers(CLASSES["artist"])), "genre": int(generator.integers(CLASSES["genre"])),
        }
        for path, style in zip(files, styles, strict=True)
    ]  # fmt: skip
    folder.mkdir()
    size = -(-len(rows) // SHARDS)
    for number in range(SHARDS):
        part = Dataset.from_list(rows[number * size : (number + 1) * size], features=features)
        part.to_parquet(folder / f"train-{number:05d}-of-{SHARDS:05d}.parquet")


def open_selection(folder: Path, count: int) -> Selection:
    return select(open_dataset(str(folder), assets=ASSETS, seed=42), count, 42, SIDE)


def prepare(folder: Path, target: Path, count: int) -> None:
    assert len(prepare_reference(open_selection(folder, count), target, count).rows) == count


def convert(target: Path, path: Path) -> None:
    with open_image(path.read_bytes()) as opened:
        image = opened.convert("RGB")
    fitted = ImageOps.fit(image, (SIDE, SIDE), method=Image.Resampling.LANCZOS)
    fitted.save(target / f"{path.stem}.png", compress_level=1)


def convert_all(files: list[Path], target: Path, threads: int) -> None:
    """Do the bare work; one thread is a plain loop."""
    target.mkdir()
    if threads == 1:
        for path in files:
            convert(target, path)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(partial(convert, target), files))


def rate(work: Callable[[Path], Any], target: Path, count: int) -> float:
    """Return images per second of work that writes into `target`, which is deleted afterwards."""
    _, seconds = Clock("cpu").time(lambda: work(target))
    shutil.rmtree(target)
    return count / seconds


def main(given: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    parser = open_parser(__file__, __doc__, repeats=3, repeated="turns of each way")
    parser.add_argument("--images", type=int, default=2000, help="[%(default)s]")
    arguments = parser.parse_args(given)
    count = min(arguments.images, 12) if arguments.tiny else arguments.images
    about = describe_run(__file__)
    about["versions"] |= {name: version(name) for name in ("pillow", "pyarrow", "datasets")}
    with tempfile.TemporaryDirectory() as name:
        folder, target = Path(name), Path(name) / "target"
        (folder / "files").mkdir()
        with ProcessPoolExecutor(os.cpu_count()) as pool:
            files = list(pool.map(partial(write_file, folder / "files"), range(count), chunksize=16))
        source_bytes = sum(path.stat().st_size for path in files)
        shards = folder / "wikiart"
        write_shards(files, shards)
        print(f"{count} images, {source_bytes / count / 1000:.0f} kB each", flush=True)
        command = [sys.executable, str(COMMAND), "--dataset", str(shards), "--num_samples", str(count)]
        ways: dict[str, Callable[[Path], Any]] = {
            "ours": lambda target: prepare(shards, target, count),
            "whole_command": lambda target: subprocess.run([*command, "--output_dir", str(target)], check=True),
            "bare": lambda target: convert_all(files, target, THREADS),
            "bare_one_thread": lambda target: convert_all(files, target, 1),
        }
        rates: dict[str, list[float]] = {}
        for turn in range(arguments.repeats):
            for way in list(ways)[:: 1 if turn % 2 == 0 else -1]:
                rates.setdefault(way, []).append(rate(ways[way], target, count))
                print(f"{way}: {rates[way][-1]:.1f} images/s", flush=True)
    medians = {way: statistics.median(values) for way, values in rates.items()}
    report = {
        "images": count, "side_px": SIDE, "source_bytes": source_bytes, "threads": THREADS,
        "images_per_s": {way: {"median": medians[way], "all": values} for way, values in rates.items()},
        "ratio": medians["ours"] / medians["bare"], "ratio_bar": 0.8,
        "ratio_of_turns": [ours / bare for ours, bare in zip(rates["ours"], rates["bare"], strict=True)],
        "ratio_to_one_thread": medians["ours"] / medians["bare_one_thread"],
    }  # fmt: skip
    write_report(arguments.output, about, report)
    print(arguments.output.read_text(encoding="utf-8"), end="")
    return 0


if __name__ == "__main__":
    end_script(__file__, main)
