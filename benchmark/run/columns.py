"""The columns of a run: one for each configuration of a model and each value of the axes, with key and title."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import models
from benchmark.measure.machine import Machine
from benchmark.settings.axes import Axis, axes_of, configurations, owner_of, points
from benchmark.settings.column_key import ColumnKey
from benchmark.settings.fields import SelectedModel, Settings
from benchmark.settings.fingerprint import as_text
from benchmark.settings.titles import DTYPE, check_titles, shown_value, titles_of
from models.base import LoraVariant, Mode, TrainingData

SEVERAL_GPUS = "several GPUs"  # in the title of a column with DEVICE_MAP: its times are not those of one


@dataclass(frozen=True)
class ChosenModel:
    """A configuration of a model of the run; with its LoRA, where it has one, beside the same one without it.

    entry: the number of its model in MODELS. point: the options that a sweep varies, with this configuration's values.
    is_default: of the model's configurations, the one that winner lines compare. note: what the footer says of that.
    """

    model: SelectedModel
    lora: LoraVariant | None = None
    plain: SelectedModel | None = None
    entry: int = 0
    point: Mapping[str, Any] = field(default_factory=dict)
    is_default: bool = True
    note: str = ""

    @property
    def title(self) -> str:
        return self.model.title


def choose_models(
    settings: Settings, dataset: str, announce: Callable[[str], None], axes: Sequence[Axis] = ()
) -> list[ChosenModel]:
    """Return the configurations of the run's models in the order of the columns, those with a LoRA after those without.

    A LoRA is named in the settings, or lies where fine-tuning on this data set leaves it, which is announced.
    axes: in the place of those that the settings ask for.

    Raises:
        OSError: a named LoRA is none.
        ValueError: a LoRA's record of its training is damaged, two columns would have one title, or a value of a sweep
            reaches no column.
    """
    chosen: list[ChosenModel] = []
    wanted = list(axes) or axes_of(settings)
    for entry, model in enumerate(settings.selected_models()):
        # Random weights are for speed, which a LoRA leaves as it is: only a named one is looked at.
        folder = settings.output_dir / dataset / model.family.lora_folder
        default = folder if settings.weights != "random" and folder.is_dir() else None
        found = _configurations(model, entry, default, wanted)
        for choice in found:
            if choice.lora is not None and not _named_lora(choice.lora, choice, model):
                variable = _lora_variable(model, choice.lora)
                announce(f"{choice.title}: LoRA found in {folder} ({variable}=none leaves it out)")
                break
        named = dict.fromkeys(choice.title for choice in found)  # a sweep may choose another model
        for title in named:
            chosen += _with_default([choice for choice in found if choice.title == title], model)
    check_titles([choice.title for choice in chosen])
    return chosen


def trained_on(chosen: Sequence[ChosenModel]) -> dict[str, TrainingData]:
    """Return what the models with a LoRA were trained on, as far as it is known, by their titles."""
    found: dict[str, TrainingData] = {}
    for choice in chosen:
        data = None if choice.lora is None else choice.lora.training_data
        if data is None:
            continue
        known = found.get(choice.title, data)
        names = dict.fromkeys((known.dataset, data.dataset))
        found[choice.title] = TrainingData(", ".join(names), known.images | data.images, known.captions | data.captions)
    return found


def _configurations(model: SelectedModel, entry: int, default: Path | None, axes: Sequence[Axis]) -> list[ChosenModel]:
    """Return a model's configurations, each once: those without a LoRA, and then those with one.

    default: the folder where fine-tuning leaves a LoRA, None without one.
    """
    variants = model.family.variants
    if variants is None:
        return [ChosenModel(each, entry=entry, point=point) for each, point in configurations(model, axes)]
    plain: list[ChosenModel] = []
    adapted: list[ChosenModel] = []
    reached: list[dict[str, Any]] = []
    swept: list[dict[str, Any]] = []
    for each, point in configurations(model, axes):
        options, lora = variants(each.options, default)
        # What a LoRA alone is concerned with is the same in all of them.
        same = next((choice for choice in plain if choice.model.options == options), None)
        if same is None:
            own = {name: getattr(options, name) for name in point}
            same = ChosenModel(replace(each, options=options), entry=entry, point=own)
            plain.append(same)
        if lora is not None:
            adapted.append(ChosenModel(replace(each, options=lora.options), lora, same.model, entry, point))
        swept.append(point)
        if lora is not None or options == each.options:
            reached.append(point)
    for name, value in (item for point in swept for item in point.items()):
        if not any(point[name] == value for point in reached):
            raise ValueError(
                f"SWEEP: {model.family.key}.{name}={shown_value(str(value))} reaches no column: {model.title} has no "
                "LoRA there; leave it out, or name a LoRA"
            )
    return plain + adapted


def _with_default(found: Sequence[ChosenModel], model: SelectedModel) -> list[ChosenModel]:
    """Return the configurations of one title, marked which one winner lines compare: that of the run's own options.

    Where a sweep lacks an option's own value, the first one takes its place, and the default's note says so.
    """
    standing: dict[str, Any] = {}
    firsts, owns = [], []
    for name in found[0].point:
        values = [choice.point[name] for choice in found]
        own = getattr(model.options, name)
        standing[name] = own if own in values else values[0]
        if own not in values and any(value != values[0] for value in values):
            firsts.append(_named_value(name, values[0]))
            owns.append(_named_value(name, own))
    compared = f"Winner lines compare {found[0].title} at {', '.join(firsts)}: SWEEP lacks the run's own"
    note = f"{compared} {', '.join(owns)}" if owns else ""
    marked = [replace(choice, is_default=choice.point == standing) for choice in found]
    return [replace(choice, note=note if choice.is_default else "") for choice in marked]


@dataclass(frozen=True)
class Column:
    """One column of the table, before anything is loaded.

    key: what tells it from all other columns; its folder is found by it. settings: those of the run, with this column's
    values of the axes. model: the model with this column's options. name: the model's name, the title without what
    differs between columns. baseline: the title of the column that is the same model without the LoRA; "" without one.
    is_default: of the columns of this model, mode and dtype, the one that winner lines compare with other models.
    note: what the footer says of that. swept: what a sweep varies, for the name of a new folder: "steps 8".
    """

    title: str
    key: ColumnKey
    settings: Settings
    model: SelectedModel
    name: str
    lora: LoraVariant | None = None
    baseline: str = ""
    is_default: bool = True
    note: str = ""
    swept: tuple[str, ...] = ()

    @property
    def mode(self) -> Mode:
        (mode,) = self.settings.mode
        return mode

    @property
    def dtype(self) -> str:
        """The dtype in its key; "" where it is not known, since torch is not imported yet."""
        return self.key.axes.get(DTYPE, "")

    @property
    def loaded_options(self) -> tuple[tuple[str, str], ...] | None:
        """The options that loading depends on, name and value; None where no other column can share this one's load."""
        family = self.model.family
        is_shared = bool(family.call_options) and (self.mode == "eager" or family.shares_compiled)
        # Offload moves the weights with hooks that know their pipeline.
        if not is_shared or self.settings.offload:
            return None
        options = self.model.options
        names = [each.name for each in fields(options) if each.name not in family.call_options]
        return tuple((name, repr(getattr(options, name))) for name in names)

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

    chosen: of `choose_models`, which has the values of the models' options. machine: None before torch is imported;
    columns then have no dtype in their keys where DTYPE is auto. axes: in the place of those that the settings ask for.

    Raises:
        ValueError: two columns would be the same.
    """
    wanted = [axis for axis in list(axes) or axes_of(settings) if owner_of(axis.setting, models.FAMILIES) is None]
    columns: list[Column] = []
    baselines: dict[tuple[int, int], int] = {}
    paired: list[int | None] = []
    for _, group in itertools.groupby(chosen, key=lambda choice: (choice.entry, choice.title)):
        of_model = list(group)
        for at, point in enumerate(points(wanted)):
            for choice in of_model:
                column = _column(choice, _settings_at(settings, choice, point), point, machine)
                dtype = [point["dtype"]] if len(settings.dtype) > 1 and "dtype" in point else []
                swept = (*_described(choice, of_model), *dtype)
                paired.append(None if choice.plain is None else baselines.get((id(choice.plain), at)))
                baselines[id(choice.model), at] = len(columns)
                columns.append(replace(column, swept=swept))
    _refuse_same(columns)
    marks = [SEVERAL_GPUS] if settings.device_map else []
    titles = titles_of([column.name for column in columns], [_key_to_show(column) for column in columns], marks)
    return [
        replace(column, title=title, baseline="" if other is None else titles[other])
        for column, title, other in zip(columns, titles, paired, strict=True)
    ]


def list_notes(columns: Sequence[Column]) -> list[str]:
    """Return what the footer says of the columns that winner lines compare, each line once."""
    return list(dict.fromkeys(column.note for column in columns if column.note))


def _described(choice: ChosenModel, of_model: Sequence[ChosenModel]) -> list[str]:
    """Return the options in which a model's configurations differ, with this one's values: "steps 8"."""
    return [
        _named_value(name, value)
        for name, value in choice.point.items()
        if any(other.point[name] != value for other in of_model)
    ]


def _named_value(name: str, value: object) -> str:
    """Return an option with a value as titles say it: "lora scale 1"."""
    option = name.replace("_", " ")
    return f"{option} {shown_value(str(value))}" if str(value) else f"empty {option}"


def _refuse_same(columns: Sequence[Column]) -> None:
    """Raise ValueError where two values of a sweep are one and the same column."""
    seen = set()
    for column in columns:
        if column.key.digest in seen and column.swept:
            raise ValueError(
                f"SWEEP has two values that are the same column, {column.name} with {', '.join(column.swept)}; "
                "leave one of them out"
            )
        seen.add(column.key.digest)


def _key_to_show(column: Column) -> ColumnKey:
    """Return a column's key with the LoRA as it is called: no one knows it by its digest."""
    if column.lora is None:
        return column.key
    shown = {_lora_variable(column.model, column.lora): str(column.lora.folder)}
    return replace(column.key, options={**column.key.options, **shown})


