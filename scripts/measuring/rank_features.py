"""One rank of a measurement of features: what `measure_scaling` starts, alone and under torchrun.

    python -m scripts.measuring.rank_features images --warm warm --weights inception.pth --output features.json
    torchrun --nproc-per-node 4 -m scripts.measuring.rank_features images ...

Rank 0 has the features of a folder of PNGs extracted as a metric does, by itself and by the other ranks, after a small
folder has loaded each rank's network. Then all ranks decode their shares alone. Rank 0 writes the seconds of both,
those in which the files were read for their digests, and how many decoded images its own network takes in a second.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.measure.clock import Clock
from benchmark.measure.machine import choose_machine
from benchmark.ranks.launch import read_launch, take_gpu
from benchmark.ranks.ranks import RankHelpers, Ranks, open_ranks
from files.writing import write_text
from metrics.base import ImageSet, Scoring
from metrics.entries import entry_of
from metrics.features import cached_features, open_extractor
from metrics.images import stream_batches, stream_images

NAME = "rank_features"
CALLS = 8  # of the extractor with a batch of decoded images


@dataclass(frozen=True)
class Decoding:
    """The work of decoding every `step`-th image of a folder from `first` on; all of a folder's ranks share it so."""

    folder: Path
    first: int
    step: int
    at_once: int

    def __call__(self, device: str) -> None:  # noqa: ARG002 (a work takes the device of its process)
        paths = sorted(self.folder.iterdir())[self.first :: self.step]
        for _ in stream_images(paths, self.at_once):
            pass


def measure(options: argparse.Namespace, ranks: Ranks, device: str) -> dict[str, object]:
    """Return seconds of features and of decoding. Called by rank 0."""
    helpers = None if ranks.is_alone else RankHelpers(ranks)
    scoring = Scoring(
        device, options.folder, options.cache, inception_weights=options.weights, feature_dtype=options.dtype,
        batch_size=options.batch_size, helpers=helpers,
    )  # fmt: skip
    extractor = open_extractor(options.extractor, scoring)
    clock = Clock(device)
    warm, images = (ImageSet(folder.name, tuple(sorted(folder.iterdir()))) for folder in (options.warm, options.folder))
    _, warm_s = clock.time(lambda: cached_features(warm, extractor, scoring))
    _, digest_s = clock.time(lambda: entry_of(images, extractor.identity, scoring))
    features_ND, extract_s = clock.time(lambda: cached_features(images, extractor, scoring))
    features_s = digest_s + extract_s  # as `cached_features` alone would have taken
    _, decode_s = clock.time(partial(_decode, options.folder, ranks, scoring.images_at_once))
    decoded = next(stream_batches(warm.paths, scoring.images_at_once))
    _, calls_s = clock.time(lambda: [extractor.extract(decoded) for _ in range(CALLS)])
    return {
        "ranks": ranks.launch.ranks, "images": len(images), "width": features_ND.shape[1], "device": device,
        "cores": os.cpu_count(), "images_at_once": scoring.images_at_once, "warm_s": warm_s,
        "digest_s": digest_s, "features_s": features_s,
        "decode_s": decode_s, "features_per_s": len(images) / features_s, "decode_per_s": len(images) / decode_s,
        "extract_per_s": CALLS * len(decoded) / calls_s, "sum": float(features_ND.double().sum()),
    }  # fmt: skip


def _decode(folder: Path, ranks: Ranks, at_once: int) -> None:
    works: list[Callable[[str], None]] = [Decoding(folder, rank, ranks.launch.ranks, at_once) for rank in ranks.others]
    wait = ranks.ask(works) if works else None
    Decoding(folder, 0, ranks.launch.ranks, at_once)("")
    if wait is not None and any(failures := wait(lambda: None)):
        raise OSError(next(filter(None, failures)))


def main(given: Sequence[str] | None = None) -> int:
    """Be a rank; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="PNGs")
    parser.add_argument("--warm", type=Path, required=True, help="other PNGs, enough for a share of each rank")
    parser.add_argument("--weights", type=Path, required=True, help="of the FID Inception")
    parser.add_argument("--extractor", default="inception", help="appearance: thumbnails, nearly decoding alone")
    parser.add_argument("--cache", type=Path, required=True, help="an empty folder")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="float32", help="as FEATURE_DTYPE")
    parser.add_argument("--batch-size", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args(given)
    launch = read_launch()
    device = take_gpu(launch, options.device)
    with open_ranks(launch, NAME) as ranks:
        machine = choose_machine(device, "float32")
        if not ranks.is_first:
            ranks.serve(machine.device)
            return 0
        found = measure(options, ranks, machine.device)
        ranks.finish()
    write_text(options.output, json.dumps(found) + "\n")
    print(f"{NAME}: {found}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    leave(exit_status_of(main, NAME, "stopped"))
