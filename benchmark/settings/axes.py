"""The axes of a run: the settings of which each model gets a column for each value. Adding one is one entry of AXES."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from models.base import ModelFamily


@dataclass(frozen=True)
class Axis:
    """A setting and its values, one column for each. `setting` is a field of Settings: "mode", "sdxl_steps".

    An option of one model family varies in the columns of that family alone.
    """

    setting: str
    values: tuple[Any, ...]

    def concerns(self, family: ModelFamily, families: tuple[ModelFamily, ...]) -> bool:
        """Return whether columns of `family` differ in this setting."""
        owner = owner_of(self.setting, families)
        return owner is None or owner is family


def _modes(settings: Any) -> Axis:
    return Axis("mode", settings.mode)


def _dtype(settings: Any) -> Axis:
    return Axis("dtype", (settings.dtype,))


# Each gives, of a run's settings, an axis: a sweep is one more entry. The first varies slowest.
AXES: list[Callable[[Any], Axis]] = [_modes, _dtype]


def axes_of(settings: BaseModel) -> list[Axis]:
    """Return the axes of a run with these settings."""
    return [axis_of(settings) for axis_of in AXES]


def points(axes: list[Axis]) -> Iterator[dict[str, Any]]:
    """Yield every combination of the axes' values, setting to value; the last axis varies fastest."""
    names = [axis.setting for axis in axes]
    for values in itertools.product(*(axis.values for axis in axes)):
        yield dict(zip(names, values, strict=True))


def owner_of(setting: str, families: tuple[ModelFamily, ...]) -> ModelFamily | None:
    """Return the model family whose option a setting is, or None for a setting of the run."""
    for family in families:
        names = {f"{family.key}_{name}" for name in family.options.__dataclass_fields__}
        if setting in names:
            return family
    return None