def _column(choice: ChosenModel, settings: Settings, point: dict[str, Any], machine: Machine | None) -> Column:
    model, lora = choice.model, choice.lora
    axes = {name.upper(): as_text(value) for name, value in point.items()}
    if axes.get(DTYPE) == "auto":
        del axes[DTYPE]
        if machine is not None:
            axes[DTYPE] = machine.dtype
    options = model.values
    if lora is not None:
        options[_lora_variable(model, lora)] = _lora_text(lora)
    key = ColumnKey(model.family.key, options, axes)
    return Column("", key, settings, model, model.title, lora, is_default=choice.is_default, note=choice.note)


def _settings_at(settings: Settings, choice: ChosenModel, point: dict[str, Any]) -> Settings:
    """Return the settings of one column: a list of values becomes the one value of this column."""
    update = {
        name: (value,) if isinstance(getattr(settings, name), tuple) else value for name, value in point.items()
    }  # fmt: skip
    options = {f"{choice.model.family.key}_{name}": value for name, value in choice.point.items()}
    return settings.model_copy(update=update | options)


def _named_lora(lora: LoraVariant, choice: ChosenModel, model: SelectedModel) -> str:
    """Return the LoRA that a configuration was asked for by name, or nothing."""
    return str(choice.point.get(lora.option, getattr(model.options, lora.option)))


def _lora_variable(model: SelectedModel, lora: LoraVariant) -> str:
    return f"{model.family.key}_{lora.option}".upper()


def _lora_text(lora: LoraVariant) -> str:
    return f"LoRA {lora.digest}"
