"""The whole program on pipelines of the zoo: its flags, and the images that it leaves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image
from zoo_entries import REQUESTS, Entry


def shares(entries: Mapping[str, Entry]) -> list[list[str]]:
    """Return the names of entries, those together that one run of the program can ask for alike."""

    def settings(name: str) -> str:
        return repr((entries[name].asked, sorted(entries[name].options.items())))

    return [list(names) for _, names in groupby(sorted(entries, key=settings), key=settings)]


def flags(folders: Iterable[Path], entry: Entry, output: Path, **more: object) -> list[str]:
    """Return the flags of a run that makes the images of REQUESTS with each of these pipelines, as `entry` asks."""
    prompts = output.with_name(output.name + ".txt")
    prompts.write_text("".join(f"{request.prompt}\n" for request in REQUESTS))
    settings = {
        "models": ",".join(f"hub:{folder}" for folder in folders),
        "dataset": prompts,
        "num_samples": len(REQUESTS),
        "batch_size": len(REQUESTS),
        "seed": REQUESTS[0].seed,
        "image_size": entry.asked,
        "metrics": "psnr",
        "device": "cpu",
        "dtype": "float32",
        "warmup": 0,
        "output_dir": output,
        **{f"hub_{name}": value for name, value in entry.options.items()},
        **more,
    }
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def images_of(output: Path, name: str) -> np.ndarray:
    """Return `images_BHWC`, uint8: what a run left in OUTPUT_DIR for the column of this name."""
    paths = sorted((output / name / "output").glob("*.png"))
    assert len(paths) == len(REQUESTS), f"{name}: {len(paths)} images"
    return np.stack([np.asarray(Image.open(path).convert("RGB")) for path in paths])
