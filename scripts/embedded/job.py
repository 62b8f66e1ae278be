"""The call of a script that builds or trains a part of assets/: its flags, and what stands ready before it begins."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from scripts.embedded.sprites import RobotSprites
from scripts.embedded.training import Budget, Loss, TrainingRecord, train

ASSETS = Path(__file__).resolve().parents[2] / "assets"


def open_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the flag that every script has: --assets."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=ASSETS, help="the folder of all embedded models and sprites")
    return parser


def open_training_parser(
    description: str | None, *, minutes: float, batch: int, compile_flag: Literal["--compile", "--no-compile", ""] = ""
) -> argparse.ArgumentParser:
    """Return a parser with the flags of every training script. minutes, batch: the defaults."""
    parser = open_parser(description)
    parser.add_argument("--minutes", type=float, default=minutes, help="time to train for [%(default)s]")
    parser.add_argument("--steps", type=int, help="train for exactly so many steps instead")
    parser.add_argument("--batch", type=int, default=batch, help="images a step [%(default)s]")
    parser.add_argument("--seed", type=int, default=0, help="[%(default)s]")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="[%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few steps of 4 images: shows that the script works")
    parser.add_argument("--output", type=Path, help="where the model goes; default: its folder under --assets")
    if compile_flag == "--compile":
        parser.add_argument(compile_flag, action="store_true", help="torch.compile it: for runs of over 3 minutes")
    elif compile_flag == "--no-compile":
        parser.add_argument(compile_flag, action="store_true", help="do not use torch.compile on a GPU")
    return parser


@dataclass(frozen=True)
class Job:
    """A training that stands ready: the device is seeded, the sprites are on it.

    arguments: all flags, for what only one script has. folder: where the model goes.
    """

    arguments: argparse.Namespace
    assets: Path
    folder: Path
    device: str
    batch: int
    budget: Budget
    sprites: RobotSprites

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def is_compiled(self) -> bool:
        """Whether the networks are to be compiled: --compile, or a GPU without --no-compile."""
        given = vars(self.arguments)
        return bool(given["compile"]) if "compile" in given else self.on_cuda and not given.get("no_compile", True)

    @property
    def is_judged(self) -> bool:
        """Whether the attribute network is there, by which a model is judged."""
        return (self.assets / "attributes" / "model.safetensors").is_file()

    def count(self, usual: int, tiny: int) -> int:
        """Return how many images to use for something: `tiny` with --tiny."""
        return tiny if self.arguments.tiny else usual

    def train(
        self, name: str, modules: Sequence[nn.Module], loss_function: Callable[[], Loss], **options: Any
    ) -> TrainingRecord:
        """Train within the job's budget; options: as of `scripts.embedded.training.train`."""
        return train(name, modules, loss_function, self.budget, self.device, **options)

    def write_card(self, title: str, facts: Mapping[str, object], record: TrainingRecord) -> None:
        """Write MODEL_CARD.md beside the model: what it is, its data, recipe, figures, date and licence."""
        made_on = torch.cuda.get_device_name() if torch.cuda.is_available() else "a CPU"
        rows = {
            **facts,
            "Steps": f"{record.steps:,} in {record.seconds:.0f} s; last mean loss {record.loss:.4f}",
            "Made by": f"`{command_line()}`",
            "Made with": f"torch {torch.__version__} on {made_on}",
            "Date": datetime.date.today().isoformat(),
            "Licence": "weights MIT, as the code; the art that they learnt from: see assets/LICENSES.md",
        }
        lines = [f"# {title}", "", "| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "MODEL_CARD.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def start_job(arguments: argparse.Namespace, folder: str, *, seed_offset: int = 0) -> Job:
    """Return the job of these flags, after seeding every generator.

    folder: the model's usual place under --assets. Float32 products may use TF32.
    """
    device: str = arguments.device
    torch.manual_seed(arguments.seed + seed_offset)
    torch.set_float32_matmul_precision("high")
    if device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = True
    batch, budget = arguments.batch, Budget(arguments.minutes, arguments.steps)
    if arguments.tiny:  # on a GPU far enough to capture and replay the step
        batch, budget = min(batch, 4), Budget(arguments.minutes, steps=8 if device.startswith("cuda") else 3)
    assets: Path = arguments.assets
    sprites = RobotSprites(assets, device)
    return Job(arguments, assets, arguments.output or assets / folder, device, batch, budget, sprites)


def command_line() -> str:
    """Return the command that runs now, as a model card shows it."""
    return " ".join(["python -m", "scripts.embedded." + Path(sys.argv[0]).stem, *sys.argv[1:]])
