"""Kills trainings at random moments (`kill -9`) and holds what each ends with against an undisturbed one.

    python -m scripts.measuring.check_training_kills --repeats 20

A short training of the embedded model, with checkpoints and validation images, runs once undisturbed. Then it runs
again and again, is killed at a random moment, and the same training goes on to its end. The LoRA, validation
images, losses and the record of what was trained on must be the same to the byte, and nothing half written may be left.
Exit status: 0, 1 where anything differs.
"""

from __future__ import annotations

import dataclasses
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmark.console.plain_text import one_line
from benchmark.settings.fields import ASSETS
from files.writing import PREFIX
from finetuning.settings import TrainingSettings
from scripts.measuring.harness import describe_run, end_script, open_parser, write_report
from scripts.measuring.killing import finish, kill_after

# Imported once, in the process that the trainings are forked from: a training then begins at once, where the kills are.
_PRELOADED = ["diffusers", "transformers", "peft", "accelerate", "tensorboard", "matplotlib.pyplot",
              "torch.utils.tensorboard", "finetuning.trainer"]  # fmt: skip
_CAPTIONS = ("a pink robot", "a blue cat", "a tree", "a forest painting", "a round head", "a pink cat")


@dataclasses.dataclass(frozen=True)
class Kill:
    """A training that was killed after `seconds`, when `step` steps were recorded. differences: empty where none."""

    seconds: float
    step: int
    differences: tuple[str, ...]


def check_kills(settings: TrainingSettings, folder: Path, kills: int, seed: int = 0) -> Iterator[Kill]:
    """Train once undisturbed and `kills` times killed, all under `folder`, and yield how each killed one ended.

    Raises:
        RuntimeError: a training fails without being killed.
    """
    whole = _placed(settings, folder / "whole")
    finish(_train, whole, preload=_PRELOADED)
    duration = finish(_train, _placed(settings, folder / "timed"), preload=_PRELOADED)  # without what is imported once
    moments = random.Random(seed)
    done = 0
    while done < kills:
        killed = _placed(settings, folder / f"killed-{done}")
        seconds = moments.uniform(0, duration)
        if not kill_after(seconds, _train, killed, preload=_PRELOADED):  # it was faster than the first
            duration = min(duration, seconds) * 0.9
            killed.output_dir.parent.rename(folder / f"ended-{time.monotonic_ns()}")
            continue
        step = max((line["step"] for line in _lines(killed.output_dir)), default=0)
        finish(_train, killed, preload=_PRELOADED)
        done += 1
        yield Kill(seconds, step, tuple(differences(whole.output_dir, killed.output_dir)))


def _placed(settings: TrainingSettings, folder: Path) -> TrainingSettings:
    return dataclasses.replace(settings, output_dir=folder / "pixart_lora", cache_dir=folder / "encodings")


def _train(settings: TrainingSettings) -> None:
    import torch

    from finetuning.trainer import train_lora

    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = sys.stderr = nowhere
        torch.set_num_threads(1)
        try:
            train_lora(settings)
        except BaseException as error:
            print(f"check_training_kills: {type(error).__name__}: {one_line(str(error))}", file=sys.__stderr__)
            raise SystemExit(1) from error


def differences(whole: Path, other: Path) -> Iterator[str]:
    """Yield what differs between two trainings' folders, and what is half written in the second."""
    from finetuning.folder import LORA_NAMES, TrainingFolder

    for name in LORA_NAMES:
        if not (other / name).is_file() or (other / name).read_bytes() != (whole / name).read_bytes():
            yield name
    one, two = (_contents(folder / "training" / "validation") for folder in (whole, other))
    yield from (f"validation/{name}" for name in sorted(one.keys() | two.keys()) if one.get(name) != two.get(name))
    if [(line["step"], line["loss"]) for line in _lines(whole)] != [(n["step"], n["loss"]) for n in _lines(other)]:
        yield "losses"
    yield from (str(path.relative_to(other.parent)) for path in other.parent.rglob(f"{PREFIX}*"))
    if not TrainingFolder(other).is_finished():
        yield "it is not finished"
    TrainingFolder(other).check_foreign()


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def _lines(output: Path) -> list[dict[str, Any]]:
    from finetuning.record import read_lines

    return read_lines(output / "training" / "metrics.jsonl")


def embedded_settings(folder: Path) -> TrainingSettings:
    """Return settings of a short training of the embedded model, whose base and images are written under `folder`."""
    from PIL import Image, ImageDraw

    from finetuning.combined_base import build_combined_base

    embedded = str(ASSETS / "pixart")
    base = build_combined_base(embedded, embedded, folder / "base", ASSETS / "vae").folder
    train = folder / "Robots" / "input" / "train"
    train.mkdir(parents=True)
    for number, caption in enumerate(_CAPTIONS):
        image = Image.new("RGB", (64, 64), (40 * number, 200 - 30 * number, 90))
        ImageDraw.Draw(image).ellipse((8 + number, 8, 40, 40), fill=(255, 255, 20 * number))
        image.save(train / f"{number:05d}_input.png")
        (train / f"{number:05d}_caption.txt").write_text(f"{caption}\n", encoding="utf-8")
    return TrainingSettings(
        train_dir=train, base=base, output_dir=folder / "pixart_lora", batch_size=2, steps=10, learning_rate=1e-2,
        rank=4, log_every=1, checkpoint_every=2, validate_every=2, validation_prompts=_CAPTIONS[:2], validation_steps=2,
        device="cpu",
    )  # fmt: skip


def main(given: Sequence[str] | None = None) -> int:
    """Kill as often as asked; return the exit status."""
    parser = open_parser(__file__, __doc__, repeats=20, repeated="trainings that are killed")
    parser.add_argument("--seed", type=int, default=0, help="of the moments [%(default)s]")
    options = parser.parse_args(given)
    repeats = min(options.repeats, 2) if options.tiny else options.repeats
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["PYTHONWARNINGS"] = "ignore:resource_tracker"  # of semaphores, which a killed process does not give back
    about, kills = describe_run(__file__), []
    with tempfile.TemporaryDirectory() as temporary:
        settings = embedded_settings(Path(temporary))
        for number, kill in enumerate(check_kills(settings, Path(temporary), repeats, options.seed), start=1):
            kills.append(kill)
            told = ", ".join(kill.differences) or "equal"
            print(f"kill {number} after {kill.seconds:.2f} s, at step {kill.step}: {told}", flush=True)
            found = [dataclasses.asdict(one) for one in kills]
            write_report(options.output, about, {"seed": options.seed, "kills": found})
    equal = sum(not kill.differences for kill in kills)
    print(f"{equal} of {repeats} equal")
    return 0 if equal == repeats else 1


if __name__ == "__main__":
    end_script(__file__, main)
