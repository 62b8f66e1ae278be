"""What a training tells: lines in metrics.jsonl, TensorBoard events, a loss curve, and progress on stderr."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch

from files.images import read_rgb
from files.reading import read_regular
from files.records import Damaged, seal, unseal
from files.writing import append_line, sync_file, write_atomically, write_text
from finetuning.events import Events
from finetuning.folder import TrainingFolder
from finetuning.notes import tell

SECONDS_BETWEEN_LINES = 5.0
SMOOTHED_LINES = 20


class Record:
    """The files of a training's folder: metrics.jsonl, loss.png, tensorboard/. Lines after step `start` are cut off,
    since a training that goes on from there makes them again.
    """

    def __init__(self, folder: TrainingFolder, start: int, steps: int) -> None:
        self._steps = steps
        self._path, self._curve = folder.path / "metrics.jsonl", folder.path / "loss.png"
        folder.ledger.claim(self._path)
        folder.ledger.claim(self._curve)
        self.lines = [line for line in read_lines(self._path) if line["step"] <= start]
        write_text(self._path, "".join(f"{seal(line)}\n" for line in self.lines))
        self._events = Events(folder.path / "tensorboard", folder.ledger, start)
        self._printed = 0.0
        self._began, self._start = time.monotonic(), start

    def add(self, step: int, loss: float, learning_rate: float, images_per_s: float, peak_bytes: int | None) -> None:
        """Record the mean loss of the steps since the last line."""
        line: dict[str, Any] = {
            "step": step, "loss": loss, "learning_rate": learning_rate, "images_per_s": images_per_s,
            "peak_memory_bytes": peak_bytes,
        }  # fmt: skip
        self.lines.append(line)
        append_line(self._path, seal(line), sync=False)
        for name in ("loss", "learning_rate", "images_per_s"):
            self._events.add_scalar(f"training/{name}", line[name], step)
        now = time.monotonic()
        if now - self._printed >= SECONDS_BETWEEN_LINES or step == self._steps:
            self._printed = now
            left_s = (now - self._began) / max(1, step - self._start) * (self._steps - step)
            memory = "" if peak_bytes is None else f", {peak_bytes / 1e9:.1f} GB"
            print(
                f"step {step}/{self._steps}: loss {loss:.4f}, {images_per_s:.1f} images/s{memory}, {left_s:.0f} s left",
                file=sys.stderr, flush=True,
            )  # fmt: skip

    def add_image(self, name: str, path: Path, step: int) -> None:
        """Put a PNG among the TensorBoard events."""
        import numpy as np

        self._events.add_image(name, np.array(read_rgb(path)), step)

    def sync(self) -> None:
        """Wait until the lines are on the disk."""
        sync_file(self._path)

    def draw_loss(self) -> None:
        """Write loss.png: each line's loss, and their running mean."""
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot

        steps, losses = [line["step"] for line in self.lines], [line["loss"] for line in self.lines]
        window = min(SMOOTHED_LINES, len(losses))
        smooth = [sum(losses[max(0, i - window + 1) : i + 1]) / min(i + 1, window) for i in range(len(losses))]
        figure, axes = pyplot.subplots(figsize=(8, 4.5), dpi=110, layout="constrained")
        axes.plot(steps, losses, color="#9fb8d4", linewidth=1, label="loss")
        axes.plot(steps, smooth, color="#1f4e79", linewidth=2, label=f"mean of {window} lines")
        axes.set(xlabel="step", ylabel="loss", title="LoRA training")
        axes.grid(alpha=0.3)
        axes.legend()
        with write_atomically(self._curve) as partial:
            figure.savefig(partial, format="png")
        pyplot.close(figure)

    def close(self) -> None:
        self._events.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the lines of a metrics.jsonl; those that are damaged are left out, and told on stderr.

    Raises:
        OSError: the file cannot be read.
    """
    lines, damaged = [], []
    for number, text in enumerate(read_regular(path).splitlines() if path.is_file() else [], 1):
        try:
            lines.append(_checked(unseal(text)))
        except Damaged as error:
            damaged.append(f"line {number}: {error}")
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        tell(f"{path} is damaged ({damaged[0]}{more}); these lines are left out")
    return lines


def _checked(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line of metrics.jsonl. Raises Damaged where it is none."""
    step, peak = line.get("step"), line.get("peak_memory_bytes")
    numbers = [line.get(name) for name in ("loss", "learning_rate", "images_per_s")]
    if (
        line.keys() != {"step", "loss", "learning_rate", "images_per_s", "peak_memory_bytes"}
        or type(step) is not int
        or step < 1
        or not (peak is None or type(peak) is int)
        or not all(type(number) in (int, float) and math.isfinite(number) for number in numbers if number is not None)
        or None in numbers
    ):
        raise Damaged("it is no line of a training")
    return line


def peak_memory_bytes(device: str) -> int | None:
    """Return the peak of tensors on a GPU since the training began, or None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None
