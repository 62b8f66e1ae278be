"""Report what a fine-tuning changed: finetune.md, finetune.png (base, LoRA, reference) and strength.png.

    python scripts/finetune_report.py --base_dir local_repo/WikiArt
    WEIGHTS=tiny python scripts/finetune_report.py --base_dir local_repo/tiny/Emoji

The base and the LoRA both generate from the held-out captions (BASE_DIR/input/test) with the same seeds, and both are
scored against the held-out images. Drift is the same comparison on a data set outside the target, `--drift`: whatever
DATASET takes. Weights, models and metrics are set as for run_inference.py (WEIGHTS, PIXART_MODEL, PIXART_BASE,
PIXART_STEPS, PIXART_GUIDANCE, IMAGE_SIZE, INCEPTION_WEIGHTS, ...). Images are kept in the output folder, so that the
same command goes on after a stop. Exit status: 0, or 2 where something is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line
from benchmark.settings.command_line import SettingsError, parse_command
from benchmark.settings.fields import ASSETS, Settings
from scripts.pixart_scripts.common.prepare_inputs import positive_integer

DRIFT_OF_TARGET = {"Robots": "emoji"}


def read_arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """Return the command line's arguments; BASE_DIR is the default of --base_dir."""
    parser = argparse.ArgumentParser(description="Report what a fine-tuning changed.", allow_abbrev=False)
    base_dir = os.environ.get("BASE_DIR") or "local_repo/Gundam"
    parser.add_argument("--base_dir", type=Path, default=Path(base_dir), help="the data set's folder [%(default)s]")
    parser.add_argument("--lora", "--adapter", type=Path, help="the LoRA's folder or file [BASE_DIR/pixart_lora]")
    parser.add_argument("--output_dir", type=Path, help="where the report goes [BASE_DIR/finetune_report]")
    parser.add_argument("--drift", help="a data set outside the target [robots; for Robots: emoji]")
    parser.add_argument(
        "--num_samples", type=positive_integer, default=1000, help="most held-out captions [%(default)s]"
    )
    parser.add_argument(
        "--drift_samples", type=positive_integer, default=256, help="captions of the drift domain [%(default)s]"
    )
    parser.add_argument(
        "--curve_samples", type=positive_integer, default=128, help="captions of each for the curve [%(default)s]"
    )
    parser.add_argument(
        "--training_samples", type=positive_integer, help="most training images to look for copies of [all]"
    )
    parser.add_argument("--strengths", default="0,0.25,0.5,0.75,1", help="of the LoRA, for the curve [%(default)s]")
    parser.add_argument("--batch_size", type=positive_integer, default=16)
    parser.add_argument("--seed", type=int, default=42)
    return parser.parse_args(given)


