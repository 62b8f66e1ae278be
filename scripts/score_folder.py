"""Score a folder of images against real ones; nothing is generated.

    python scripts/score_folder.py local_repo/VAR-d16/output --reference local_repo/Gundam/input/test
    python scripts/score_folder.py images --reference robots --metrics fid,kid,prdc --json
    python scripts/score_folder.py images --reference VIRTUAL_imagenet256_labeled.npz --metrics fid

The reference is a folder, `robots` (drawn from assets/), or statistics: an .npz file with `mu` and `sigma`, as
clean-fid, pytorch-fid and the ADM evaluator write them, which serve the Fréchet distance alone. An image's caption,
for the metrics that need one, is the text file beside it: 00000_caption.txt (or 00000.txt) for 00000.png and
00000_input.png. Scores go to stdout; progress, and the reason of each metric without a value, to stderr.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import NoReturn, get_args

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line, visible
from benchmark.console.progress import Progress
from benchmark.measure.machine import choose_machine
from files.images import SUFFIXES
from files.reading import read_regular
from metrics import METRICS
from metrics.base import (
    CLIP_MODEL,
    DINOV2_MODEL,
    Comparison,
    FeatureDType,
    FidProtocol,
    ImageSet,
    Score,
    Scoring,
)
from metrics.scoring import Scored, open_metrics, score_all

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_METRICS = "fid,kid"
MOST = 1_000_000  # images at once, or robots
MOST_CAPTION_BYTES = 1_000_000


def read_folder(folder: Path) -> ImageSet:
    """Return the images of a folder in the order of their names, with their captions if each has one.

    Raises:
        OSError: there is no such folder, or no image in it, or a caption cannot be read.
    """
    if not folder.is_dir():
        raise OSError(f"no folder {folder}; expected a folder of images")
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    paths = tuple(path for path in entries if path.suffix.lower() in SUFFIXES)
    others = [path.name for path in entries if path not in set(paths) and path.suffix not in (".txt", ".jsonl", ".csv")]
    ignored = f"{len(others)} other entries ({', '.join(others[:3])}{', ...' if len(others) > 3 else ''})"
    if not paths:
        there = f", which holds {ignored}; subfolders are not entered" if others else ""
        raise OSError(f"no image in {folder}{there}; looked for {', '.join(sorted(SUFFIXES))}")
    if others:
        print(one_line(f"{folder}: {len(paths)} images; not looked at: {ignored}"), file=sys.stderr)
    captions = tuple(caption for path in paths if (caption := _caption(path)) is not None)
    return ImageSet(folder.name, paths, captions if len(captions) == len(paths) else ())


def _caption(path: Path) -> str | None:
    stem = path.stem.removesuffix("_input")
    for beside in (path.with_name(f"{stem}_caption.txt"), path.with_name(f"{path.stem}.txt")):
        if beside.exists():
            try:
                return read_regular(beside, most_bytes=MOST_CAPTION_BYTES).decode("utf-8-sig").strip()
            except UnicodeDecodeError as error:
                raise OSError(f"{beside} is no text in UTF-8 (byte {error.start}); save it as UTF-8") from error
    return None


def read_comparison(arguments: argparse.Namespace) -> Comparison:
    """Return what is compared with what. Raises OSError or ValueError where one is missing."""
    training = read_folder(arguments.training) if arguments.training else None
    comparison = _read_images(arguments.folder, arguments.reference, arguments.cache, arguments.robots)
    comparison = replace(comparison, training=training)
    if arguments.paired:
        targets = pair_by_name(comparison.generated, comparison.reference)
        comparison = replace(comparison, targets=targets, exact_targets=True)
    return comparison


def pair_by_name(generated: ImageSet, reference: ImageSet) -> tuple[Path, ...]:
    """Return the reference's image of the same name for each generated one. Raises ValueError where one has none."""
    by_name = {path.stem.removesuffix("_input"): path for path in reference.paths}
    missing = [path.name for path in generated.paths if path.stem.removesuffix("_input") not in by_name]
    if missing:
        raise ValueError(
            f"--paired: {len(missing)} images have no reference of their name ({missing[0]}); names must agree"
        )
    return tuple(by_name[path.stem.removesuffix("_input")] for path in generated.paths)


