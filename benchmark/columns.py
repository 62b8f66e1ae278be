"""The columns of a run: one for each model and mode, with its title, its folder and how it is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.journal import Journal
from benchmark.machine import Machine
from benchmark.reference import Reference
from benchmark.settings import ASSETS, SelectedModel, Settings
from models.base import ImageGenerator, Mode, Runtime


@dataclass(frozen=True)
class Column:
    """One column of the table. `load` builds the generator; nothing is loaded before it is called."""

    title: str
    mode: Mode
    journal: Journal
    load: Callable[[], ImageGenerator]


def column_title(model: SelectedModel, mode: Mode) -> str:
    """Return the column's title; the mode stands in it where that is not the plain one."""
    return model.title if mode == "eager" else f"{model.title} ({mode})"


def column_folder(title: str, settings: Settings) -> Path:
    """Return where a column's images are: "VAR-d16 (compiled)" -> OUTPUT_DIR/VAR-d16-compiled."""
    return settings.output_dir / title.replace(" (", "-").replace(")", "").replace("/", "-")


def clear_output(settings: Settings, dataset: str) -> None:
    """Delete what earlier runs wrote for this run's columns and data set: what FRESH=1 asks for."""
    shutil.rmtree(settings.output_dir / dataset / "input", ignore_errors=True)
    for model in settings.selected_models():
        for mode in settings.mode:
            Journal.clear(column_folder(column_title(model, mode), settings))


def plan_columns(settings: Settings, machine: Machine, reference: Reference) -> list[Column]:
    """Return the run's columns in the order of the table. Raises FingerprintError before anything is generated."""
    return [
        _plan_column(model, mode, settings, machine, reference)
        for model in settings.selected_models()
        for mode in settings.mode
    ]


def _plan_column(
    model: SelectedModel, mode: Mode, settings: Settings, machine: Machine, reference: Reference
) -> Column:
    title = column_title(model, mode)
    resolved = {
        "device": machine.name, "dtype": machine.dtype, "torch": machine.versions["torch"],
        "dataset_identity": reference.identity,
    }  # fmt: skip
    runtime = Runtime(
        weights=settings.weights, device=machine.device, dtype=machine.dtype, image_size=settings.image_size,
        assets=ASSETS, cache=settings.output_dir / "cache", mode=mode, offload=settings.offload,
        label_names=reference.label_names,
    )  # fmt: skip
    journal = Journal(column_folder(title, settings), settings.fingerprint(model, mode, resolved))
    return Column(title, mode, journal, lambda: model.family.load(model.options, runtime))
