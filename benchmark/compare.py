"""Compares runs of the benchmark: what changed from one to another, with intervals; or a leaderboard of many.

    python -m benchmark.compare OLD NEW                       # each a results.json, or the OUTPUT_DIR of a run
    python -m benchmark.compare OLD NEW --slower 5% --worse kid=0.002
    python -m benchmark.compare RUN RUN RUN                   # three or more: a leaderboard, also as CSV and HTML

Two runs: for each column and figure old, new, the ratio or the difference with its 95 % interval, and WIN, TIE or
UNDECIDED. It first says what differs. Speeds of two cards are not compared without --across-machines, scores of
different identities never.

Exit status of two runs: 0; 1 where a figure of NEW is worse by more than is allowed and the whole Holm-adjusted
interval says so; 2 where nothing can be compared, or an argument cannot be used. What stayed undecided is in the
output and changes no status.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path

# What takes longer to import is imported below, where a signal already ends the program in one line.
from benchmark.console.arguments import OneLineParser
from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line
from benchmark.console.streams import print_whole
from benchmark.report.comparison.exit_status import INCOMPARABLE, OK

NAME = "benchmark.compare"
NONE = "none"


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare the runs that `arguments` name; return the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    return exit_status_of(lambda: _run(given), NAME, "stopped")


def _run(given: Sequence[str]) -> int:
    try:
        options = build_parser().parse_args(given)
        if len(options.runs) < 2:
            raise ValueError("one run has nothing to be compared with: name two, or more for a leaderboard")
        text, status = _compare_two(options) if len(options.runs) == 2 else _rank(options)
    except (ValueError, OSError) as error:
        print(f"{NAME}: {one_line(error)}", file=sys.stderr)
        return INCOMPARABLE
    if reason := print_whole(text):
        print(f"{NAME}: the text cannot be printed on stdout ({reason})", file=sys.stderr)
    return status


def _compare_two(options: argparse.Namespace) -> tuple[str, int]:
    from benchmark.report.comparison.gate import Thresholds
    from benchmark.report.comparison.loading import load_runs
    from benchmark.report.comparison.text import format_comparison
    from benchmark.report.comparison.two_runs import compare_runs
    from benchmark.report.typed_json import to_json

    for flag in ("csv", "html", "sort"):
        if getattr(options, flag) is not None:
            raise ValueError(f"--{flag} belongs to a leaderboard of three runs or more")
    worse = dict(each for each in options.worse if each is not None)
    if len(worse) < len(options.worse) and (worse or len(options.worse) > 1):
        raise ValueError("--worse: each score at most once, and none alone")
    old, new = load_runs(options.runs)
    slower = {"slower": options.slower} if hasattr(options, "slower") else {}
    thresholds = Thresholds(**slower, worse=worse, gate_scores=None not in options.worse)
    compared = compare_runs(old, new, thresholds, options.across_machines)
    status = compared.exit_status
    if status == INCOMPARABLE:
        print(f"{NAME}: {options.runs[0]} and {options.runs[1]} have no figure that can be compared", file=sys.stderr)
    if options.json:
        return json.dumps({"exit_status": status, **to_json(compared)}, indent=1), status
    return format_comparison(compared), status


def _rank(options: argparse.Namespace) -> tuple[str, int]:
    from benchmark.report.comparison.leaderboard import rank_runs
    from benchmark.report.comparison.leaderboard_files import format_leaderboard, write_leaderboard
    from benchmark.report.comparison.loading import load_runs
    from benchmark.report.typed_json import to_json

    if options.worse or hasattr(options, "slower"):
        raise ValueError(f"--slower and --worse belong to the comparison of two runs; {len(options.runs)} are named")
    board = rank_runs(load_runs(options.runs), options.sort, options.across_machines)
    places = options.csv or Path("leaderboard.csv"), options.html or Path("leaderboard.html")
    write_leaderboard(board, *places)
    print(f"{NAME}: written to {places[0]} and {places[1]}", file=sys.stderr)
    return (json.dumps(to_json(board), indent=1) if options.json else format_leaderboard(board)), OK


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what does not parse is a ValueError of one line."""
    parser = OneLineParser(
        prog=f"python -m {NAME}", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a results.json, or the OUTPUT_DIR of a run")
    parser.add_argument(
        "--slower", type=_share, default=argparse.SUPPRESS, metavar="SHARE",
        help="two runs: by how much a column of NEW may be slower, 3%% or 0.03; none: speed is not gated [3%%]",
    )  # fmt: skip
    parser.add_argument(
        "--worse", type=_margin, action="append", default=[], metavar="[KEY=]VALUE",
        help="two runs: by how much a score of NEW may be worse, in its own unit: 0.002 for the score that decides, "
        "kid=0.002 for one of them, given again for others; none: no score is gated [twice the half-width of the "
        "interval of the score's floor]",
    )  # fmt: skip
    parser.add_argument("--across-machines", action="store_true", help="compare speeds of two cards; they are marked")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--sort", choices=("score", "speed"), help="three runs or more: what to rank by")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="three runs or more [leaderboard.csv]")
    parser.add_argument("--html", type=Path, metavar="FILE", help="three runs or more [leaderboard.html]")
    return parser


def _share(text: str) -> float | None:
    """Return the share of 3% or 0.03; None of "none"."""
    if text == NONE:
        return None
    number = text.removesuffix("%")
    share = _number(number) / (100 if number != text else 1)
    if not 0 <= share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to below 1: give 3%, 0.03 or none")
    return share


def _margin(text: str) -> tuple[str, float] | None:
    """Return the key ("" where none is given) and the value of kid=0.002 or 0.002; None of "none"."""
    if text == NONE:
        return None
    key, equals, number = text.rpartition("=")
    value = _number(number)
    if value < 0 or (equals and not key):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 0 on, KEY=NUMBER, or none")
    return key, value


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return number


if __name__ == "__main__":
    leave(main())
