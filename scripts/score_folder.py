"""Scores a folder of images against a folder of reference images, without generating anything.

    python scripts/score_folder.py local_repo/VAR-d16/output --reference local_repo/Gundam/input/test

A picture's caption, where a metric needs it, is read from the text beside it: 00000_caption.txt (or 00000.txt) for
00000.png and 00000_input.png. stdout carries the scores, stderr why one has no value.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from metrics import METRICS
from metrics.base import Comparison, ImageSet, MetricUnavailable, Score, Scoring

ROOT = Path(__file__).resolve().parents[1]


def read_folder(folder: Path) -> ImageSet:
    """Return the images of a folder in the order of their names, with their captions if each has one.

    Raises:
        OSError: there is no such folder, or no image in it.
    """
    from metrics.images import IMAGE_SUFFIXES

    if not folder.is_dir():
        raise OSError(f"no folder {folder}")
    paths = tuple(sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES))
    if not paths:
        raise OSError(f"no image in {folder}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    captions = tuple(caption for path in paths if (caption := _caption(path)) is not None)
    return ImageSet(folder.name, paths, captions if len(captions) == len(paths) else ())


def _caption(path: Path) -> str | None:
    stem = path.stem.removesuffix("_input")
    for beside in (path.with_name(f"{stem}_caption.txt"), path.with_name(f"{path.stem}.txt")):
        if beside.is_file():
            return beside.read_text(encoding="utf-8").strip()
    return None


def score_folder(arguments: argparse.Namespace) -> tuple[list[Score], dict[str, str]]:
    """Return the scores, and for each metric that has none the reason."""
    scoring = Scoring(
        device=arguments.device,
        assets=ROOT / "assets",
        cache=arguments.cache,
        batch_size=arguments.batch_size,
        inception_weights=arguments.inception_weights,
    )
    comparison = Comparison(read_folder(arguments.folder), read_folder(arguments.reference))
    scores: list[Score] = []
    unscored: dict[str, str] = {}
    for name in arguments.metrics.split(","):
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}")
        try:
            scores += METRICS[name](scoring).score(comparison)
        except MetricUnavailable as reason:
            unscored[name] = str(reason)
    return scores, unscored


def format_score(score: Score) -> str:
    """Return the score's lines: label, value and interval; then what it was computed with."""

    def shown(value: float) -> str:
        return f"{value:.{score.decimals}f}"

    interval = "" if score.interval is None else f" (95 %: {shown(score.interval[0])}..{shown(score.interval[1])})"
    against = f" against {score.n_reference}" if score.n_reference else ""
    floor = "" if score.baseline is None else f"; real pictures score {shown(score.baseline)}"
    head = f"{score.label:<36} {shown(score.value)}{interval}"
    return f"{head}\n    {score.identity}, N = {score.n_generated}{against}{floor}"


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = argparse.ArgumentParser(description="Score a folder of images against reference images.")
    parser.add_argument("folder", type=Path, help="the images to score")
    parser.add_argument("--reference", type=Path, required=True, help="the real images")
    parser.add_argument("--metrics", default="fid,kid", help="comma-separated (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="images per forward pass (default: %(default)s)")
    parser.add_argument("--cache", type=Path, default=Path("local_repo/cache"), help="where features are kept")
    named = os.environ.get("INCEPTION_WEIGHTS")
    parser.add_argument(
        "--inception-weights",
        type=Path,
        default=Path(named) if named else None,
        help="the FID Inception's weights file (default: INCEPTION_WEIGHTS, or torch-fidelity's download)",
    )
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    return parser.parse_args()


def main() -> int:
    """Score and print; return the exit status."""
    arguments = read_arguments()
    try:
        scores, unscored = score_folder(arguments)
    except (OSError, ValueError) as error:
        print(f"score_folder: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps({"scores": [asdict(score) for score in scores], "unscored": unscored}, indent=2))
    else:
        for score in scores:
            print(format_score(score))
    for name, reason in unscored.items():
        print(f"{name}: n/a ({reason})", file=sys.stderr)
    return 0 if scores else 1


if __name__ == "__main__":
    sys.exit(main())
