"""Report what a fine-tuning changed: finetune.md, finetune.png (base, LoRA, reference) and strength.png.

    python scripts/finetune_report.py --base_dir local_repo/WikiArt
    WEIGHTS=tiny python scripts/finetune_report.py --base_dir local_repo/tiny/Emoji

The base and the LoRA both generate from the held-out captions (BASE_DIR/input/test) with the same seeds, and both are
scored against the held-out images. Drift is the same comparison on a data set outside the target, `--drift`: whatever
DATASET takes. Both are runs of the benchmark, with a sweep over PIXART_LORA_SCALE. Weights, models and metrics are set
as for run_inference.py (WEIGHTS, PIXART_MODEL, PIXART_BASE, PIXART_STEPS, PIXART_GUIDANCE, IMAGE_SIZE,
INCEPTION_WEIGHTS, ...). Images are kept in the output folder, so that the same command goes on after a stop; FRESH=1
starts over. Exit status: 0, or 2 where something is missing.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmark.console.interruption import exit_status_of, leave
from benchmark.console.plain_text import one_line
from benchmark.settings.command_line import SettingsError, parse_command
from benchmark.settings.fields import ASSETS, Settings
from scripts.pixart_scripts.common.prepare_inputs import positive_integer

DRIFT_OF_TARGET = {"Robots": "emoji"}
TARGET_METRICS = ("fid", "kid", "match", "clipscore", "fidelity", "prdc", "memorisation")
DRIFT_METRICS = ("fid", "kid", "clipscore", "fidelity")


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


def make_report(arguments: argparse.Namespace) -> float | None:
    """Generate, score and write the page; return how much of the way from the base to the floor the LoRA went.

    Raises:
        OSError, ValueError: something is missing; one line says what.
    """
    begin = time.monotonic()
    strengths = read_strengths(arguments.strengths)

    from benchmark.console.progress import Progress
    from benchmark.data.run_data import Sources
    from benchmark.data.sources import open_dataset
    from benchmark.measure.machine import choose_machine
    from benchmark.report.contact_sheet import draw_contact_sheet
    from finetuning.base import find_lora
    from finetuning.held_out import read_held_out, read_training
    from finetuning.page import (
        BASE,
        CURVE_NAME,
        LORA,
        PAGE_NAME,
        REFERENCE,
        SHEET_NAME,
        Findings,
        check_reports,
        draw_curve,
        write_page,
    )
    from finetuning.strengths import run_domain
    from models.loras.files import find_lora as find_files
    from models.loras.files import lora_digest

    lora = find_lora(arguments.base_dir, arguments.lora)
    settings = read_settings(arguments, lora, strengths)
    output = arguments.output_dir or arguments.base_dir / "finetune_report"
    check_reports(output)
    held_out = read_held_out(arguments.base_dir)
    training = read_training(arguments.base_dir, arguments.training_samples)
    name = arguments.drift or DRIFT_OF_TARGET.get(held_out.name, "robots")
    outside = open_dataset(name, assets=ASSETS, seed=arguments.seed)
    if outside.name == held_out.name:
        raise ValueError(f"--drift {name} is the target itself; name a data set of something else")
    machine, progress = choose_machine(settings.device, settings.dtype), Progress()

    def of_domain(folder: str, dataset: str, count: int, metrics: tuple[str, ...]) -> Settings:
        own = {"output_dir": output / folder, "dataset": dataset, "num_samples": count, "num_references": count}
        return settings.model_copy(update={**own, "metrics": metrics})

    target = run_domain(
        of_domain("target", held_out.name, arguments.num_samples, TARGET_METRICS), Sources(held_out),
        arguments.curve_samples, machine, progress, training,
    )  # fmt: skip
    drift = run_domain(
        of_domain("drift", outside.name, arguments.drift_samples, DRIFT_METRICS), Sources(outside),
        arguments.curve_samples, machine, progress,
    )  # fmt: skip
    (options,) = (model.options for model in settings.selected_models())
    size_bytes = find_files(lora).weights.stat().st_size
    findings = Findings(target.findings, drift.findings, {
        "LoRA": f"{lora_digest(lora)} ({size_bytes / 1e6:.1f} MB)",
        "For the memorisation guard": f"{len(training)} training images of {held_out.name}",
        "Generated with": f"{options.steps} steps, guidance {options.guidance:g}, seed {arguments.seed}",
        "Machine": f"{machine.name}, {machine.dtype}, torch {machine.versions['torch']}",
        "Time of the report": f"{time.monotonic() - begin:.0f} s",
    })  # fmt: skip
    draw_contact_sheet(target.sheet_rows(), [BASE, LORA, REFERENCE], output / SHEET_NAME)
    draw_curve(findings, output / CURVE_NAME)
    write_page(findings, output / PAGE_NAME)
    print((output / PAGE_NAME).read_text(encoding="utf-8").split("\n## Strength")[0])
    return findings.target.gone


def read_strengths(text: str) -> list[float]:
    """Return the LoRA's strengths in rising order, always with 0 and 1. Raises ValueError."""
    try:
        return sorted({0.0, 1.0, *map(float, text.split(","))})
    except ValueError:
        raise ValueError(f"--strengths {text}: expected numbers by commas, such as 0,0.5,1") from None


def read_settings(arguments: argparse.Namespace, lora: Path, strengths: Sequence[float]) -> Settings:
    """Return the settings of both runs: the environment's, and what decides that a report is one.

    One round times all images, since the report is on quality: each strength is loaded once for a domain.

    Raises:
        OSError, ValueError: they cannot be used, or nothing can be said of the quality of random weights.
    """
    given = {
        "models": "pixart", "pixart_lora": lora, "pixart_lora_scale": 1,
        "sweep": f"pixart.lora_scale={','.join(str(strength) for strength in strengths if strength)}",
        "batch_size": arguments.batch_size, "seed": arguments.seed, "mode": "eager", "offload": 0,
        "rounds": 1, "timed_samples": "all", "warmup": 0, "passes": "none",
    }  # fmt: skip
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    settings = parse_command(flags, os.environ).settings
    if len(settings.dtype) > 1:
        raise ValueError(f"DTYPE={','.join(settings.dtype)}: a report takes one dtype")
    if settings.weights == "random":
        raise ValueError("WEIGHTS=random: random weights have no quality that a LoRA could change")

    from finetuning.base import base_options
    from models.pixart import HUB_BASE

    (options,) = (model.options for model in settings.selected_models())
    based = base_options(options, settings.weights)
    if based == options:
        return settings
    # The combined base is a whole pipeline, of which PIXART_BASE would be a part that nothing reads.
    return settings.model_copy(update={"pixart_model": based.model, "pixart_base": HUB_BASE})


def main(given: Sequence[str] | None = None) -> int:
    """Make the report; return the exit status."""
    arguments = read_arguments(given)
    try:
        make_report(arguments)
    except (OSError, ValueError, SettingsError) as error:
        print(f"finetune_report: {one_line(error)}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    leave(exit_status_of(main, "finetune_report", "stopped; the same command goes on from here"))
