"""Writes metadata.jsonl (file_name, text) beside images and their captions, as `datasets` reads an imagefolder.

    python scripts/pixart_scripts/common/make_imagefolder_metadata.py --input_dir local_repo/WikiArt/input/train

Several folders may be named (train and test). A second call changes nothing. Exit status 2 where a folder cannot be
used: an image without a caption is named, and nothing is written for that folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.data.sources.folder import captioned_images, check_captions
from files.reading import read_regular
from files.writing import write_text

METADATA_NAME = "metadata.jsonl"


def write_metadata(folder: Path) -> tuple[int, bool]:
    """Return how many images the folder's metadata.jsonl names, and whether it was written or was so already.

    Raises:
        ValueError: the folder holds no images, or one without a caption or with an empty one, or a table that says
            more than ours.
    """
    files = captioned_images(folder)
    check_captions(folder, files)
    lines = [json.dumps({"file_name": file.path.name, "text": file.caption}, ensure_ascii=False) for file in files]
    content = "".join(f"{line}\n" for line in lines)
    table = folder / METADATA_NAME
    if table.is_file() and read_regular(table) == content.encode():
        return len(files), False
    if table.exists() or table.is_symlink():
        check_replaceable(table)
    write_text(table, content)
    return len(files), True


def check_replaceable(table: Path) -> None:
    """Raise ValueError where a table holds anything but file names and captions, which would be lost."""
    told = "which would be lost: move it away"
    if table.is_symlink() or not table.is_file():
        raise ValueError(f"{table} is a link or not a regular file, {told}")
    for number, text in enumerate(read_regular(table).splitlines(), 1):
        try:
            row = json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError(f"{table} was not written by this script (line {number} is not JSON), {told}") from None
        if not isinstance(row, dict) or row.keys() != {"file_name", "text"}:
            raise ValueError(f"line {number} of {table} holds more than file_name and text, {told}")


def main() -> int:
    """Write the metadata of every folder; return the exit status."""
    parser = argparse.ArgumentParser(description="Write metadata.jsonl for folders of captioned images.")
    parser.add_argument("--input_dir", type=Path, nargs="+", required=True, help="folders such as .../input/train")
    status = 0
    for folder in parser.parse_args().input_dir:
        try:
            count, written = write_metadata(folder)
        except (OSError, ValueError) as error:
            print(f"make_imagefolder_metadata: {one_line(error)}", file=sys.stderr)
            status = 2
            continue
        print(visible(f"{folder / METADATA_NAME}: {count} images{'' if written else ', unchanged'}"))
    return status


if __name__ == "__main__":
    leave(exit_status_of(main, "make_imagefolder_metadata", "stopped; run the same command to resume"))
