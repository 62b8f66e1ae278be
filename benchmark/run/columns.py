"""The columns of a run: one for each model and each value of the axes, with its key and its title."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import models
from benchmark.measure.machine import Machine
from benchmark.settings.axes import Axis, axes_of, owner_of, points
from benchmark.settings.column_key import ColumnKey
from benchmark.settings.fields import SelectedModel, Settings
from benchmark.settings.fingerprint import as_text
from benchmark.settings.titles import DTYPE, check_titles, titles_of
from models.base import LoraVariant, Mode


@dataclass(frozen=True)
class ChosenModel:
    """A model of the run, with its LoRA where it has one, and then the same model without it."""

    model: SelectedModel
    lora: LoraVariant | None = None
    plain: SelectedModel | None = None

    @property
    def title(self) -> str:
        return self.model.title


def choose_models(settings: Settings, dataset: str, announce: Callable[[str], None]) -> list[ChosenModel]:
    """Return the run's models in the order of the columns, an adapted one after the model that it was made of.

    A LoRA is named in the settings, or lies where fine-tuning on this data set leaves it, which is announced.

    Raises:
        OSError: a named LoRA is none.
        ValueError: a LoRA's record of its training is damaged, or two columns would have one title.
    """
    chosen = []
    for model in settings.selected_models():
        family = model.family
        if family.variants is None:
            chosen.append(ChosenModel(model))
            continue
        # Random weights are for speed, which a LoRA leaves as it is: only a named one is looked at.
        folder = settings.output_dir / dataset / family.lora_folder
        default = folder if settings.weights != "random" and folder.is_dir() else None
        options, lora = family.variants(model.options, default)
        plain = replace(model, options=options)
        chosen.append(ChosenModel(plain))
        if lora is not None:
            adapted = ChosenModel(replace(model, options=lora.options), lora, plain)
            chosen.append(adapted)
            if not getattr(model.options, lora.option):
                variable = f"{family.key}_{lora.option}".upper()
                announce(f"{adapted.title}: LoRA found in {folder} ({variable}=none leaves it out)")
    check_titles([choice.title for choice in chosen])
    return chosen


@dataclass(frozen=True)
class Column:
    """One column of the table, before anything is loaded.

    key: what tells it from all other columns; its folder is found by it. settings: those of the run, with this column's
    values of the axes. model: the model with this column's options. name: the model's name, the title without what
    differs between columns. baseline: the title of the column that is the same model without the LoRA; "" without one.
    """

    title: str
    key: ColumnKey
    settings: Settings
    model: SelectedModel
    name: str
    lora: LoraVariant | None = None
    baseline: str = ""

    @property
    def mode(self) -> Mode:
        (mode,) = self.settings.mode
        return mode

    @property
    def resolved(self) -> dict[str, str]:
        """What the fingerprint holds in the place of a setting: of a LoRA its content counts, not where it lies."""
        if self.lora is None:
            return {}
        return {_lora_variable(self.model, self.lora): _lora_text(self.lora)}


def plan_columns(
    settings: Settings, chosen: Sequence[ChosenModel], machine: Machine | None = None, axes: Sequence[Axis] = ()
) -> list[Column]:
    """Return the run's columns in the order of the table.

    machine: None before torch is imported; columns then have no dtype in their keys where DTYPE is auto. axes: in the
    place of those that the settings ask for.

    Raises:
        ValueError: two columns would be the same.
    """
    wanted = list(axes) or axes_of(settings)
    columns: list[Column] = []
    baselines: dict[tuple[Any, ...], int] = {}
    paired: list[int | None] = []
    for choice in chosen:
        concerned = [axis for axis in wanted if axis.concerns(choice.model.family, models.FAMILIES)]
        for point in points(concerned):
            place = tuple(sorted((name, str(value)) for name, value in point.items()))
            column = _column(choice, _settings_at(settings, point), point, machine)
            paired.append(None if choice.plain is None else baselines.get((id(choice.plain), place)))
            baselines[id(choice.model), place] = len(columns)
            columns.append(column)
    titles = titles_of([column.name for column in columns], [column.key for column in columns])
    return [
        replace(column, title=title, baseline="" if other is None else titles[other])
        for column, title, other in zip(columns, titles, paired, strict=True)
    ]


def _column(choice: ChosenModel, settings: Settings, point: dict[str, Any], machine: Machine | None) -> Column:
    model = choice.model
    prefix = f"{model.family.key}_"
    own = {
        name.removeprefix(prefix): value
        for name, value in point.items()
        if owner_of(name, models.FAMILIES) is model.family
    }
    model = replace(model, options=dataclasses.replace(model.options, **own))
    axes = {name.upper(): as_text(value) for name, value in point.items() if owner_of(name, models.FAMILIES) is None}
    if DTYPE in axes and machine is not None:
        axes[DTYPE] = machine.dtype if settings.dtype == "auto" else settings.dtype
    elif axes.get(DTYPE) == "auto":
        del axes[DTYPE]
    options = model.values
    lora = choice.lora
    if lora is not None:
        options[_lora_variable(model, lora)] = _lora_text(lora)
        lora = replace(lora, options=model.options)
    return Column("", ColumnKey(model.family.key, options, axes), settings, model, model.title, lora)


def _settings_at(settings: Settings, point: dict[str, Any]) -> Settings:
    """Return the settings of one column: a list of values becomes the one value of this column."""
    update = {
        name: (value,) if isinstance(getattr(settings, name), tuple) else value for name, value in point.items()
    }  # fmt: skip
    return settings.model_copy(update=update)


def _lora_variable(model: SelectedModel, lora: LoraVariant) -> str:
    return f"{model.family.key}_{lora.option}".upper()


def _lora_text(lora: LoraVariant) -> str:
    return f"LoRA {lora.digest}"
