"""Checkpoints that a training goes on from exactly: parameters, optimizer and step; all else follows from the step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from files.ledger import Ledger
from files.opening import load_checkpoint as open_checkpoint
from finetuning.notes import tell

KEPT = 2
_NAME = re.compile(r"step-(\d+)")


@dataclass(frozen=True)
class Checkpoint:
    """The state after `step` steps."""

    step: int
    parameters: dict[str, Tensor]
    optimizer: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, ledger: Ledger) -> None:
    """Write `folder/step-000250.pt` so that a kill leaves it whole or not there, and keep the last two.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / f"step-{checkpoint.step:06d}.pt"
    with ledger.write(path) as partial, partial.open("wb") as file:
        content = {"step": checkpoint.step, "parameters": checkpoint.parameters, "optimizer": checkpoint.optimizer}
        try:
            torch.save(content, file)
        except RuntimeError as error:  # a full disk shows as this
            raise OSError(f"{path} cannot be written ({' '.join(str(error).split())})") from error
    for old in [path for path in _found(folder) if ledger.owns(path)][:-KEPT]:
        old.unlink()


def whole_checkpoints(folder: Path, ledger: Ledger) -> list[Path]:
    """Return the checkpoints that are as they were written, the oldest first."""
    return [path for path in _found(folder) if ledger.is_whole(path)]


def load_checkpoint(folder: Path, ledger: Ledger) -> Checkpoint | None:
    """Return the last checkpoint that is as it was written, on the CPU, or None where there is none."""
    for path in reversed(_found(folder)):
        try:
            if not ledger.is_whole(path):
                raise ValueError("it is not as it was written")
            return _checked(open_checkpoint(path), path)
        except (OSError, ValueError) as error:
            tell(f"{path} is damaged ({error}); the checkpoint before it is used")
    return None


def _checked(content: Any, path: Path) -> Checkpoint:
    """Return the checkpoint in a file's content. Raises ValueError."""
    if not isinstance(content, dict) or content.keys() != {"step", "parameters", "optimizer"}:
        raise ValueError("it does not hold step, parameters and optimizer")
    checkpoint = Checkpoint(**content)
    if type(checkpoint.step) is not int or path.stem != f"step-{checkpoint.step:06d}":
        raise ValueError(f"it is of step {checkpoint.step}")
    parameters = checkpoint.parameters
    if not isinstance(parameters, dict) or not all(isinstance(tensor, Tensor) for tensor in parameters.values()):
        raise ValueError("its parameters are not tensors")
    if not isinstance(checkpoint.optimizer, dict) or checkpoint.optimizer.keys() != {"state", "param_groups"}:
        raise ValueError("it holds no optimizer state")
    return checkpoint


def _found(folder: Path) -> list[Path]:
    paths = [path for path in folder.glob("step-*.pt") if _NAME.fullmatch(path.stem)]
    return sorted(paths, key=lambda path: int(path.stem.partition("-")[2]))