def _read_images(folder: Path, reference: str, cache: Path, robots: int) -> Comparison:
    generated = read_folder(folder)
    if reference == "robots":
        from benchmark.data.preparation import prepare_reference
        from benchmark.data.sources import open_dataset

        prepared = prepare_reference(open_dataset("robots", assets=ROOT / "assets", seed=42), cache / "Robots", robots)
        return Comparison(generated, prepared.images(robots))
    path = Path(reference)
    if path.suffix.lower() == ".npz":
        return Comparison(generated, ImageSet(path.name, ()), statistics=path)
    return Comparison(generated, read_folder(path))


def score_folder(arguments: argparse.Namespace) -> tuple[Scored, list[str]]:
    """Return the scores, and what is wrong with the images themselves.

    Raises:
        OSError, ValueError: an argument is wrong, or no metric has a value and one of them broke; the first reason.
    """
    from metrics.degenerate import find_degenerate

    names = list(METRICS) if arguments.metrics == "all" else arguments.metrics.split(",")
    for name in names:
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}, or all")
    scoring = Scoring(
        device=choose_machine(arguments.device, "float32").device,
        assets=ROOT / "assets",
        cache=arguments.cache,
        batch_size=arguments.batch_size,
        inception_weights=arguments.inception_weights,
        fid_protocol=arguments.fid_protocol,
        feature_dtype=arguments.feature_dtype,
        dinov2_model=arguments.dinov2_model,
        clip_model=arguments.clip_model,
        progress=Progress().counted,
    )
    comparison = read_comparison(arguments)
    scored = score_all(open_metrics(names, scoring), comparison)
    if scored.errors and not scored.scores:
        raise ValueError(scored.unscored[scored.errors[0]])
    if arguments.write_statistics:
        write_reference_statistics(comparison, scoring, arguments.write_statistics)
    return scored, find_degenerate(comparison.generated.paths, comparison.reference.paths)


def write_reference_statistics(comparison: Comparison, scoring: Scoring, path: Path) -> None:
    """Write mean and covariance of the reference's features. Raises ValueError where there are no images of it."""
    from metrics.features import cached_features, choose_extractor
    from metrics.frechet import write_statistics

    if comparison.statistics is not None:
        raise ValueError(f"--write-statistics needs images as the reference, and {comparison.statistics} is statistics")
    extractor = choose_extractor(comparison.reference, scoring)
    write_statistics(path, cached_features(comparison.reference, extractor, scoring), extractor.identity)
    print(f"wrote {path}: {extractor.identity}, N = {len(comparison.reference)}", file=sys.stderr)


def format_score(score: Score) -> str:
    """Return the score's lines: label, value and interval; then what it was computed with."""

    def shown(value: float) -> str:
        return f"{value:.{score.decimals}f}"

    interval = "" if score.interval is None else f" (95 %: {shown(score.interval[0])}..{shown(score.interval[1])})"
    against = f" against {score.n_reference}" if score.n_reference else ""
    floor = "" if score.floor is None else f"; {score.floor_meaning} {shown(score.floor)} at N = {score.floor_count}"
    head = f"{score.label:<36} {shown(score.value)}{interval}"
    return f"{head}\n    {score.identity}, N = {score.n_generated}{against}{floor}"


class _Parser(argparse.ArgumentParser):
    """Tells what is wrong with the arguments in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"score_folder: {one_line(message)}; --help lists the arguments\n")


def _text(value: str) -> str:
    """Return what an argument holds. Raises argparse.ArgumentTypeError where that is nothing."""
    if not value.strip():
        raise argparse.ArgumentTypeError("expected a value, found nothing")
    return value


def _path(value: str) -> Path:
    """Return a path. Raises argparse.ArgumentTypeError for an empty one, which would be the current folder."""
    return Path(_text(value))


def _whole(least: int) -> Callable[[str], int]:
    """Return what reads a whole number of at least `least`."""

    def read(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,7}", value) or not least <= int(value) <= MOST:
            raise argparse.ArgumentTypeError(f"expected a whole number of {least} to {MOST:,}, found {value[:40]!r}")
        return int(value)

    return read


def _device(value: str) -> str:
    """Return a device's name. Raises argparse.ArgumentTypeError where it is none."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", value):
        raise argparse.ArgumentTypeError(f"expected auto, cpu, cuda or cuda:NUMBER, found {value[:40]!r}")
    return value


