"""Which models a run has: those that MODELS names, or all that no SKIP_ or RUN_ variable leaves out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

import models
from models.base import ModelFamily


@dataclasses.dataclass(frozen=True)
class SelectedModel:
    """One model of a run: its family and its options, all defaults filled in."""

    family: ModelFamily
    options: Any

    @property
    def title(self) -> str:
        return self.family.title(self.options)

    @property
    def values(self) -> dict[str, str]:
        """The options as a fingerprint holds them: variable to text."""
        values = dataclasses.asdict(self.options).items()
        return {f"{self.family.key}_{name}".upper(): str(value) for name, value in values}


def select_models(settings: BaseModel, names: Sequence[str]) -> list[SelectedModel]:
    """Return the models of a run in the order of its columns. names: the entries of MODELS, empty for all families.

    Raises:
        ValueError: a name is no model's, or two settings contradict each other.
    """
    if names:
        named = [_model_named(settings, name) for name in names]
        _check_switches(settings, {model.family.key for model in named})
        return named
    return [
        SelectedModel(family, options_of(settings, family))
        for family in models.FAMILIES
        if family.switchable and _is_switched_on(settings, family)
    ]


def options_of(settings: BaseModel, family: ModelFamily, chosen: Mapping[str, object] | None = None) -> Any:
    """Return a family's options as the settings say; `chosen` wins over them."""
    names = [field.name for field in dataclasses.fields(family.options)]
    return family.options(**{name: getattr(settings, f"{family.key}_{name}") for name in names} | dict(chosen or {}))


def _is_switched_on(settings: BaseModel, family: ModelFamily) -> bool:
    skip, run = getattr(settings, f"skip_{family.key}"), getattr(settings, f"run_{family.key}")
    key = family.key.upper()
    if skip is not None and run is not None and skip == run:
        raise ValueError(f"SKIP_{key}={skip:d} and RUN_{key}={run:d} contradict each other: leave one of them out")
    return run is not False and not skip


def _check_switches(settings: BaseModel, named: set[str]) -> None:
    """Raise ValueError where a switch says otherwise than MODELS does."""
    for family in models.FAMILIES:
        if not family.switchable:
            continue
        for switch, wants in (("skip", False), ("run", True)):
            value = getattr(settings, f"{switch}_{family.key}")
            if value is not None and (value == wants) != (family.key in named):
                what = "names" if family.key in named else "does not name"
                variable = f"{switch}_{family.key}".upper()
                raise ValueError(f"MODELS {what} {family.key}, but {variable}={value:d}: drop one of them")


def _model_named(settings: BaseModel, name: str) -> SelectedModel:
    for family in models.FAMILIES:
        chosen = family.selected_by(name)
        if chosen is not None:
            _refuse_others(settings, name, family, chosen)
            return SelectedModel(family, options_of(settings, family, chosen))
    known = ", ".join(family.key for family in models.FAMILIES)
    raise ValueError(f"MODELS: {name!r} is no model; there are {known} (hub:org/name for any diffusers pipeline)")


def _refuse_others(settings: BaseModel, name: str, family: ModelFamily, chosen: Mapping[str, object]) -> None:
    """Raise ValueError where a variable sets what the name of a model in MODELS says otherwise: var-d30."""
    for option, value in chosen.items():
        setting = f"{family.key}_{option}"
        if setting in settings.model_fields_set and getattr(settings, setting) != value:
            variable = f"{setting.upper()}={getattr(settings, setting)}"
            raise ValueError(f"MODELS names {name}, but {variable}: drop one of them")
