"""Score a folder of images against real ones; nothing is generated.

    python scripts/score_folder.py local_repo/VAR-d16/output --reference local_repo/Gundam/input/test
    python scripts/score_folder.py images --reference robots --metrics fid,kid,prdc --json
    python scripts/score_folder.py images --reference VIRTUAL_imagenet256_labeled.npz --metrics fid
    python scripts/score_folder.py geneval --nested "*/samples/*" --reference robots
    python scripts/score_folder.py samples.npz --reference features.npy
    torchrun --nproc-per-node 4 scripts/score_folder.py images --reference real

Images are a folder, or an array of them: an .npz file with `arr_0`, as guided-diffusion saves samples, or an .npy file,
uint8 of (N, H, W, 3). The reference is that too, or `robots` (drawn from assets/), or statistics, which serve the
Fréchet distance alone: an .npz file with `mu` and `sigma`, as clean-fid, pytorch-fid and the ADM evaluator write them,
or an .npy file of features, (N, D). An image's caption, for the metrics that need one, is the text file beside it:
00000_caption.txt (or 00000.txt, 00000.png.txt, or any with .caption) for 00000.png and 00000_input.png. Scores go to
stdout; progress, what is not looked at, and the reason of each metric without a value, to stderr.

Of several processes of a launcher, each extracts a share of the features, with a GPU of its own where there are any.
The first one scores and prints. The scores are those of one process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import get_args

from benchmark.console.interruption import exit_status_of, leave, stop_on_interrupt
from benchmark.console.plain_text import one_line, visible
from benchmark.console.progress import Progress
from benchmark.data.sources.image_files import captions_beside
from benchmark.measure.machine import choose_machine
from benchmark.ranks.launch import is_first, read_launch, take_gpu
from benchmark.ranks.ranks import RankHelpers, Ranks, open_ranks
from benchmark.ranks.speaking import SpeakingParser, say_failure
from benchmark.ranks.watch import seconds_to_settle
from files.listing import LeftOut, count_reasons, list_folder
from files.reading import decode_text, read_regular, shown
from metrics import METRICS
from metrics.base import (
    CLIP_MODEL,
    DINOV2_MODEL,
    Comparison,
    FeatureDType,
    FidProtocol,
    Helpers,
    ImageSet,
    Score,
    Scoring,
)
from metrics.inputs import (
    EVERY,
    feature_shape,
    is_array,
    is_statistics,
    unpack_images,
)
from metrics.scoring import Scored, fetch_networks, open_metrics, score_all

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_METRICS = "fid,kid"
MOST = 1_000_000  # images at once, or robots
MOST_CAPTION_BYTES = 1_000_000
GOES_ON = "the same command goes on with the features it has kept"


def read_images(source: Path, cache: Path, nested: str | None = None) -> ImageSet:
    """Return the images of a folder in the order of their names, or of an array (see `metrics.inputs`).

    nested: also those of subfolders whose path fits this pattern. Captions are those beside them, if each has one.
    What is not looked at is told on stderr.

    Raises:
        OSError: there is no such folder, or no image in it, or a caption cannot be read.
        ValueError: the array holds something else.
    """
    if source.is_file() and is_array(source):
        return unpack_images(source, cache)
    if not source.is_dir():
        raise OSError(f"no folder {source}; expected a folder of images, or an .npz or .npy file of them")
    listing = list_folder(source, nested=nested is not None)
    paths = listing.images
    if nested is not None:
        paths = tuple(path for path in paths if fnmatch(path.relative_to(source).as_posix(), nested))
    left_out = list(listing.left_out)
    if nested is not None and paths:
        others = sorted(set(listing.images) - set(paths))
        left_out += [LeftOut(listing.name(path), f"its path does not fit --nested {nested}") for path in others]
    ignored = f"not looked at: {'; '.join(count_reasons(left_out))}" if left_out else ""
    if not paths:
        below = 0 if nested is not None else len(list_folder(source).images)
        if nested is not None and listing.images:
            remedy = f"no path below it fits --nested {nested}"
        elif below:
            remedy = f"--nested takes the {below} images of its subfolders"
        else:
            remedy = "give a folder that holds images"
        raise OSError(f"no image in {source}{f' ({ignored})' if ignored else ''}; {remedy}")
    texts = captions_beside(listing)
    bare = [path for path in paths if not texts[path]]
    for path in bare:
        for text in (path.with_name(f"{path.stem}{end}.txt") for end in ("_caption", "")):
            if text.exists():  # a folder or a pipe, which reading refuses by its name
                _caption(text)
    told = [ignored] if ignored else []
    if 0 < len(bare) < len(paths):
        have = "has" if len(bare) == 1 else "have"
        told.append(f"no captions are used, since {len(bare)} {have} none, first {shown(listing.name(bare[0]))}")
    if told:
        print(one_line(f"{source}: {len(paths)} images; {'; '.join(told)}"), file=sys.stderr)
    return ImageSet(source.name, paths, () if bare else tuple(_caption(texts[path][0]) for path in paths))


def _caption(text: Path) -> str:
    try:
        return decode_text(read_regular(text, most_bytes=MOST_CAPTION_BYTES), text).strip()
    except ValueError as error:
        raise OSError(str(error)) from error


def read_comparison(arguments: argparse.Namespace) -> Comparison:
    """Return what is compared with what. Raises OSError or ValueError where one is missing."""
    training = read_images(arguments.training, arguments.cache) if arguments.training else None
    comparison = _compared(arguments)
    comparison = replace(comparison, training=training)
    if arguments.paired:
        targets = pair_by_name(comparison, arguments.folder, Path(arguments.reference))
        comparison = replace(comparison, targets=targets, exact_targets=True)
    return comparison


def pair_by_name(comparison: Comparison, folder: Path, reference: Path) -> tuple[Path, ...]:
    """Return the reference's image of the same name, below its folder, for each generated one.

    Raises:
        ValueError: one has none.
    """

    def name(path: Path, root: Path) -> str:
        below = path.relative_to(root) if path.is_relative_to(root) else Path(path.name)
        return below.with_name(below.stem.removesuffix("_input")).as_posix()

    by_name = {name(path, reference): path for path in comparison.reference.paths}
    names = {path: name(path, folder) for path in comparison.generated.paths}
    missing = [path.name for path, called in names.items() if called not in by_name]
    if missing:
        raise ValueError(
            f"--paired: {len(missing)} images have no reference of their name ({missing[0]}); names must agree"
        )
    return tuple(by_name[called] for called in names.values())


def _compared(arguments: argparse.Namespace) -> Comparison:
    cache, reference = arguments.cache, arguments.reference
    if arguments.folder.is_file() and (shape := feature_shape(arguments.folder)) is not None:
        raise ValueError(
            f"{arguments.folder} holds features of {shape}, and the images themselves are scored: give those, or the "
            "features as --reference"
        )
    generated = read_images(arguments.folder, cache, arguments.nested)
    if reference == "robots":
        from benchmark.data.preparation import prepare_reference
        from benchmark.data.sources import open_dataset

        robots = open_dataset("robots", assets=ROOT / "assets", seed=42)
        return Comparison(
            generated, prepare_reference(robots, cache / "Robots", arguments.robots).images(arguments.robots)
        )
    path = Path(reference)
    if is_statistics(path):
        return Comparison(generated, ImageSet(path.name, ()), statistics=path)
    if path.is_file() and feature_shape(path) is not None:
        return Comparison(generated, ImageSet(path.name, ()), statistics=path)
    is_flat = path.is_dir() and bool(list_folder(path, nested=False).images)
    return Comparison(generated, read_images(path, cache, None if is_flat else arguments.nested))


def score_folder(arguments: argparse.Namespace, helpers: Helpers | None = None) -> tuple[Scored, list[str]]:
    """Return the scores, and what is wrong with the images themselves. helpers: other processes that extract features.

    Raises:
        OSError, ValueError: an argument is wrong, or no metric has a value and one of them broke; the first reason.
    """
    from metrics.degenerate import find_degenerate

    names = list(METRICS) if arguments.metrics == "all" else arguments.metrics.split(",")
    for name in names:
        if name not in METRICS:
            raise ValueError(f"no metric {name!r}; there are {', '.join(METRICS)}, or all")
    progress = Progress()
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
        progress=progress.counted,
        helpers=helpers,
    )
    comparison = read_comparison(arguments)
    fetch_networks(names, scoring, progress.arriving)
    scored = score_all(open_metrics(names, scoring), comparison)
    if scored.errors and not scored.scores:
        raise ValueError(scored.unscored[scored.errors[0]])
    if arguments.write_statistics:
        write_reference_statistics(comparison, scoring, arguments.write_statistics)
    return scored, find_degenerate(comparison.generated, comparison.reference, scoring)


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
    parser = SpeakingParser(description="Score a folder of images against real ones.")
    parser.add_argument("folder", type=_path, help="the images to score: a folder, or .npz or .npy")
    parser.add_argument("--reference", required=True, type=_text, help="a folder of real images, robots, .npz, or .npy")
    parser.add_argument(
        "--metrics", default=DEFAULT_METRICS, help=f"all, or any of {','.join(METRICS)} (default: %(default)s)"
    )
    parser.add_argument(
        "--device", type=_device, default="auto", help="auto, cpu, cuda or cuda:NUMBER (default: %(default)s)"
    )
    parser.add_argument("--paired", action="store_true", help="pair images with references of their name: psnr, ...")
    parser.add_argument(
        "--nested", nargs="?", const=EVERY, type=_text, metavar="PATTERN",
        help="enter subfolders, for paths below the folder that fit PATTERN, '*/samples/*' (alone: all); those of the "
        "reference too, where it holds no image itself",
    )  # fmt: skip
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


def help_first(ranks: Ranks, device: str) -> int:
    """Extract features for the first process until it says that all are scored; return the exit status."""
    chosen = choose_machine(device, "float32").device
    with stop_on_interrupt(is_quiet=True) as stop:
        ranks.attend(stop)
        ranks.serve(chosen)
    return stop.status


def main() -> int:
    """Score and print; return the exit status: 0, 1 where no metric has a value, 2 where nothing can be scored."""
    arguments = read_arguments()
    try:
        launch = read_launch()
        arguments.device = take_gpu(launch, arguments.device)
    except (OSError, ValueError) as error:
        say_failure(f"score_folder: {one_line(error)}")
        return 2
    try:
        with open_ranks(launch, "score_folder", goes_on=GOES_ON) as ranks:
            if not ranks.is_first:
                return help_first(ranks, arguments.device)
            try:
                scored, warnings = score_folder(arguments, None if ranks.is_alone else RankHelpers(ranks))
            finally:
                ranks.finish()
    except (OSError, ValueError) as error:
        if is_first():
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
    leave(exit_status_of(main, "score_folder", f"stopped; {GOES_ON}" if is_first() else "", seconds_to_settle()))