def make_report(arguments: argparse.Namespace, settings: Settings) -> float | None:
    """Generate, score and write the page; return how much of the way from the base to the floor the LoRA went.

    Raises:
        OSError, ValueError: something is missing; one line says what.
    """
    from benchmark.console.progress import Progress
    from benchmark.measure.machine import choose_machine
    from benchmark.report.contact_sheet import SheetRow, draw_contact_sheet
    from benchmark.settings.runtime import runtime_of, scoring_of
    from finetuning.base import base_options, find_lora
    from finetuning.experiment import DRIFT_METRICS, TARGET_METRICS, Experiment, first_images
    from finetuning.page import (
        CURVE_NAME,
        PAGE_NAME,
        SHEET_NAME,
        CurvePoint,
        Findings,
        check_reports,
        draw_curve,
        write_page,
    )
    from metrics.scoring import fetch_networks
    from models import pixart
    from models.loras.files import find_lora as find_files
    from models.loras.files import lora_digest

    begin = time.monotonic()
    strengths = read_strengths(arguments.strengths)
    lora_folder = find_lora(arguments.base_dir, arguments.lora)
    output = arguments.output_dir or arguments.base_dir / "finetune_report"
    check_reports(output)
    target = read_target(arguments.base_dir, arguments.num_samples, arguments.training_samples)
    drift = read_drift(arguments, target.name, output)
    machine, progress = choose_machine(settings.device, settings.dtype), Progress()
    (options,) = (model.options for model in settings.selected_models() if model.family is pixart.FAMILY)
    cache = output / "cache"
    runtime = replace(runtime_of(settings, "eager", machine), cache=cache, offload=False)
    plain = replace(base_options(options, settings.weights), lora="", lora_scale=1.0)

    def load(strength: float) -> Any:
        lora = replace(plain, lora=str(lora_folder), lora_scale=strength) if strength else plain
        return pixart.FAMILY.load(lora, runtime)

    digest = lora_digest(lora_folder)
    identity = {
        "adapter": digest, "options": str(plain), "weights": settings.weights, "dtype": machine.dtype,
        "device": machine.name, "torch": machine.versions["torch"], "batch_size": str(arguments.batch_size),
        "image_size": str(settings.image_size), "seed": str(arguments.seed),
    }  # fmt: skip
    scoring = replace(scoring_of(settings, machine.device, progress.counted), cache=cache)
    if settings.weights != "tiny":  # as in a run, the embedded model's scores need no download
        fetch_networks(TARGET_METRICS, scoring, progress.arriving, progress.note)
    experiment = Experiment(
        load, output / "images", identity, arguments.batch_size, machine.device, scoring, arguments.seed, progress
    )

    few = (target.first(arguments.curve_samples), drift.first(arguments.curve_samples))
    made = {
        strength: experiment.generate((target, drift) if strength in (0.0, 1.0) else few, strength)
        for strength in strengths
    }
    (before, drift_before), (after, drift_after) = made[0.0], made[1.0]
    curve = []
    for strength, sets in made.items():
        pair = [
            experiment.kernel_distance(first_images(images, len(domain.real)), domain).value
            for images, domain in zip(sets, few, strict=True)
        ]
        curve.append(CurvePoint(strength, *pair))
    findings = Findings(
        target=target, drift=drift,
        before=experiment.score(before, target, TARGET_METRICS),
        after=experiment.score(after, target, TARGET_METRICS),
        floor=experiment.floor(target),
        drift_before=experiment.score(drift_before, drift, DRIFT_METRICS),
        drift_after=experiment.score(drift_after, drift, DRIFT_METRICS),
        curve=curve, curve_count=len(few[0].real),
        curve_floor=experiment.kernel_distance(experiment.floor_images(few[0]), few[0]),
        facts={
            "LoRA": f"{digest} ({find_files(lora_folder).weights.stat().st_size / 1e6:.1f} MB)",
            "For the memorisation guard": f"{len(target.training or ())} training images of {target.name}",
            "Generated with": f"{options.steps} steps, guidance {options.guidance:g}, seed {arguments.seed}",
            "Machine": f"{machine.name}, {machine.dtype}, torch {machine.versions['torch']}",
            "Time of the report": f"{time.monotonic() - begin:.0f} s",
        },
    )  # fmt: skip
    rows = [
        SheetRow(target.real.captions[i], {"base": before.paths[i], "LoRA": after.paths[i], "reference": real}, {})
        for i, real in enumerate(target.real.paths)
    ]
    draw_contact_sheet(rows, ["base", "LoRA", "reference"], output / SHEET_NAME)
    draw_curve(findings, output / CURVE_NAME)
    write_page(findings, output / PAGE_NAME)
    print((output / PAGE_NAME).read_text(encoding="utf-8").split("\n## Strength")[0])
    return findings.gone


def read_strengths(text: str) -> list[float]:
    """Return the LoRA's strengths in rising order, always with 0 and 1. Raises ValueError."""
    try:
        return sorted({0.0, 1.0, *map(float, text.split(","))})
    except ValueError:
        raise ValueError(f"--strengths {text}: expected numbers by commas, such as 0,0.5,1") from None


def read_target(base_dir: Path, most: int, most_training: int | None) -> Any:
    """Return the target domain: held-out captions and images, and the training images or as many of them."""
    from finetuning.experiment import Domain, spread

    held_out, training = (_read_set(base_dir / "input" / split) for split in ("test", "train"))
    if most_training is not None:
        training = spread(training, most_training)
    return Domain(base_dir.resolve().name, held_out, training).first(most)


def _read_set(folder: Path) -> Any:
    from finetuning.images import told_images
    from metrics.base import ImageSet

    files = told_images(folder)
    unusable = [fault for file in files if (fault := file.fault())]
    if unusable:
        raise ValueError(f"{len(unusable)} of {len(files)} rows of {folder} cannot be used: {unusable[0]}")
    return ImageSet(folder.name, tuple(file.path for file in files), tuple(file.caption for file in files))


def read_drift(arguments: argparse.Namespace, target: str, output: Path) -> Any:
    """Return the domain outside the target, its images written beside the report."""
    from benchmark.data.preparation import prepare_reference
    from benchmark.data.sources import open_dataset
    from finetuning.experiment import Domain

    name = arguments.drift or DRIFT_OF_TARGET.get(target, "robots")
    dataset = open_dataset(name, assets=ASSETS, seed=arguments.seed)
    if dataset.name == target:
        raise ValueError(f"--drift {name} is the target itself; name a data set of something else")
    reference = prepare_reference(dataset, output / dataset.name, arguments.drift_samples)
    return Domain(dataset.name, reference.images(arguments.drift_samples))


def main(given: Sequence[str] | None = None) -> int:
    """Make the report; return the exit status."""
    arguments = read_arguments(given)
    try:
        settings = parse_command(["--models", "pixart"], os.environ).settings
        make_report(arguments, settings)
    except (OSError, ValueError, SettingsError) as error:
        print(f"finetune_report: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    leave(exit_status_of(main, "finetune_report", "stopped; the same command goes on from here"))
