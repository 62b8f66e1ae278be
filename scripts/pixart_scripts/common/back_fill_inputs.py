"""Writes the images and captions that belong to images already generated: for 00007.png, row 7 of the data set.

    python scripts/pixart_scripts/common/back_fill_inputs.py --dataset gundam

Looks at every OUTPUT_DIR/*/output/*.png and fills OUTPUT_DIR/NAME/input up to the highest index, each row once and
under its own number; past the data set's last row, image i belongs to row i mod the number of rows. The rows are those
that the benchmark prepares, so either goes on with what the other did. A second call changes nothing. Captioned
images that this program did not write (no manifest.jsonl beside them) are left as they are. Exit status 2 where it
cannot be done.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.data.sources import open_dataset
from benchmark.data.sources.folder import captioned_images
from benchmark.settings.fields import ASSETS
from files.listing import list_folder
from scripts.pixart_scripts.common.prepare_inputs import positive_integer, prepare, summarize

FEW_ROWS = 100  # too few for a LoRA to learn a domain from


def main(arguments: Sequence[str] | None = None) -> int:
    """Back-fill what `arguments` ask for; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the inputs of images already generated.", allow_abbrev=False)
    parser.add_argument("--dataset", required=True, metavar="NAME", help="as the benchmark's DATASET")
    parser.add_argument("--output_dir", type=Path, default=Path("local_repo"), help="[%(default)s]")
    parser.add_argument("--name", default="", help="folder under output_dir; default: the data set's own name")
    parser.add_argument(
        "--num_rows", type=positive_integer, default=2000, help="where nothing is generated yet [%(default)s]"
    )
    parser.add_argument("--seed", type=int, default=42, help="of robots, as the benchmark's SEED [%(default)s]")
    options = parser.parse_args(arguments)
    try:
        dataset = open_dataset(options.dataset, assets=ASSETS, seed=options.seed)
        folder = options.output_dir / (options.name or dataset.name)
        foreign = count_foreign(folder / "input")
        if foreign:
            counts = " and ".join(f"{count} in {split}" for split, count in foreign.items())
            print(
                visible(f"{folder / 'input'}: {counts}, all captioned but without a manifest.jsonl: left as they are")
            )
            return 0
        indices = generated_indices(options.output_dir)
        rows = max(indices) + 1 if indices else options.num_rows
        print(visible(summarize(prepare(dataset, folder, rows), folder)))
        if indices and rows < FEW_ROWS:
            told = (
                f"back_fill_inputs: only {rows} rows, since the images under {options.output_dir} go up to "
                f"{rows - 1:05d}: generate more of them, or write more rows with prepare_inputs.py --num_samples"
            )
            print(visible(told), file=sys.stderr)
    except (OSError, ValueError) as error:
        print(f"back_fill_inputs: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


def generated_indices(output_dir: Path) -> set[int]:
    """Return the indices of the images that lie in any model's folder."""
    stems = (path.stem for path in output_dir.glob("*/output/*.png"))
    return {int(stem) for stem in stems if stem.isascii() and stem.isdigit()}


def count_foreign(folder: Path) -> dict[str, int]:
    """Return the number of captioned images in each split of a folder that is not ours; empty where it is.

    Raises:
        ValueError: an image there has no caption.
    """
    if (folder / "manifest.jsonl").exists():
        return {}
    return {
        split: len(captioned_images(folder / split))
        for split in ("train", "test")
        if (folder / split).is_dir() and list_folder(folder / split, nested=False).images
    }


if __name__ == "__main__":
    leave(exit_status_of(main, "back_fill_inputs", "stopped; run the same command to resume"))
