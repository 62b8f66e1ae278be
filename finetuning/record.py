"""What a training tells: lines in metrics.jsonl, TensorBoard events, a loss curve, and progress on stderr."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

SECONDS_BETWEEN_LINES = 5.0
SMOOTHED_LINES = 20


class Record:
    """The files under `folder`: metrics.jsonl, loss.png, tensorboard/. Lines after step `start` are cut off, since a
    training that goes on from there makes them again.
    """

    def __init__(self, folder: Path, start: int, steps: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder, self._steps = folder, steps
        self._path = folder / "metrics.jsonl"
        folder.mkdir(parents=True, exist_ok=True)
        self.lines = [line for line in read_lines(self._path) if line["step"] <= start]
        partial = self._path.with_suffix(".partial")
        partial.write_text("".join(f"{json.dumps(line)}\n" for line in self.lines), encoding="utf-8")
        partial.replace(self._path)
        self._events: Any = SummaryWriter(str(folder / "tensorboard"), purge_step=start + 1)
        self._printed = 0.0
        self._began, self._start = time.monotonic(), start

    def add(self, step: int, loss: float, learning_rate: float, images_per_s: float, peak_bytes: int | None) -> None:
        """Record the mean loss of the steps since the last line."""
        line: dict[str, Any] = {
            "step": step, "loss": loss, "learning_rate": learning_rate, "images_per_s": images_per_s,
            "peak_memory_bytes": peak_bytes,
        }  # fmt: skip
        self.lines.append(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
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

    def add_picture(self, name: str, path: Path, step: int) -> None:
        """Put a PNG among the TensorBoard events."""
        import numpy as np
        from PIL import Image

        with Image.open(path) as image:
            self._events.add_image(name, np.array(image.convert("RGB")), step, dataformats="HWC")

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
        partial = self._folder / "loss.partial"
        figure.savefig(partial, format="png")
        pyplot.close(figure)
        partial.replace(self._folder / "loss.png")

    def close(self) -> None:
        self._events.close()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a metrics.jsonl; one that a kill tore is left out."""
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def peak_memory_bytes(device: str) -> int | None:
    """Return the peak of tensors on a GPU since the training began, or None on a CPU."""
    return torch.cuda.max_memory_allocated(device) if device.startswith("cuda") else None
