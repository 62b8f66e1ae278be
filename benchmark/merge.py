"""Joins copies of one run's OUTPUT_DIR that hosts without a shared file system made, into the first of them.

    python -m benchmark.merge /data/out /mnt/other-host/out          # each the OUTPUT_DIR of one host

Each host made other images of the same run. Copy their OUTPUT_DIRs to one host, and join them there. The first one
gets the lines of the other journals and the images that they name; the others stay as they are. Then run the same
command on one host, with the first one as OUTPUT_DIR: it finds all images there, makes what is missing, and reports.
Reference images, reports and cached features are not joined; that run makes them.

Exit status: 0 where the copies are joined; 2 where they cannot be, and the line on stderr says why. What was stopped
goes on with the same command.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# What takes longer to import is imported below, where a signal already ends the program in one line.
from benchmark.console.arguments import OneLineParser
from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.console.streams import print_whole

NAME = "benchmark.merge"
JOINED, CANNOT = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Join the copies that `arguments` name; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status_of(lambda: _run(given), NAME, "stopped; the same command goes on from here")


def _run(given: Sequence[str]) -> int:
    try:
        outputs: list[Path] = build_parser().parse_args(given).copies
        from benchmark.run.merging import join_copies

        joined = join_copies(outputs, _tell)
    except (ValueError, OSError) as error:
        _tell(str(error))
        return CANNOT
    first = outputs[0]
    lines = [*map(str, joined), f"joined; next, on one host: the same run_inference.py command with OUTPUT_DIR={first}"]
    if reason := print_whole("\n".join(map(visible, lines))):
        _tell(f"the text cannot be printed on stdout ({reason})")
    return JOINED


def _tell(text: str) -> None:
    print(f"{NAME}: {one_line(text)}", file=sys.stderr, flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what does not parse is a ValueError of one line."""
    parser = OneLineParser(
        prog=f"python -m {NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("copies", nargs="+", type=Path, metavar="DIR", help="the OUTPUT_DIR of a copy, the first first")
    return parser


if __name__ == "__main__":
    leave(main())
