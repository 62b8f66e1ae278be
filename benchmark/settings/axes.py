"""The axes of a run: the settings of which each model gets a column for each value. Adding one is one entry of AXES."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import models
from benchmark.settings.selection import SelectedModel

if TYPE_CHECKING:
    from models.base import ModelFamily


@dataclass(frozen=True)
class Axis:
    """A setting and its values, one column for each. `setting` is a field of Settings: "mode", "sdxl_steps".

    An option of one model family varies in the columns of that family alone; of these, in those of models that have
    the options `of`: {"depth": 16}.
    """

    setting: str
    values: tuple[Any, ...]
    of: Mapping[str, object] = field(default_factory=dict)

    def concerns(self, family: ModelFamily, families: tuple[ModelFamily, ...]) -> bool:
        """Return whether columns of `family` differ in this setting."""
        owner = owner_of(self.setting, families)
        return owner is None or owner is family

    def varies(self, model: SelectedModel) -> bool:
        """Return whether this is an option of the model's family, and columns of this model differ in it."""
        owner = owner_of(self.setting, models.FAMILIES)
        return owner is model.family and all(getattr(model.options, name) == value for name, value in self.of.items())


def _modes(settings: Any) -> Axis:
    return Axis("mode", settings.mode)


def _dtypes(settings: Any) -> Axis:
    return Axis("dtype", settings.dtype)


# Each gives, of a run's settings, an axis. The first varies slowest; those of SWEEP follow.
AXES: list[Callable[[Any], Axis]] = [_modes, _dtypes]


def axes_of(settings: Any) -> list[Axis]:
    """Return the axes of a run with these settings, which are a `Settings`."""
    return [*(axis_of(settings) for axis_of in AXES), *settings.swept()]


def points(axes: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes' values, setting to value; the last axis varies fastest."""
    names = [axis.setting for axis in axes]
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip(names, values, strict=True))


def configurations(model: SelectedModel, axes: Sequence[Axis]) -> Iterator[tuple[SelectedModel, dict[str, Any]]]:
    """Yield the model with every combination of the options that axes vary, each with these options' values."""
    prefix = f"{model.family.key}_"
    for point in points([axis for axis in axes if axis.varies(model)]):
        values = {setting.removeprefix(prefix): value for setting, value in point.items()}
        yield dataclasses.replace(model, options=dataclasses.replace(model.options, **values)), values


def owner_of(setting: str, families: tuple[ModelFamily, ...]) -> ModelFamily | None:
    """Return the model family whose option a setting is, or None for a setting of the run."""
    for family in families:
        names = {f"{family.key}_{name}" for name in family.options.__dataclass_fields__}
        if setting in names:
            return family
    return None
