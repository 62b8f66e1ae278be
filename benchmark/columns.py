"""The columns of a run: one for each model and mode, with its title, its folder and how it is loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.journal import Journal
from benchmark.machine import Machine
from benchmark.reference import Reference
from benchmark.settings import ASSETS, SelectedModel, Settings
from models.base import Adaptation, ImageGenerator, Mode, Runtime


@dataclass(frozen=True)
class Column:
    """One column of the table. `load` builds the generator; nothing is loaded before it is called.

    model: the title without the mode. baseline: the title of the column that this one is the same model as, but for an
    adapter; "" for all others.
    """

    title: str
    mode: Mode
    journal: Journal
    load: Callable[[], ImageGenerator]
    model: str = ""
    baseline: str = ""


@dataclass(frozen=True)
class ChosenModel:
    """A model of the run, with its adapter where it has one, and then the same model without it."""

    model: SelectedModel
    adaptation: Adaptation | None = None
    plain: SelectedModel | None = None

    @property
    def title(self) -> str:
        return self.model.title


def choose_models(settings: Settings, dataset: str, announce: Callable[[str], None]) -> list[ChosenModel]:
    """Return the run's models in the order of the columns, an adapted one after the model that it was made of.

    An adapter is named in the settings, or lies where fine-tuning on this data set leaves it, which is announced.

    Raises:
        OSError: a named adapter is none.
        ValueError: an adapter's record of its training is damaged, or two columns would have one title.
    """
    chosen = []
    for model in settings.selected_models():
        family = model.family
        if family.variants is None:
            chosen.append(ChosenModel(model))
            continue
        # Random weights are for speed, which an adapter leaves as it is: only a named one is looked at.
        folder = settings.output_dir / dataset / family.adapter_folder
        default = folder if settings.weights != "random" and folder.is_dir() else None
        options, adaptation = family.variants(model.options, default)
        plain = replace(model, options=options)
        chosen.append(ChosenModel(plain))
        if adaptation is not None:
            adapted = ChosenModel(replace(model, options=adaptation.options), adaptation, plain)
            chosen.append(adapted)
            if not getattr(model.options, adaptation.option):
                variable = f"{family.key}_{adaptation.option}".upper()
                announce(f"{adapted.title}: adapter found in {folder} ({variable}=none leaves it out)")
    titles = [choice.title for choice in chosen]
    for title in titles:
        if titles.count(title) > 1:
            raise ValueError(f"{title} would be two columns, with an adapter's: rename that model's folder in MODELS")
    return chosen


def column_title(model: SelectedModel, mode: Mode) -> str:
    """Return the column's title; the mode stands in it where that is not the plain one."""
    return model.title if mode == "eager" else f"{model.title} ({mode})"


def column_folder(title: str, settings: Settings, held_out: bool = False) -> Path:
    """Return where a column's images are: "VAR-d16 (compiled)" -> OUTPUT_DIR/VAR-d16-compiled.

    Images of held-out captions alone have a folder of their own, beside those of runs that asked all of them.
    """
    name = title.replace(" (", "-").replace(")", "").replace("/", "-")
    return settings.output_dir / (f"{name}-held-out" if held_out else name)


def clear_reference(settings: Settings, dataset: str) -> None:
    """Delete the prepared references of a data set: a part of what FRESH=1 asks for."""
    shutil.rmtree(settings.output_dir / dataset / "input", ignore_errors=True)


def plan_columns(
    settings: Settings, chosen: Sequence[ChosenModel], machine: Machine, reference: Reference, held_out: str = ""
) -> list[Column]:
    """Return the run's columns in the order of the table; with FRESH=1 what earlier runs left of them is deleted.

    held_out: the digest of what is left out of the reference, "" where nothing is.

    Raises:
        FingerprintError: a folder holds images of other settings; nothing was generated yet.
    """
    return [
        _plan_column(choice, mode, settings, machine, reference, held_out)
        for choice in chosen
        for mode in settings.mode
    ]


def _plan_column(
    choice: ChosenModel, mode: Mode, settings: Settings, machine: Machine, reference: Reference, held_out: str
) -> Column:
    model = choice.model
    title = column_title(model, mode)
    resolved = {
        "device": machine.name, "dtype": machine.dtype, "torch": machine.versions["torch"],
        "dataset_identity": reference.identity,
    }  # fmt: skip
    if held_out:
        resolved["held_out"] = held_out
    if choice.adaptation is not None:  # its content counts, not where it lies
        resolved[f"{model.family.key}_{choice.adaptation.option}"] = f"adapter {choice.adaptation.digest}"
    runtime = Runtime(
        weights=settings.weights, device=machine.device, dtype=machine.dtype, image_size=settings.image_size,
        assets=ASSETS, cache=settings.output_dir / "cache", mode=mode, offload=settings.offload,
        label_names=reference.label_names,
    )  # fmt: skip
    folder = column_folder(title, settings, bool(held_out))
    if settings.fresh:
        Journal.clear(folder)
    journal = Journal(folder, settings.fingerprint(model, mode, resolved))
    baseline = column_title(choice.plain, mode) if choice.plain is not None else ""
    return Column(title, mode, journal, lambda: model.family.load(model.options, runtime), model.title, baseline)
