"""What a run will do, before torch is imported: its data, its columns, and the folders that it writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.data.run_data import Sources, open_sources
from benchmark.measure.machine import Machine
from benchmark.run.columns import ChosenModel, Column, choose_models, plan_columns
from benchmark.run.folders import refuse_strangers
from benchmark.settings.fields import ASSETS, Settings


@dataclass(frozen=True)
class RunPlan:
    """The run of some settings. inputs: the folders that data sets' images are written into, each with its rows."""

    settings: Settings
    sources: Sources
    chosen: tuple[ChosenModel, ...]
    columns: tuple[Column, ...]
    inputs: tuple[tuple[Path, int], ...]


def plan_run(
    settings: Settings, machine: Machine | None, announce: Callable[[str], None], sources: Sources | None = None
) -> RunPlan:
    """Return what a run with these settings will do; nothing is read or written. announce: is told of LoRAs found.

    machine: None before torch is imported, for --check. sources: in the place of those that the settings name.

    Raises:
        OSError, ValueError: a data set, a LoRA or OUTPUT_DIR cannot be used.
    """
    if sources is None:
        sources = open_sources(
            settings.dataset, settings.reference, assets=ASSETS, seed=settings.seed,
            image_column=settings.image_column, caption_column=settings.caption_column,
        )  # fmt: skip
    chosen = choose_models(settings, sources.name, announce)
    columns = plan_columns(settings, chosen, machine)
    inputs = sources.inputs(settings.output_dir, settings.num_samples, settings.references_needed())
    refuse_strangers(settings.output_dir, columns, settings.num_samples, inputs)
    return RunPlan(settings, sources, tuple(chosen), tuple(columns), inputs)
