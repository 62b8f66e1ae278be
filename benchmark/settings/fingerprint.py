"""With what a column's images and times were made: every setting, but for those that change neither."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from pydantic import BaseModel

import models
from benchmark.settings.column_key import FAMILY
from benchmark.settings.selection import SelectedModel

# Settings that change neither images nor times. A setting that is not here is in the fingerprint.
EXCLUDED = frozenset({
    "num_samples", "num_references", "output_dir", "fresh", "offline", "rounds",  # how much, where, and from where
    "passes",  # what is measured beside the timed batches
    "timed_on",  # which other GPUs are timed, too
    "bulk_batch_size",  # of the images in bulk alone, which are compared with it by themselves
    "models", "sweep",  # which columns there are, as all SKIP_ and RUN_
    "metrics", "inception_weights", "fid_protocol", "feature_dtype", "dinov2_model", "clip_model", "reference",
    "quality_margin",  # what counts as equal
})  # fmt: skip


def fingerprint_of(settings: BaseModel, model: SelectedModel, resolved: Mapping[str, str]) -> dict[str, str]:
    """Return what decides this model's images and times, variable to value.

    settings: those of the column. resolved: what `auto` became, and what is known of the data set and the LoRA.
    """
    values = {name.upper(): as_text(value) for name, value in settings if is_recorded(name)}
    return values | {FAMILY: model.family.key} | model.values | {name.upper(): text for name, text in resolved.items()}


def defaults_of(settings: BaseModel, model: SelectedModel) -> dict[str, str]:
    """Return what each setting of a fingerprint is where a record, made before there was this setting, lacks it."""
    fields = type(settings).model_fields
    values = {name.upper(): as_text(field.default) for name, field in fields.items() if is_recorded(name)}
    is_tiny = getattr(settings, "weights", "") == "tiny"
    tiny = model.family.tiny_options if is_tiny else {}
    for option in dataclasses.fields(model.options):
        variable = f"{model.family.key}_{option.name}".upper()
        values[variable] = as_text(tiny.get(option.name, option.default))
    return values


def is_recorded(name: str) -> bool:
    """Return whether a setting that is no option of a model's family is in the fingerprint."""
    if name in EXCLUDED:
        return False
    families = {family.key: family for family in models.FAMILIES}
    prefix, _, rest = name.partition("_")
    if prefix in ("skip", "run") and rest in families:
        return False
    return not any(
        name == f"{key}_{option.name}"
        for key, family in families.items()
        for option in dataclasses.fields(family.options)
    )


def as_text(value: object) -> str:
    """Return a setting's value as it is recorded; a list is its only entry, or all of them with commas."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
