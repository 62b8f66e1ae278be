"""SWEEP: options of models, each with values of which the model gets a column: "sdxl.steps=4,8; var-d16.cfg=2,4"."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

import models
from benchmark.settings.axes import Axis
from benchmark.settings.near_misses import NearMisses
from benchmark.settings.selection import SelectedModel
from benchmark.settings.wrong_values import describe_wrong
from files.reading import shown
from models.base import ModelFamily

FORM = "write model.option=value,value; model.option=..."


@dataclass(frozen=True)
class _Target:
    """An option of a model, as SWEEP names it. of: the options that the model's name stands for."""

    text: str
    family: ModelFamily
    of: Mapping[str, object]
    option: str

    @property
    def setting(self) -> str:
        return f"{self.family.key}_{self.option}"

    def names(self, model: SelectedModel) -> bool:
        """Return whether a model of the run is meant."""
        return model.family is self.family and all(
            getattr(model.options, name) == value for name, value in self.of.items()
        )


def read_sweep(text: str, settings: BaseModel, selected: Sequence[SelectedModel], named: Sequence[str]) -> list[Axis]:
    """Return the axes that SWEEP asks for, in its order, one for each option of a model.

    settings: those that the values are checked by, each as the setting itself. selected: the models of the run; named:
    the entries of MODELS, in the same order, or empty.

    Raises:
        ValueError: one line with what is wrong.
    """
    axes: list[Axis] = []
    targets: list[_Target] = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        left, sign, values = part.partition("=")
        if not sign:
            raise ValueError(f"SWEEP: {shown(part)} has no values; {FORM}")
        target = _read_target(left.strip(), selected, named)
        for other in targets:
            if other.setting == target.setting and any(other.names(one) and target.names(one) for one in selected):
                both = target.text if other.text == target.text else f"{other.text} and {target.text}"
                raise ValueError(f"SWEEP names the same option twice ({both}); give all of its values in one list")
        targets.append(target)
        axes.append(Axis(target.setting, _read_values(target, values, settings), target.of))
    if text.strip() and not axes:
        raise ValueError(f"SWEEP={shown(text)} has no entries; {FORM}, or leave it out")
    return axes


def _read_target(text: str, selected: Sequence[SelectedModel], named: Sequence[str]) -> _Target:
    name, _, option = (part.strip() for part in text.rpartition("."))
    if not name:
        raise ValueError(f"SWEEP: {shown(text)} names no model; {FORM}, as in sdxl.steps=8,20")
    family, of = _family_named(name)
    option = option.lower()
    options = [each.name for each in dataclasses.fields(family.options)]
    if option not in options:
        raise ValueError(
            f"SWEEP: {name} has no option {option!r}; there are {', '.join(options)}{_meant(family, options, option)}"
        )
    target = _Target(f"{name}.{option}", family, of, option)
    concerned = [model for model in selected if target.names(model)]
    if not concerned:
        there = ", ".join(named or dict.fromkeys(model.family.key for model in selected))
        raise ValueError(f"SWEEP: {name} is no column of this run, which has {there}; leave {target.text} out")
    if option in of:
        raise ValueError(f"SWEEP: {name} says {option} itself; write {family.key}.{option}")
    for entry, model in zip(named, selected, strict=False):
        if target.names(model) and option in (family.selected_by(entry) or {}):
            raise ValueError(f"SWEEP varies {target.text}, but MODELS names {entry}: drop one of them")
    return target


def _family_named(name: str) -> tuple[ModelFamily, Mapping[str, object]]:
    """Return the family that a name stands for, and the options that the name says: "var-d16" -> {"depth": 16}."""
    for family in models.FAMILIES:
        if name == family.key:
            return family, {}
    for family in models.FAMILIES:
        of = family.selected_by(name)
        if of is not None:
            return family, of
    known = [family.key for family in models.FAMILIES]
    near = difflib.get_close_matches(name.lower(), known, n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    raise ValueError(f"SWEEP: {name!r} is no model; there are {', '.join(known)}{meant}")


def _meant(family: ModelFamily, options: Sequence[str], option: str) -> str:
    prefix = f"{family.key}_".upper()
    near_misses = NearMisses([f"{prefix}{name.upper()}" for name in options], [family.key.upper()], [])
    meant = near_misses.meant_by(f"{prefix}{option.upper()}").removeprefix(prefix).lower()
    near = [meant] if meant in options else difflib.get_close_matches(option, options, n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _read_values(target: _Target, text: str, settings: BaseModel) -> tuple[Any, ...]:
    """Return the values of one option, each checked exactly as the setting itself is."""
    field = type(settings).model_fields[target.setting]
    adapter = TypeAdapter[Any](field.rebuild_annotation())
    values: list[Any] = []
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise ValueError(f"SWEEP: {target.text} has no values; name some, or leave it out")
    for part in parts:
        if not part:
            raise ValueError(f"SWEEP: {target.text}={shown(text.strip())} has an empty value; take out the comma")
        try:
            value = adapter.validate_python(part)
        except ValidationError as error:
            meaning = f" ({field.description})" if field.description else ""
            problem = describe_wrong(error.errors()[0])
            raise ValueError(f"SWEEP: {target.text}={shown(part)}: {problem}{meaning}") from None
        if value in values:
            raise ValueError(f"SWEEP: {target.text} has {shown(part)} twice; each value is one column")
        values.append(value)
    return tuple(values)
