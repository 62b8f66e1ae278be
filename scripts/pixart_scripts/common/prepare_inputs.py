"""Writes a data set's images and captions where fine-tuning and the benchmark find them: OUTPUT_DIR/NAME/input.

    python scripts/pixart_scripts/common/prepare_inputs.py --dataset gundam --num_samples 1000
    python scripts/pixart_scripts/common/prepare_inputs.py --dataset /data/paintings --stratify --num_samples 2000

input/{train,test}/00000_input.png with 00000_caption.txt beside it, split by the image's content. With --stratify: a
sample in equal shares of the labels, each image cut to its central square and reduced to --image_size; without: the
first rows as they are. A second call changes nothing, one after a kill goes on. Exit status 2 where it cannot be done.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.console.progress import Progress
from benchmark.data.arrangement import adopt_arrangement
from benchmark.data.preparation import prepare_reference, tell
from benchmark.data.reference import Reference
from benchmark.data.selection import Selection
from benchmark.data.sources import open_dataset
from benchmark.data.sources.base import CaptionedImages, Surveyed
from benchmark.data.sources.table import Table
from benchmark.settings.fields import ASSETS


def main(arguments: Sequence[str] | None = None, *, dataset: str = "", name: str = "", stratify: bool = False) -> int:
    """Prepare what `arguments` ask for; the keywords are the defaults of their flags. Return the exit status."""
    parser = argparse.ArgumentParser(description="Write a data set's images and captions.", allow_abbrev=False)
    parser.add_argument(
        "--dataset", default=dataset, required=not dataset, metavar="NAME",
        help="gundam, wikiart, robots, emoji, a local folder, or a hub id org/name [%(default)s]",
    )  # fmt: skip
    parser.add_argument("--num_samples", type=positive_integer, default=2000, help="rows to prepare [%(default)s]")
    parser.add_argument("--seed", type=int, default=42, help="of the sample, and of robots [%(default)s]")
    parser.add_argument(
        "--stratify", action=argparse.BooleanOptionalAction, default=stratify,
        help="a sample in equal shares of the labels, cropped; else the first rows as they are",
    )  # fmt: skip
    parser.add_argument(
        "--image_size", type=positive_integer, default=512, help="pixels a side of a crop [%(default)s]"
    )
    parser.add_argument("--output_dir", type=Path, default=Path("local_repo"), help="[%(default)s]")
    parser.add_argument("--name", default=name, help="folder under output_dir; default: the data set's own name")
    options = parser.parse_args(arguments)
    try:
        source = open_dataset(options.dataset, assets=ASSETS, seed=options.seed)
        folder = options.output_dir / (options.name or source.name)
        if options.stratify:
            source = select(source, options.num_samples, options.seed, options.image_size)
        reference = prepare(source, folder, options.num_samples)
    except (OSError, ValueError) as error:
        print(f"prepare_inputs: {one_line(error)}", file=sys.stderr)
        return 2
    print(visible(summarize(reference, folder)))
    return 0


def select(dataset: CaptionedImages, count: int, seed: int, side: int) -> Selection:
    """Return a stratified sample of the data set. Raises ValueError where it is no table, which has no labels apart."""
    if not isinstance(dataset, Table):
        raise ValueError(
            f"{dataset.name} has no column of labels, so it cannot be stratified: give a hub id or a "
            "folder of parquet shards, or --no-stratify"
        )
    return Selection(dataset, count, seed, side)


def prepare(dataset: CaptionedImages, folder: Path, rows: int) -> Reference:
    """Write the first rows into `folder/input`, with progress on stderr, and return them. Raises as prepare_reference.

    Rows asked for as they are go on with a selection that lies in the folder, as the benchmark does.
    """
    if isinstance(dataset, Surveyed):
        tell(dataset.survey.summary(dataset.name))
    dataset = adopt_arrangement(dataset, folder)
    with Progress().task(f"{folder.name} inputs", rows, unit="images") as task:
        return prepare_reference(dataset, folder, rows, task.report)


def summarize(reference: Reference, folder: Path) -> str:
    """Return one line: rows in each split, the fewest and most of a label, and images that do not decode."""
    splits = Counter(row.split for row in reference.rows if row.path is not None)
    parts = [f"{splits['train']} train and {splits['test']} test images"]
    counts = Counter(row.label for row in reference.rows if row.label is not None)
    if counts:
        parts.append(f"{min(counts.values())} to {max(counts.values())} of each of {len(counts)} labels")
    parts.append(f"{reference.without_image()} of {len(reference.rows)} rows without an image that decodes")
    return f"{folder / 'input'}: {', '.join(parts)}"


def positive_integer(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return int(text)


if __name__ == "__main__":
    leave(exit_status_of(main, "prepare_inputs", "stopped; run the same command to resume"))
