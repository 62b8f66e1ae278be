"""Checkpoints that a training goes on from exactly: parameters, optimizer and step; all else follows from the step."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

KEPT = 2
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write `folder/step-000250.pt` so that a kill leaves it whole or not there, and keep the last two."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:06d}.pt"
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        torch.save(
            {"step": checkpoint.step, "parameters": checkpoint.parameters, "optimizer": checkpoint.optimizer}, file
        )
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    for old in _found(folder)[:-KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the last checkpoint that is whole, on the CPU, or None where there is none."""
    for path in reversed(_found(folder)):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            return Checkpoint(content["step"], content["parameters"], content["optimizer"])
        except Exception as error:  # torch and pickle report damage with nearly every type
            print(f"{path} is damaged ({type(error).__name__}); the one before is taken", file=sys.stderr)
    return None


def _found(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.stem))
