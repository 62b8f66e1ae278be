"""Which columns of two runs are compared with each other, and which stand in one run alone."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from benchmark.report.results import ModelResult, RunResult


@dataclass(frozen=True)
class ColumnPair:
    """A column of the old run and the one of the new run that it is compared with."""

    old: ModelResult
    new: ModelResult

    @property
    def name(self) -> str:
        """The title of both, or both titles."""
        return self.new.name if self.old.name == self.new.name else f"{self.old.name} -> {self.new.name}"


@dataclass(frozen=True)
class PairedColumns:
    """The pairs in the order of the new run, and the titles of columns that are in one run alone."""

    pairs: tuple[ColumnPair, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]


def pair_columns(old: RunResult, new: RunResult) -> PairedColumns:
    """Return the columns in pairs: by their keys; those that are left by title; then one model's only ones.

    An only one is so in the whole run: of a sweep, what is left of two lists of values are two configurations.
    What differs between two columns that are not paired by their keys is among the differences of the runs.
    """
    left_old, left_new = list(old.models), list(new.models)
    pairs: list[ColumnPair] = []
    for tell in (_key, _title, _model):
        ours = _only_ones(new.models, tell)
        for key, theirs in _only_ones(old.models, tell).items():
            if key in ours and theirs in left_old and ours[key] in left_new:
                pairs.append(ColumnPair(theirs, ours[key]))
                left_old.remove(theirs)
                left_new.remove(ours[key])
    order = [id(model) for model in new.models]
    pairs.sort(key=lambda pair: order.index(id(pair.new)))
    return PairedColumns(tuple(pairs), tuple(model.name for model in left_old), tuple(model.name for model in left_new))


def _only_ones(models: Sequence[ModelResult], tell: Callable[[ModelResult], Hashable]) -> dict[Hashable, ModelResult]:
    """Return the columns of which no other one is told the same; None tells nothing."""
    told = [tell(model) for model in models]
    return {key: model for key, model in zip(told, models, strict=True) if key is not None and told.count(key) == 1}


def _key(model: ModelResult) -> Hashable:
    if not model.family:
        return None
    return model.family, tuple(sorted(model.options.items())), tuple(sorted(model.axes.items()))


def _title(model: ModelResult) -> Hashable:
    return model.family, model.name


def _model(model: ModelResult) -> Hashable:
    return (model.family, model.model, model.mode) if model.model else None