def read_arguments() -> argparse.Namespace:
    """Return the command line's arguments."""
    parser = _Parser(description="Score a folder of images against real ones.")
    parser.add_argument("folder", type=_path, help="the images to score")
    parser.add_argument(
        "--reference", required=True, type=_text, help="a folder of real images, robots, or an .npz of statistics"
    )
    parser.add_argument(
        "--metrics", default=DEFAULT_METRICS, help=f"all, or any of {','.join(METRICS)} (default: %(default)s)"
    )
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:NUMBER (default: %(default)s)"
    )
    parser.add_argument("--paired", action="store_true", help="pair images with references of their name: psnr, ...")
    parser.add_argument("--training", type=_path, help="a folder of training images, for memorisation")
    parser.add_argument(
        "--batch-size", type=_whole(0), default=0, help="images at once (default, and 0: what suits the device)"
    )
    parser.add_argument("--cache", type=_path, default=Path("local_repo/cache"), help="where features are kept")
    parser.add_argument("--robots", type=_whole(1), default=2000, help="how many robots --reference robots is")
    named = os.environ.get("INCEPTION_WEIGHTS")
    parser.add_argument(
        "--inception-weights",
        type=_path,
        default=Path(named) if named else None,
        help="the FID Inception's weights file (default: INCEPTION_WEIGHTS, or torch-fidelity's download)",
    )
    parser.add_argument(
        "--fid-protocol",
        choices=get_args(FidProtocol),
        default=os.environ.get("FID_PROTOCOL", "clean"),
        help="how images are resized for the Inception (default: %(default)s)",
    )
    parser.add_argument(
        "--feature-dtype",
        choices=get_args(FeatureDType),
        default=os.environ.get("FEATURE_DTYPE", "float32"),
        help="arithmetic of the networks (default: %(default)s)",
    )
    parser.add_argument("--dinov2-model", default=os.environ.get("DINOV2_MODEL", DINOV2_MODEL), help="for fd-dinov2")
    parser.add_argument("--clip-model", default=os.environ.get("CLIP_MODEL", CLIP_MODEL), help="for cmmd, clipscore")
    parser.add_argument("--write-statistics", type=_path, metavar="NPZ", help="keep the reference's mu and sigma here")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    arguments = parser.parse_args()
    for name, choices in (("fid_protocol", get_args(FidProtocol)), ("feature_dtype", get_args(FeatureDType))):
        if getattr(arguments, name) not in choices:  # argparse does not look at what the environment says
            parser.error(f"{name.upper()}={getattr(arguments, name)}: expected one of {', '.join(choices)}")
    return arguments


def main() -> int:
    """Score and print; return the exit status: 0, 1 where no metric has a value, 2 where nothing can be scored."""
    arguments = read_arguments()
    try:
        scored, warnings = score_folder(arguments)
    except (OSError, ValueError) as error:
        print(f"score_folder: {one_line(error)}", file=sys.stderr)
        return 2
    if arguments.json:
        scores = [asdict(score) for score in scored.scores]
        content = {"scores": scores, "unscored": scored.unscored, "warnings": warnings}
        print(json.dumps(content, indent=2))
    else:
        for score in scored.scores:
            print(visible(format_score(score), keep="\n"))
    for name, reason in scored.unscored.items():
        print(f"{name}: n/a ({one_line(reason)})", file=sys.stderr)
    for warning in warnings:
        print(f"WARNING: {one_line(warning)}", file=sys.stderr)
    return 0 if scored.scores else 1


if __name__ == "__main__":
    leave(exit_status_of(main, "score_folder", "stopped; the same command goes on with the features it has kept"))
